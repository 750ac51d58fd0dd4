"""INT8 for TensorRT: where Q/DQ stand, of what type they are, and what the preflight and TensorRT itself say."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the graphs are ONNX")
pytest.importorskip("onnxruntime", reason="its quantiser makes the graphs")

from onnx import TensorProto, numpy_helper, parser  # noqa: E402

from tests.export.ahead_of_time import build_ahead_of_time  # noqa: E402
from vidprism_edge.bundle import Bundle  # noqa: E402
from vidprism_edge.export import jetson as module  # noqa: E402
from vidprism_edge.export.jetson import JetsonPlan, add_jetson_graphs  # noqa: E402
from vidprism_edge.export.precision import PrecisionPlan  # noqa: E402
from vidprism_edge.export.preflight import preflight  # noqa: E402
from vidprism_edge.export.quantised import jetson_recipe, to_int8  # noqa: E402
from vidprism_edge.export.targets.jetson import find_limits  # noqa: E402
from vidprism_edge.export.typed import FP16_TINY, GUARDED, element_types, read_constants  # noqa: E402
from vidprism_edge.export.verification import verify_bundle  # noqa: E402

LIMITS = find_limits("jetson")


@pytest.fixture(scope="module")
def graphs(tiny_bundle):
    """The graphs of the tiny network in INT8, calibrated on their own golden inputs."""
    bundle, made = Bundle.open(tiny_bundle), {}
    for name in LIMITS.int8:
        model = onnx.load(bundle.graph_file(name))
        made[name] = model, to_int8(model, [inputs for _, inputs, _ in bundle.golden(name)][:4])
    return made


def test_every_weighted_product_is_quantised_and_no_other_node(graphs):
    for name, (reference, model) in graphs.items():
        weighted = [n.name for n in reference.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")
                    and n.name not in jetson_recipe(reference).keep]  # fmt: skip
        producers = {output: node for node in model.graph.node for output in node.output}
        quantised = [
            node.name
            for node in model.graph.node
            if any(i in producers and producers[i].op_type == "DequantizeLinear" for i in node.input)
        ]
        assert sorted(quantised) == sorted(weighted), name
        for node in model.graph.node:
            if node.name in weighted:
                assert [producers[i].op_type for i in node.input[:2]] == ["DequantizeLinear"] * 2
            if node.op_type in GUARDED:
                assert element_types(model)[node.input[0]] == TensorProto.FLOAT


def test_an_attention_stays_in_fp16(graphs):
    reference, model = graphs["hybrid_attend"]
    kept = set(jetson_recipe(reference).keep)
    assert kept
    producers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.name in kept:
            assert element_types(model)[node.input[0]] == TensorProto.FLOAT16
            assert all(producers[i].op_type != "DequantizeLinear" for i in node.input if i in producers)


def test_weights_are_symmetric_per_channel_and_zero_points_zero(graphs):
    for _, model in graphs.values():
        constants, types = read_constants(model), element_types(model)
        for node in model.graph.node:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                assert not constants[node.input[2]].any()
                assert constants[node.input[2]].dtype == np.int8
                assert types[node.input[1]] == TensorProto.FLOAT16
            if node.op_type == "DequantizeLinear" and node.input[0] in constants:
                weights, scale = constants[node.input[0]], constants[node.input[1]]
                assert weights.dtype == np.int8
                assert scale.size == weights.shape[next(a.i for a in node.attribute if a.name == "axis")]
        # biases stay in floating point: TensorRT takes no INT32 behind DequantizeLinear
        behind = {n.input[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
        assert {types[name] for name in behind} == {TensorProto.INT8}


def test_the_preflight_passes_them_and_tensorrt_builds_them(graphs, tmp_path):
    for name, (_, model) in graphs.items():
        assert not preflight(name, model, LIMITS)
        onnx.save(model, tmp_path / f"{name}.onnx")
        assert build_ahead_of_time(tmp_path / f"{name}.onnx") > 10_000


def test_what_our_preflight_refuses_tensorrt_refuses_too(tmp_path):
    """A zero point that is not zero: the rule is TensorRT's, not ours."""
    model = parser.parse_model("""<ir_version: 10, opset_import: ["" : 20]>
        g (float[4, 4] x) => (float[4, 4] z) <float s = {0.1}, int8 p = {3}> {
            q = QuantizeLinear(x, s, p) z = DequantizeLinear(q, s, p)
        }""")
    assert any("zero point is not zero" in f.reason for f in preflight("g", model, LIMITS))
    onnx.save(model, tmp_path / "g.onnx")
    with pytest.raises(pytest.fail.Exception, match=r"(?i)zero"):
        build_ahead_of_time(tmp_path / "g.onnx")


def test_a_scale_that_fp16_cannot_hold_is_raised_with_its_integers():
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((8, 6)).astype(np.float32)
    weights[:, 2] *= 1e-3  # its scale would be about 2e-5
    model = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[1, 8] x) => (float[1, 6] z) { z = MatMul(x, w) }'
    )
    model.graph.node[0].name = "product"
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    samples = [{"x": rng.standard_normal((1, 8)).astype(np.float32)} for _ in range(4)]
    made = to_int8(onnx.shape_inference.infer_shapes(model), samples)
    constants = read_constants(made)
    (node,) = [n for n in made.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants]
    q, scale = (constants[name].astype(np.float64) for name in node.input[:2])
    assert scale.min() >= FP16_TINY * 0.999
    assert np.abs(q * scale - weights).max(axis=0)[2] <= FP16_TINY
    assert np.abs(q[:, 2]).max() < 127


@pytest.mark.parametrize(("precision", "spatial"), [("int8", ["int8"]), ("auto", ["fp16", "int8"])])
def test_a_bundle_in_int8_is_proved_as_it_is_written(tiny_bundle, tmp_path, monkeypatch, precision, spatial):
    root = tmp_path / "x.vpbundle"
    shutil.copytree(tiny_bundle, root)
    bundle = Bundle.open(root)
    samples = {name: [inputs for _, inputs, _ in bundle.golden(name)][:4] for name in bundle.graphs}

    def collect(folder, plan, progress, tell):
        (folder / "calibration").mkdir()
        (folder / module.SAMPLES_FILE).write_text("{}")
        return samples

    monkeypatch.setattr(module, "collect", collect)
    plan = JetsonPlan("jetson", PrecisionPlan(precision, data=tmp_path))
    add_jetson_graphs(root, bundle.manifest, plan, lambda *_: None).write(root)
    made = Bundle.open(root)
    listed = [(g.name, g.precision) for g in made.manifest.graphs if g.target == "jetson"]
    assert [p for n, p in listed if n == "spatial"] == spatial
    assert {p for n, p in listed if n not in LIMITS.int8} == {"fp16"}
    # the graph that runs where nothing was measured is the INT8 one
    assert made.graphs_for("jetson")["spatial"].precision == "int8"
    report = verify_bundle(made)
    assert report.passed
    assert {o.precision for o in report.outputs} == {"fp32", "fp16", "int8"}

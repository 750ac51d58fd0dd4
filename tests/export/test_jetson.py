"""A bundle for a Jetson: proved on ONNX Runtime as it is written, and built by TensorRT without a GPU."""

from __future__ import annotations

import shutil

import msgspec
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the graphs are ONNX")

from tests.export.ahead_of_time import build_ahead_of_time  # noqa: E402
from vidprism_edge.bundle import Bundle, hash_file  # noqa: E402
from vidprism_edge.errors import EngineError, UsageError  # noqa: E402
from vidprism_edge.export.jetson import JetsonPlan, add_jetson_graphs, find_boards  # noqa: E402
from vidprism_edge.export.precision import PrecisionPlan  # noqa: E402
from vidprism_edge.export.verification import verify_bundle  # noqa: E402
from vidprism_edge.spec import COMPONENTS  # noqa: E402


def jetson_graphs(bundle):
    return [graph for graph in bundle.manifest.graphs if graph.target == "jetson"]


def test_the_bundle_holds_typed_graphs_beside_the_reference_and_says_that_engines_are_deferred(jetson_bundle):
    bundle = Bundle.open(jetson_bundle)
    assert bundle.manifest.engines == "deferred"
    assert [g.name for g in jetson_graphs(bundle)] == list(COMPONENTS)
    assert {g.precision for g in jetson_graphs(bundle)} == {"fp16"}
    assert bundle.graphs_for("jetson").keys() == bundle.graphs.keys()
    for name, graph in bundle.graphs_for("jetson", "fp16").items():
        reference = bundle.graphs[name]
        assert (graph.inputs, graph.outputs) == (reference.inputs, reference.outputs)
        assert graph.file == f"graphs/jetson/{name}.fp16.onnx"
    bundle.check()


def test_verify_replays_the_typed_graphs_within_the_tolerance_of_their_precision(jetson_bundle):
    report = verify_bundle(Bundle.open(jetson_bundle))
    assert report.passed
    typed = [o for o in report.outputs if o.target == "jetson"]
    assert {o.graph for o in typed} == set(COMPONENTS)
    assert report.tolerances["fp16"].cosine == 0.999
    # they are not the fp32 graphs once more: their errors are those of FP16
    assert max(o.max_error for o in typed) > 100 * max(
        o.max_error for o in report.outputs if o.target == "onnx"
    )


def test_verify_catches_a_typed_graph_with_a_changed_weight(jetson_bundle, tmp_path):
    changed = tmp_path / "x"
    shutil.copytree(jetson_bundle, changed)
    bundle = Bundle.open(changed)
    head = bundle.graphs_for("jetson")["head"]
    model = onnx.load(changed / head.file)
    weights = next(t for t in model.graph.initializer if len(t.dims) == 2)
    values = onnx.numpy_helper.to_array(weights).copy()
    values[0, 0] += np.float16(1.0)
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    onnx.save(model, changed / head.file)
    manifest = bundle.manifest
    graphs = [
        msgspec.structs.replace(g, sha256=hash_file(changed / g.file)) if g.file == head.file else g
        for g in manifest.graphs
    ]
    msgspec.structs.replace(manifest, graphs=tuple(graphs)).write(changed)
    report = verify_bundle(Bundle.open(changed))
    assert {(o.graph, o.precision) for o in report.outputs if not o.passed} == {("head", "fp16")}


def test_a_graph_that_the_preflight_refuses_leaves_no_bundle(tiny_bundle, tmp_path, monkeypatch):
    from vidprism_edge.export import jetson

    copy = tmp_path / "x"
    shutil.copytree(tiny_bundle, copy)
    real = jetson.to_fp16

    def newer(model):
        typed = real(model)
        typed.opset_import[0].version = 21
        return typed

    monkeypatch.setattr(jetson, "to_fp16", newer)
    with pytest.raises(
        EngineError, match=r"graph analyzer cannot be built on the target: opset: opset 21 is newer"
    ):
        add_jetson_graphs(copy, Bundle.open(copy).manifest, JetsonPlan("jetson"), lambda *_: None)


@pytest.mark.parametrize(
    ("plan", "opset", "error", "says"),
    [
        (JetsonPlan("jetson", PrecisionPlan("fp8")), 20, UsageError, "--precision is fp8"),
        (JetsonPlan("jetson", PrecisionPlan("int8")), 20, UsageError, "--precision int8 needs --calib-data"),
        (JetsonPlan("jetson", jetpack="6.0"), 20, EngineError, "JetPack 6.0 is not supported"),
        (JetsonPlan("jetson"), 21, EngineError, "give --opset 20"),
    ],
)
def test_what_cannot_be_exported_is_said_before_anything_is_made(plan, opset, error, says):
    with pytest.raises(error, match=says):
        plan.check(opset)


def test_one_jetson_a_bundle():
    assert find_boards(("onnx", "jetson-thor")) == ["jetson-thor"]
    with pytest.raises(UsageError, match="jetson-thor and jetson-agx-orin"):
        find_boards(("jetson-thor", "jetson-agx-orin"))


@pytest.mark.parametrize("name", COMPONENTS)
def test_tensorrt_builds_every_graph_without_a_gpu(jetson_bundle, name):
    bundle = Bundle.open(jetson_bundle)
    for graph in jetson_graphs(bundle):
        if graph.name == name:
            assert build_ahead_of_time(bundle.graph_file(graph)) > 10_000


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_tensorrt_builds_the_preset_clip_b32_without_a_gpu(cli, tmp_path, real_clip):
    """In FP16 and in INT8; nano's graphs are built by the test of the command."""
    command = "export --target jetson --preset clip-b32 --random-weights --precision auto --calib-samples 8"
    done = cli(*command.split(), "--calib-data", real_clip, "--output", tmp_path / "x.vpbundle", timeout=1700)
    assert done.returncode == 0, done.stderr
    bundle = Bundle.open(tmp_path / "x.vpbundle")
    graphs = jetson_graphs(bundle)
    assert {(g.name, g.precision) for g in graphs} == {(name, "fp16") for name in COMPONENTS} | {
        ("spatial", "int8"), ("hybrid_attend", "int8")
    }  # fmt: skip
    for graph in graphs:
        assert build_ahead_of_time(bundle.graph_file(graph)) > 10_000

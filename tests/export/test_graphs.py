"""Graphs: what the bundle promises of them, and multiply-accumulates counted against numbers known by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest

pytest.importorskip("torch", reason="exporting needs torch")
onnx = pytest.importorskip("onnx", reason="exporting needs onnx")

import torch  # noqa: E402
from onnx import TensorProto, helper, parser, shape_inference  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from vidprism_edge.bundle import Bundle, hash_file  # noqa: E402
from vidprism_edge.errors import VidPrismError  # noqa: E402
from vidprism_edge.export import graphs as module  # noqa: E402
from vidprism_edge.export.graphs import check_graph, count_macs, describe_graphs  # noqa: E402
from vidprism_edge.spec import COMPONENTS  # noqa: E402

#: Operators that multiply and accumulate and that nobody counts: none may appear.
UNCOUNTED = {
    *("Attention", "ConvTranspose", "ConvInteger", "DeformConv", "Einsum", "GRU", "LSTM"),
    *("MatMulInteger", "MultiHeadAttention", "QLinearConv", "QLinearMatMul", "RNN"),
}


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return Bundle.open(tiny_bundle)


@pytest.fixture(scope="module")
def models(bundle):
    return {name: onnx.load(bundle.graph_file(name)) for name in COMPONENTS}


@pytest.fixture(scope="module")
def described(tiny_net):
    return {graph.name: graph for graph in describe_graphs(tiny_net)}


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_graph_is_static_native_and_without_control_flow(models, name):
    model = models[name]
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 10
    assert {o.domain: o.version for o in model.opset_import}[""] in range(18, 21)
    assert {o.domain for o in model.opset_import} == {""}, "no operators of somebody's own"
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"If", "Loop", "Scan", "NonZero"}
    assert not operators & UNCOUNTED
    assert not len(model.functions)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        dims = value.type.tensor_type.shape.dim
        assert all(d.HasField("dim_value") for d in dims), f"{value.name} is dynamic"
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_value == 1
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT


@pytest.mark.parametrize("name", ["spatial", "temporal", "hybrid_encode", "hybrid_attend", "fusion"])
def test_layer_normalisation_is_native(models, name):
    """Decomposed, it overflows in half precision."""
    operators = [node.op_type for node in models[name].graph.node]
    assert "LayerNormalization" in operators
    assert "ReduceMean" not in operators or name in ("spatial", "temporal")
    assert "Sqrt" not in operators
    assert "Pow" not in operators


def test_the_temporal_state_is_named(models, tiny_net):
    count = len(tiny_net.temporal.state_shapes)
    graph = models["temporal"].graph
    assert [i.name for i in graph.input] == ["frame", *(f"state_{i}" for i in range(count))]
    assert [o.name for o in graph.output] == [
        "token",
        "motion_map",
        *(f"next_state_{i}" for i in range(count)),
    ]
    shapes = {v.name: module.shape_of(v) for v in (*graph.input, *graph.output)}
    for i in range(count):
        assert shapes[f"state_{i}"] == shapes[f"next_state_{i}"]


@pytest.mark.parametrize("name", COMPONENTS)
def test_the_manifest_says_what_is_in_the_file(bundle, models, name):
    info, model = bundle.graphs[name], models[name]
    assert [(i.name, i.shape) for i in info.inputs] == [
        (v.name, module.shape_of(v)) for v in model.graph.input
    ]
    assert [(o.name, o.shape) for o in info.outputs] == [
        (v.name, module.shape_of(v)) for v in model.graph.output
    ]
    assert info.macs == count_macs(model)
    assert info.sha256 == hash_file(bundle.root / info.file)
    assert (info.precision, info.file) == ("fp32", f"graphs/onnx/{name}.onnx")


@pytest.mark.parametrize("name", COMPONENTS)
def test_macs_equal_those_that_torch_counts(bundle, described, name):
    """An independent count: torch's own counter of the module's operations, at two operations each."""
    graph = described[name]
    network = copy.deepcopy(graph.module).requires_grad_(False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*(torch.zeros(i.shape) for i in graph.inputs))
    assert bundle.macs[name] == pytest.approx(counter.get_total_flops() / 2, rel=0.02)


@pytest.mark.parametrize(
    ("text", "macs"),
    [
        # 4x4 output of 8 channels, each from 3 channels of 3x3
        ("g (float[1,3,6,6] x) => (float[1,8,4,4] y) <float[8,3,3,3] w> {y = Conv(x, w)}", 8 * 16 * 27),
        # strided and padded: 3x3 outputs
        (
            "g (float[1,3,6,6] x) => (float[1,8,3,3] y) <float[8,3,3,3] w> "
            "{y = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w)}",
            8 * 9 * 27,
        ),
        # depthwise: every channel from its own alone
        (
            "g (float[1,8,6,6] x) => (float[1,8,4,4] y) <float[8,1,3,3] w> {y = Conv<group=8>(x, w)}",
            8 * 16 * 9,
        ),
        # three dimensions
        ("g (float[1,2,3,5,5] x) => (float[1,4,1,3,3] y) <float[4,2,3,3,3] w> {y = Conv(x, w)}", 4 * 9 * 54),
        ("g (float[1,5,7] x) => (float[1,5,2] y) <float[7,2] w> {y = MatMul(x, w)}", 5 * 7 * 2),
        ("g (float[1,4,5,7] x, float[1,4,7,5] z) => (float[1,4,5,5] y) {y = MatMul(x, z)}", 4 * 5 * 5 * 7),
        ("g (float[1,7] x) => (float[1,2] y) <float[2,7] w, float[2] b> {y = Gemm<transB=1>(x, w, b)}", 14),
        ("g (float[7,1] x) => (float[1,2] y) <float[7,2] w> {y = Gemm<transA=1>(x, w)}", 14),
        ("g (float[1,7] x) => (float[1,7] y) {y = Relu(x)}", 0),
    ],
)
def test_macs_of_graphs_counted_by_hand(text, macs):
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {text}')
    assert count_macs(shape_inference.infer_shapes(model, strict_mode=True)) == macs


def broken(model, change):
    model = copy.deepcopy(model)
    change(model)
    return model


def add_nonzero(model):
    model.graph.node.append(helper.make_node("NonZero", [model.graph.output[0].name], ["where"]))


def other_shape(model):
    model.graph.input[0].type.tensor_type.shape.dim[-1].dim_value += 1


def other_output(model):
    name = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["renamed" if o == name else o for o in node.output]
    model.graph.output[0].name = "renamed"


def dynamic(model):
    dim = model.graph.input[0].type.tensor_type.shape.dim[0]
    dim.Clear()
    dim.dim_param = "batch"


def other_opset(model):
    model.opset_import[0].version = 21


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (add_nonzero, "has NonZero"),
        (other_output, "gives"),
        (other_opset, "opset 21"),
        (dynamic, "dynamic shape"),
        (other_shape, "takes"),
    ],
)
def test_the_postconditions_are_checked(models, described, monkeypatch, change, says):
    monkeypatch.setattr(onnx.checker, "check_model", lambda *_, **__: None)
    check_graph(described["head"], models["head"])
    with pytest.raises(VidPrismError, match=says):
        check_graph(described["head"], broken(models["head"], change))


def test_the_torch_reference_runs_by_name(described):
    outputs = described["head"].run({"vector": np.zeros((1, 32), np.float32)})
    assert outputs["logits"].shape == (1, 3)

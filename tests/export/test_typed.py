"""Mixed precision: what must be FP32 is FP32, what FP16 is for is FP16, and the same twice."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the graphs are ONNX")
pytest.importorskip("onnxruntime", reason="its converter makes the graphs")

from onnx import TensorProto, numpy_helper, parser  # noqa: E402

from vidprism_edge.bundle import Bundle  # noqa: E402
from vidprism_edge.errors import VidPrismError  # noqa: E402
from vidprism_edge.export.typed import (  # noqa: E402
    GUARDED,
    PRODUCTS,
    check_typed,
    element_types,
    find_scalars_outside,
    to_fp16,
)

TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[1, 8] x, float[1, 8] y) => (float[1, 8] z)
<float small = {1e-7}>
{
    m = MatMul(x, w)
    n = LayerNormalization(m, scale)
    s = Softmax(n)
    a = Add(s, small)
    p = MatMul(a, w)
    z = Add(p, y)
}
"""


def make_model():
    model = parser.parse_model(TEXT)
    weights = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    for name, value in {"w": weights, "scale": np.ones(8, np.float32)}.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
    return onnx.shape_inference.infer_shapes(model)


def find(model, op):
    return [node for node in model.graph.node if node.op_type == op]


def test_norm_and_softmax_stay_fp32_and_products_become_fp16():
    model = to_fp16(make_model())
    types = element_types(model)
    for op in ("LayerNormalization", "Softmax"):
        assert [types[name] for node in find(model, op) for name in (*node.input, *node.output)] == [
            TensorProto.FLOAT
        ] * (3 if op == "LayerNormalization" else 2)
    for node in find(model, "MatMul"):
        assert {types[name] for name in (*node.input, *node.output)} == {TensorProto.FLOAT16}
    assert [types[v.name] for v in (*model.graph.input, *model.graph.output)] == [TensorProto.FLOAT] * 3


def test_an_epsilon_that_fp16_cannot_hold_keeps_its_node_fp32():
    model = make_model()
    assert find_scalars_outside(model) == ["n3"]
    typed = to_fp16(model)
    (add,) = (node for node in find(typed, "Add") if "small" in node.input)
    assert element_types(typed)["small"] == TensorProto.FLOAT
    assert numpy_helper.to_array(next(t for t in typed.graph.initializer if t.name == "small")) == np.float32(
        1e-7
    )
    assert element_types(typed)[add.output[0]] == TensorProto.FLOAT


def test_no_bits_are_lost_between_two_guarded_nodes():
    """LayerNormalization, softmax and the guarded sum follow each other: no cast stands between them."""
    model = to_fp16(make_model())
    producers = {output: node for node in model.graph.node for output in node.output}
    (softmax,) = find(model, "Softmax")
    assert producers[softmax.input[0]].op_type == "LayerNormalization"
    # one cast per crossing: x, y in; m → FP32; a → FP16; z → FP32
    assert len(find(model, "Cast")) == 5


def test_every_graph_of_a_bundle_is_typed_and_the_same_twice(tiny_bundle):
    bundle = Bundle.open(tiny_bundle)
    for name in bundle.graphs:
        model = onnx.load(bundle.graph_file(name))
        first, again = to_fp16(model), to_fp16(model)
        assert first.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)
        check_typed(first)
        types = element_types(first)
        guarded = [n for n in first.graph.node if n.op_type in GUARDED]
        assert all(types[n.input[0]] == types[n.output[0]] == TensorProto.FLOAT for n in guarded), name
        assert any(n.op_type in PRODUCTS for n in first.graph.node)
        assert [(v.name, v.type) for v in first.graph.input] == [(v.name, v.type) for v in model.graph.input]
        # the converter leaves the model that it was given as it was
        assert model.SerializeToString() == onnx.load(bundle.graph_file(name)).SerializeToString()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("g (float[1, 4] x) => (float[1, 4] z) { h = Cast<to=10>(x) s = Softmax(h) z = Cast<to=1>(s) }", "FP16"),
        ("g (float[4, 4] x) => (float[4, 4] z) { z = MatMul(x, x) }", "FP32"),
        ("g (float16[4, 4] x) => (float16[4, 4] z) { z = MatMul(x, x) }", "x is FLOAT16"),
    ],
)  # fmt: skip
def test_a_graph_that_is_not_typed_so_is_refused(text, says):
    model = parser.parse_model('<ir_version: 10, opset_import: ["" : 20]> ' + text)
    with pytest.raises(VidPrismError, match=says):
        check_typed(onnx.shape_inference.infer_shapes(model))

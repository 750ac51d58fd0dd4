"""What TensorRT would refuse is refused here first, with the reason; what it takes passes."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the graphs are ONNX")

from onnx import numpy_helper, parser  # noqa: E402

from vidprism_edge.errors import EngineError  # noqa: E402
from vidprism_edge.export.preflight import check_preflight, preflight  # noqa: E402
from vidprism_edge.export.targets.jetson import find_limits  # noqa: E402

LIMITS = find_limits("jetson")
DLA = find_limits("jetson-agx-orin", "6.2")


def model_of(text, opset=20, **initializers):
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}, "other" : 1]> g {text}')
    for name, value in initializers.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
    return onnx.shape_inference.infer_shapes(model)


F = np.float32
SCALE, ZERO = np.float32(0.1), np.int8(0)
REFUSED = [
    ("zero point", "(float[4, 4] x) => (float[4, 4] z) { q = QuantizeLinear(x, s, p) z = DequantizeLinear(q, s, p) }",
     {"s": SCALE, "p": np.int8(3)}, "zero point is not zero"),
    ("unsigned", "(float[4, 4] x) => (float[4, 4] z) { q = QuantizeLinear(x, s, p) z = DequantizeLinear(q, s, p) }",
     {"s": SCALE, "p": np.uint8(0)}, "q is uint8; expected int8"),
    ("computed scale", "(float[4, 4] x, float s) => (float[4, 4] z) "
     "{ q = QuantizeLinear(x, s, p) z = DequantizeLinear(q, s, p) }", {"p": ZERO}, "scale s is computed"),
    ("zero scale", "(float[4, 4] x) => (float[4, 4] z) { q = QuantizeLinear(x, s, p) z = DequantizeLinear(q, s, p) }",
     {"s": F(0), "p": ZERO}, "scale s is not above 0"),
    ("unknown operator", "(float[4, 4] x) => (float[4, 4] z) { z = Det(x) }", {}, "has no such operator"),
    ("plugin", "(float[4, 4] x) => (float[4, 4] z) { z = other.Thing(x) }", {}, "domain other needs a plugin"),
    ("control flow", "(float[4] x, bool c) => (float[4] z) { z = If(c) "
     "<then_branch = t () => (float[4] a) { a = Identity(x) }, else_branch = e () => (float[4] b) { b = Neg(x) }> }",
     {}, "gates stay on the host"),
    ("sum in FP16", "(float[4, 4] x) => (float[4, 4] z) { h = Cast<to=10>(x) s = Softmax(h) z = Cast<to=1>(s) }", {},
     "it computes in float16"),
    ("quantised softmax", "(float[4, 4] x) => (float[4, 4] z) "
     "{ q = QuantizeLinear(x, s, p) d = DequantizeLinear(q, s, p) z = Softmax(d) }", {"s": SCALE, "p": ZERO},
     "its input is quantised"),
    ("constant", "(float[4] x) => (float[4] z) { h = Cast<to=10>(x) a = Add(h, c) z = Cast<to=1>(a) }",
     {"c": np.float16(1e-7)}, "which FP16 does not hold"),
    ("infinite mask", "(float[4] x) => (float[4] z) { h = Cast<to=10>(x) a = Add(h, c) z = Cast<to=1>(a) }",
     {"c": np.float16("-inf")}, "which FP16 does not hold"),
    ("computed axes", "(float[4, 4] x, int64[1] axes) => (float[1, 4] z) { z = ReduceSum<keepdims=1>(x, axes) }", {},
     "axes is computed"),
    ("dynamic", "(float[N, 4] x) => (float[N, 4] z) { z = Relu(x) }", {}, "x has a dynamic or empty dimension"),
    ("types of IO", "(float16[4] x) => (float16[4] z) { z = Relu(x) }", {}, "x is float16"),
    ("type", "(float[4] x) => (float[4] z) { i = Cast<to=5>(x) r = Relu(i) z = Cast<to=1>(r) }", {},
     "input i is int16"),
    ("outputs", "(float[4, 4] x) => (float[4, 4] z, float[4, 1] mean) { z, mean = LayerNormalization(x, w) }",
     {"w": np.ones(4, F)}, "only its first output"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "initializers", "says"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED]
)
def test_what_tensorrt_refuses_is_refused_with_the_reason(text, initializers, says):
    findings = preflight("g", model_of(text, **initializers), LIMITS)
    assert any(says in f.reason and f.kind == "refused" for f in findings), findings
    with pytest.raises(EngineError, match="graph g cannot be built on the target"):
        check_preflight(findings)


def test_an_opset_that_is_too_new_for_the_jetpack_is_refused():
    model = model_of("(float[4] x) => (float[4] z) { z = Relu(x) }", opset=21)
    (finding,) = preflight("g", model, LIMITS)
    assert "opset 21 is newer than JetPack 6.1 takes (TensorRT 10.3, at most 20)" in finding.reason
    assert not preflight("g", model, find_limits("jetson-thor"))


def test_convolutions_have_one_to_three_dimensions():
    weights = np.ones((2, 2, 1, 1, 1, 1), F)
    model = model_of(
        "(float[1, 2, 3, 3, 3, 3] x) => (float[1, 2, 3, 3, 3, 3] z) { z = Conv(x, w) }", w=weights
    )
    assert "4 spatial dimensions" in preflight("g", model, LIMITS)[0].reason


def test_double_falls_back_and_is_no_refusal():
    model = model_of(
        "(float[4] x) => (float[4] z) { d = Cast<to=11>(x) e = Cast<to=11>(d) z = Cast<to=1>(e) }"
    )
    findings = preflight("g", model, LIMITS)
    assert {f.kind for f in findings if f.op == "type"} == {"fallback"}


def test_symmetric_quantisation_of_products_passes():
    text = """(float[4, 4] x) => (float[4, 4] z) {
        q = QuantizeLinear(x, s, p) d = DequantizeLinear(q, s, p)
        v = DequantizeLinear<axis=0>(w, c, k) m = MatMul(d, v) z = LayerNormalization(m, n)
    }"""
    initializers = {
        "s": SCALE, "p": ZERO, "w": np.ones((4, 4), np.int8), "c": np.full(4, 0.1, F), "k": np.zeros(4, np.int8),
        "n": np.ones(4, F),
    }  # fmt: skip
    assert not preflight("g", model_of(text, **initializers), LIMITS)


def test_what_leaves_dla_is_said_and_not_refused():
    text = """(float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] z) {
        c = Conv(x, w) r = Relu(c) z = Gelu(r)
    }"""
    model = model_of(text, w=np.ones((2, 2, 1, 1), F))
    assert not preflight("g", model, LIMITS)
    (finding,) = preflight("g", model, DLA, dla=True)
    assert (finding.kind, finding.node, finding.reason) == (
        "fallback",
        "n2",
        "DLA has no Gelu; it runs on the GPU",
    )
    deep = model_of("(float[1, 2, 4, 4, 4] x) => (float[1, 2, 4, 4, 4] z) { z = Conv(x, w) }",
                    w=np.ones((2, 2, 1, 1, 1), F))  # fmt: skip
    assert "this one is 3-D" in preflight("g", deep, DLA, dla=True)[0].reason


def test_the_report_of_a_bundle_lists_every_operator(jetson_bundle):
    from vidprism_edge.bundle import Bundle
    from vidprism_edge.export.jetson import REPORT
    from vidprism_edge.export.preflight import PreflightReport

    bundle = Bundle.open(jetson_bundle)
    report = msgspec.json.decode(bundle.file(REPORT).read_bytes(), type=PreflightReport)
    for graph in bundle.manifest.graphs:
        if graph.target == "jetson":
            nodes = onnx.load(bundle.graph_file(graph)).graph.node
            assert sum(report.operators[graph.file].values()) == len(nodes)
    assert not report.findings
    assert report.limits.tensorrt == "10.3"

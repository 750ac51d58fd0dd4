"""Graph passes on tiny graphs, and what holds of every exported graph afterwards."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="graph passes need onnx")
import onnx
from onnx import TensorProto, checker, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from vidprism_edge.bundle import Bundle
from vidprism_edge.export.passes import PASSES, run_passes
from vidprism_edge.export.passes.share import share_initializers
from vidprism_edge.export.passes.strip import strip_leftovers
from vidprism_edge.spec import COMPONENTS

TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
tiny (float[2] x) => (float[2] y) {
    a = Add(x, first)
    b = Mul(a, second)
    y = Add(b, third)
}
"""


def tiny(**initializers: np.ndarray) -> onnx.ModelProto:
    model = parser.parse_model(TEXT)
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in initializers.items())
    return model


def run(model: onnx.ModelProto) -> np.ndarray:
    return ReferenceEvaluator(model).run(None, {"x": np.array([1, 2], np.float32)})[0]


def test_equal_initializers_are_one_and_others_stay():
    ones = np.ones(2, np.float32)
    model = tiny(first=ones, second=ones * 3, third=ones)
    before = run(model)
    assert share_initializers(model) == 8
    checker.check_model(model, full_check=True)
    assert [t.name for t in model.graph.initializer] == ["first", "second"]
    assert list(model.graph.node[2].input) == ["b", "first"]
    assert np.array_equal(run(model), before)
    assert share_initializers(model) == 0


def test_the_same_bytes_of_another_type_or_shape_are_not_the_same():
    model = tiny(
        first=np.zeros(2, np.float32), second=np.zeros((1, 2), np.float32), third=np.zeros(1, np.float32)
    )
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(2, np.int32), "whole"))
    assert share_initializers(model) == 0
    assert len(model.graph.initializer) == 4


def test_stack_traces_are_stripped_and_nothing_else():
    model = tiny(first=np.ones(2, np.float32), second=np.ones(2, np.float32), third=np.ones(2, np.float32))
    plain = model.SerializeToString()
    model.graph.node[1].metadata_props.add(key="stack", value="somewhere/model.py")
    model.graph.node[2].doc_string = "File model.py, line 3"
    model.metadata_props.add(key="producer", value="here")
    assert strip_leftovers(model) == 2
    assert model.SerializeToString() == plain
    assert strip_leftovers(model) == 0


@pytest.mark.parametrize("name", COMPONENTS)
def test_an_exported_graph_has_nothing_left_to_do(tiny_bundle, name):
    """What the exporter's optimizer promises too: a new version of it that stops doing so is noticed here."""
    model = onnx.load(Bundle.open(tiny_bundle).graph_file(name))
    before = model.SerializeToString()
    run_passes(model)
    assert model.SerializeToString() == before
    assert len(PASSES) == 2
    used = {i for node in model.graph.node for i in node.input} | {o.name for o in model.graph.output}
    assert {t.name for t in model.graph.initializer} <= used
    assert not [n for n in model.graph.node if n.op_type in ("Identity", "Dropout", "BatchNormalization")]
    names = [n.name for n in model.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    assert not [o for n in model.graph.node for o in n.output if o.isdigit()]
    assert all(t.data_type in (TensorProto.FLOAT, TensorProto.INT64) for t in model.graph.initializer)

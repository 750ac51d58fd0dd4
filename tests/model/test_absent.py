"""An absent expert leaks nothing: whatever its buffers hold, no output bit changes; in torch and in ONNX Runtime."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

pytest.importorskip("torch", reason="the network needs torch")

from vidprism_edge.bundle import Bundle
from vidprism_edge.export.graphs import describe_graphs
from vidprism_edge.runtimes.engines import EngineOptions, load_engines
from vidprism_edge.runtimes.streaming.slots import TokenSlots

EXPERTS = ("spatial", "hybrid", "temporal")
#: What belongs to an expert in a decision's graphs, beside its mask.
OF = {
    "spatial": ("spatial_tokens", "spatial_meta", "spatial_to_scene", "scene_to_spatial"),
    "hybrid": ("hybrid_tokens", "hybrid_meta"),
    "temporal": ("temporal_tokens", "motion_maps", "temporal_meta", "temporal_to_scene", "scene_to_temporal"),
}
CASES = [(graph, expert) for graph, expert in product(("hybrid_attend", "fusion"), EXPERTS)]


@pytest.fixture(scope="module")
def runs(tiny_net, tiny_bundle):
    """Ways to run a graph: the torch module and ONNX Runtime on the bundle's file."""
    engines = load_engines(Bundle.open(tiny_bundle), "onnxruntime", EngineOptions(1))
    modules = {graph.name: graph for graph in describe_graphs(tiny_net)}
    return {
        "torch": lambda name, inputs: modules[name].run(inputs),
        "onnxruntime": lambda name, inputs: engines[name].infer(inputs),
    }


def make_inputs(bundle, graph, masks):
    """Random tokens and boxes with the given mask values, or random ones, for an expert."""
    rng = np.random.default_rng(7)
    inputs = {}
    for info in bundle.graphs[graph].inputs:
        kind = info.name.removesuffix("_mask")
        if info.name.endswith("_mask"):
            some = (rng.random(info.shape) < 0.6).astype(np.float32)
            inputs[info.name] = np.full(info.shape, masks[kind], np.float32) if kind in masks else some
        elif info.name.endswith("_meta"):
            inputs[info.name] = rng.uniform(0, 1, info.shape).astype(np.float32)
        elif "_to_" in info.name or info.name == "motion_maps":
            inputs[info.name] = rng.random(info.shape, dtype=np.float32) / 4
        else:
            inputs[info.name] = rng.standard_normal(info.shape).astype(np.float32)
    return inputs


def same_bits(a, b):
    return a.keys() == b.keys() and all(a[n].tobytes() == b[n].tobytes() for n in a)


@pytest.mark.parametrize("runner", ["torch", "onnxruntime"])
@pytest.mark.parametrize(("graph", "expert"), CASES)
def test_an_absent_experts_buffers_change_no_bit(runs, tiny_bundle, runner, graph, expert):
    bundle = Bundle.open(tiny_bundle)
    inputs = make_inputs(bundle, graph, {expert: 0.0})
    expected = runs[runner](graph, inputs)
    assert all(np.isfinite(v).all() for v in expected.values())
    for value in (1000.0, -1000.0, 0.0):
        for name in OF[expert]:
            if name in inputs:
                filled = {**inputs, name: np.full_like(inputs[name], value)}
                assert same_bits(runs[runner](graph, filled), expected), f"{name} = {value} leaks"
        every = {n: np.full_like(v, value) if n in OF[expert] else v for n, v in inputs.items()}
        assert same_bits(runs[runner](graph, every), expected), f"all buffers = {value} leak"


@pytest.mark.parametrize("runner", ["torch", "onnxruntime"])
@pytest.mark.parametrize(("graph", "expert"), CASES)
def test_single_masked_slots_change_no_bit(runs, tiny_bundle, runner, graph, expert):
    """Not only an expert that is gone: each masked slot beside visible ones."""
    bundle = Bundle.open(tiny_bundle)
    inputs = make_inputs(bundle, graph, {})
    masked = inputs[f"{expert}_mask"] == 0
    assert masked.any()
    assert not masked.all()
    expected = runs[runner](graph, inputs)
    for value in (1000.0, -1000.0):
        filled = {}
        for name, array in inputs.items():
            filled[name] = array.copy()
            if name in OF[expert]:
                filled[name][masked] = value
        assert same_bits(runs[runner](graph, filled), expected)


@pytest.mark.parametrize("runner", ["torch", "onnxruntime"])
@pytest.mark.parametrize(("graph", "expert"), CASES)
def test_a_present_expert_is_seen(runs, tiny_bundle, runner, graph, expert):
    """So that the tests above can fail: with its mask 1, every buffer counts."""
    bundle = Bundle.open(tiny_bundle)
    inputs = make_inputs(bundle, graph, dict.fromkeys(EXPERTS, 1.0))
    expected = runs[runner](graph, inputs)
    for name in OF[expert]:
        if name in inputs:
            moved = {**inputs, name: inputs[name] * 0.5 + 0.3}
            found = runs[runner](graph, moved)
            assert max(np.abs(found[n] - expected[n]).max() for n in found) > 1e-4, f"{name} is ignored"


def test_nothing_present_still_gives_finite_numbers(runs, tiny_bundle):
    bundle = Bundle.open(tiny_bundle)
    for graph in ("hybrid_attend", "fusion"):
        outputs = runs["onnxruntime"](graph, make_inputs(bundle, graph, dict.fromkeys(EXPERTS, 0.0)))
        assert all(np.isfinite(v).all() for v in outputs.values())


@pytest.mark.parametrize("absent", EXPERTS)
@pytest.mark.parametrize("value", [1000.0, -1000.0])
def test_whatever_an_absent_experts_slots_hold_a_decision_is_the_same(tiny_spec, tiny_bundle, absent, value):
    """Through the runtime's own slots and the three graphs of a decision."""
    bundle = Bundle.open(tiny_bundle)
    engines = load_engines(bundle, "onnxruntime", EngineOptions(1))
    logits = []
    for fill in (None, value):
        rng = np.random.default_rng(1)
        inputs = {}
        for name, slots in make_slots(tiny_spec).items():
            shapes = {n: b.shape[2:] for n, b in slots._buffers.items() if n.endswith(("_tokens", "_maps"))}
            for i in range(slots.rows):
                tokens = [
                    {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
                    for _ in range(slots.regions)
                ]
                boxes = [(0.1, 0.1, 0.5, 0.5)] * slots.regions
                if name != absent:
                    slots.put(i * 10**8, boxes, tokens)
            if fill is not None and name == absent:
                for buffer in (*slots._buffers.values(), slots._boxes):
                    buffer[:] = fill
            view, age = slots.view(slots.rows * 10**8)
            assert (age is None) == (name == absent)
            inputs |= view
        attend = {i.name for i in engines["hybrid_attend"].graph.inputs}
        tokens = engines["hybrid_attend"].infer({n: a for n, a in inputs.items() if n in attend})["tokens"]
        vector = engines["fusion"].infer({**inputs, "hybrid_tokens": tokens})["vector"]
        logits.append(engines["head"].infer({"vector": vector})["logits"])
    assert logits[0].tobytes() == logits[1].tobytes()


def make_slots(spec):
    width, grid, motion = spec.width, spec.encoder.grid, spec.temporal.grid
    return {
        "spatial": TokenSlots(spec, "spatial", {"spatial_tokens": (1 + grid**2, width)}, grid),
        "hybrid": TokenSlots(spec, "hybrid", {"hybrid_tokens": (spec.hybrid.grid**2, width)}),
        "temporal": TokenSlots(
            spec, "temporal", {"temporal_tokens": (width,), "motion_maps": (motion, motion)}, motion
        ),
    }

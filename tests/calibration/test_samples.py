"""Calibration samples: what a device's graphs are given, spread over the gate states, the same for the same seed."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from made_clips import write_clip, write_folder

from vidprism_edge.bundle import Bundle
from vidprism_edge.calibration.data import Entry
from vidprism_edge.calibration.samples import (
    _Kept,
    collect_samples,
    find_videos,
    gate_state,
    hash_arrays,
)
from vidprism_edge.errors import UsageError
from vidprism_edge.runtimes.engines import Engine, EngineOptions, load_engines
from vidprism_edge.runtimes.streaming.session import Session
from vidprism_edge.spec import COMPONENTS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("samples") / "clips", subjects=2)


@pytest.fixture(scope="module")
def samples(tiny_bundle, folder):
    return collect_samples(Bundle.open(tiny_bundle), folder, count=20, seed=5, threads=1)


def test_every_graph_has_samples_that_its_engine_takes(tiny_bundle, samples):
    engines = load_engines(Bundle.open(tiny_bundle), "onnxruntime", EngineOptions(1))
    assert set(samples.arrays) == set(COMPONENTS)
    for graph, kept in samples.arrays.items():
        assert 0 < len(kept) <= 20
        assert [hash_arrays(a) for a in kept] == [s.sha256 for s in samples.record.graphs[graph]]
        engines[graph].infer(kept[0])


def test_the_same_seed_gives_the_same_samples_and_another_one_others(tiny_bundle, folder, samples):
    bundle = Bundle.open(tiny_bundle)
    assert collect_samples(bundle, folder, count=20, seed=5, threads=1).record == samples.record
    assert collect_samples(bundle, folder, count=20, seed=6, threads=1).record.graphs != samples.record.graphs


def test_gate_states_beyond_those_of_the_clips_themselves_are_met(samples):
    states = Counter(s.state for s in samples.record.graphs["fusion"])
    assert len(states) >= 4, states
    assert any("temporal" not in state for state in states), states
    assert any("(stale)" in state for state in states), states
    assert {s.split(".")[1] for s in states} == {"first", "steady"}
    assert {s.state for s in samples.record.graphs["temporal"]} == {"cold", "warm"}


def test_samples_are_what_a_session_gives_its_engines(tiny_bundle, folder):
    """A clip played as it is: every kept call of that pass is one that a plain session made, in that order."""
    bundle = Bundle.open(tiny_bundle)
    (entry, *_) = find_videos(folder)
    made = collect_samples(bundle, [entry], count=10_000, threads=1)
    heard: list[str] = []

    class Spy(Engine):
        def infer_impl(self, inputs):
            heard.append(hash_arrays(inputs))
            return engines[self.graph.name].infer_impl(inputs)

    from vidprism_edge.calibration.data import play

    engines = load_engines(bundle, "onnxruntime", EngineOptions(1))
    with play(entry) as (frames, period_ns):
        session = Session(bundle, engine={n: Spy(e.graph) for n, e in engines.items()}, period_ns=period_ns)
        for frame in frames:
            session.push(frame)
        session.finish()
    natural = {
        int(s.id.rsplit("/", 1)[1]): s.sha256
        for graph in made.record.graphs.values()
        for s in graph
        if "/all/" in s.id
    }
    assert [natural[i] for i in range(len(heard))] == heard


def test_few_samples_warn_and_subjects_are_left_out(tiny_bundle, folder, samples):
    assert "fewer than 300" in samples.record.warning()
    made = collect_samples(Bundle.open(tiny_bundle), folder, count=4, leave_out=("1",), threads=1)
    assert set(made.record.videos) == {"left_2.mp4", "right_2.mp4"}
    assert made.record.left_out == ("1",)
    with pytest.raises(UsageError, match="left-out subject"):
        find_videos(folder, ("1", "2"))


def test_one_video_a_plain_folder_and_a_broken_one(tiny_bundle, tmp_path):
    write_clip(tmp_path / "a.mp4", "left")
    assert find_videos(tmp_path / "a.mp4") == (Entry(tmp_path / "a.mp4", ""),)
    (tmp_path / "b.mp4").write_bytes(b"no video")
    assert [e.path.name for e in find_videos(tmp_path)] == ["a.mp4", "b.mp4"]
    made = collect_samples(Bundle.open(tiny_bundle), tmp_path, count=3, threads=1)
    assert set(made.record.videos) == {"a.mp4"}
    assert set(made.record.skipped) == {"b.mp4"}
    with pytest.raises(UsageError, match="none of the 1 calibration videos decodes"):
        collect_samples(Bundle.open(tiny_bundle), tmp_path / "b.mp4", count=3, threads=1)
    with pytest.raises(UsageError, match="expected 1 or more"):
        collect_samples(Bundle.open(tiny_bundle), tmp_path, count=0)
    with pytest.raises(UsageError, match="does not exist"):
        find_videos(tmp_path / "gone")


def test_the_choice_is_even_over_states_and_bounded():
    rng, kept = np.random.default_rng(0), _Kept(30)
    array = {"x": np.zeros(1, np.float32)}
    for i in range(1000):
        kept.offer(rng.random(), "rare" if i % 200 == 0 else "a" if i % 3 else "b", str(i), array)
    counts = Counter(state for state, _, _ in kept.chosen())
    assert counts["rare"] == 5
    assert sum(counts.values()) == 30
    assert abs(counts["a"] - counts["b"]) <= 1
    numbers = [int(name) for _, name, _ in kept.chosen()]
    assert numbers == sorted(numbers)
    assert min(numbers) < 300 < 700 < max(numbers)


def test_gate_states_are_named_by_what_a_decision_sees(tiny_spec):
    inputs = {}
    for expert in ("spatial", "hybrid", "temporal"):
        inputs[f"{expert}_mask"] = np.zeros((1, 4), np.float32)
        inputs[f"{expert}_meta"] = np.zeros((1, 4, 5), np.float32)
    assert gate_state(tiny_spec, inputs, first=True) == "none.first"
    inputs["spatial_mask"][0, 2] = 1
    inputs["spatial_meta"][0, 2, 0] = 3.0
    inputs["temporal_mask"][0, 3] = 1
    assert gate_state(tiny_spec, inputs, first=False) == "spatial(stale)+temporal.steady"

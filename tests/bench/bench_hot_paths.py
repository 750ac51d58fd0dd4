"""What the runtime itself costs around the engines: byte code instructions a frame, held to a stored baseline.

A busy machine does not change them. The native core's machine instructions have a baseline of their own
(tests/runtimes/native/test_instructions.py). Engines are made ones that answer at once, so that nothing but the
runtime is counted or timed. A new baseline: VIDPRISM_EDGE_BASELINE=write make bench
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from naive import Naive

from vidprism_edge.bundle import Arrays, Bundle, GraphInfo
from vidprism_edge.runtimes.engines import Engine
from vidprism_edge.runtimes.streaming.policy import ContentPolicy
from vidprism_edge.runtimes.streaming.sampler import StreamSampler
from vidprism_edge.runtimes.streaming.session import Session
from vidprism_edge.runtimes.streaming.source import Frame
from vidprism_edge.runtimes.streaming.source_synthetic import SyntheticSource, open_synthetic

BASELINE = Path(__file__).with_name("hot_paths.json")
SECONDS, RATE_HZ = 6, 15
#: How far a count may lie from the baseline, and a ratio of multiply-accumulates.
TOLERANCE = 0.03
PYTHON = ".".join(platform.python_version_tuple()[:2])


class Silent(Engine):
    """An engine that answers with zeros at once."""

    def __init__(self, graph: GraphInfo) -> None:
        super().__init__(graph)
        self._answer = {output.name: np.zeros(output.shape, np.float32) for output in graph.outputs}

    def infer_impl(self, inputs: Mapping[str, Any]) -> Arrays:
        return self._answer


def pictures() -> list[Frame]:
    """Six seconds of the drawn source: still at first, then moving, and again."""
    source: SyntheticSource = open_synthetic(f"synthetic:{SECONDS}:320x240@{RATE_HZ}")
    return list(iter(source.read, None))


def make_session(bundle: Bundle, gates: str) -> Callable[[], None]:
    """Everything around the engines: sampler, gates, slots, decisions, predictions."""
    frames = pictures()

    def run() -> None:
        engines = {name: Silent(graph) for name, graph in bundle.graphs.items()}
        session = Session(bundle, engine=engines, gates=gates, period_ns=frames[1].t_ns)
        for frame in frames:
            session.push(frame)

    return run


def make_sampler(bundle: Bundle) -> Callable[[], None]:
    """The sampler and the gates alone."""
    frames = pictures()

    def run() -> None:
        sampler = StreamSampler(bundle.spec, ContentPolicy(bundle.spec), period_ns=frames[1].t_ns)
        for frame in frames:
            sampler.push(frame.pixels, frame.t_ns)

    return run


PATHS: dict[str, Callable[[Bundle], Callable[[], None]]] = {
    "session, gates open": lambda bundle: make_session(bundle, "open"),
    "session, gates auto": lambda bundle: make_session(bundle, "auto"),
    "sampler and gates": make_sampler,
}


def count_byte_code(run: Callable[[], None]) -> int:
    """Byte code instructions of our own modules that a call executes."""
    counted = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal counted
        if event == "call":
            if "vidprism_edge" not in frame.f_globals.get("__name__", ""):
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        counted += event == "opcode"
        return trace

    run()  # imports, caches
    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(previous)
    return counted


def held_to_baseline(name: str, now: float) -> None:
    """Compare with the stored value, or store it."""
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    if os.environ.get("VIDPRISM_EDGE_BASELINE") == "write":
        baseline[name] = round(now, 3)
        BASELINE.write_text(json.dumps(dict(sorted(baseline.items())), indent=2) + "\n")
    if name not in baseline:
        pytest.skip(f"no baseline for {name!r}")
    assert now == pytest.approx(baseline[name], rel=TOLERANCE)


@pytest.mark.parametrize("path", PATHS)
def test_byte_code_a_frame(tiny_bundle: Path, path: str) -> None:
    counted = count_byte_code(PATHS[path](Bundle.open(tiny_bundle)))
    held_to_baseline(f"{path}: byte code a frame, Python {PYTHON}", counted / (SECONDS * RATE_HZ))


@pytest.mark.parametrize("path", PATHS)
def test_time(benchmark: Any, tiny_bundle: Path, path: str) -> None:
    """For people: how long six seconds of video take without any network."""
    benchmark.pedantic(PATHS[path](Bundle.open(tiny_bundle)), rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("gates", ["open", "auto"])
def test_fewer_multiply_accumulates_than_naive(tiny_bundle: Path, gates: str) -> None:
    """The ratio to running every graph on every window, on the drawn source; exact, so it has a baseline too."""
    bundle = Bundle.open(tiny_bundle)
    session, naive = Session(bundle, gates=gates, period_ns=10**9 // RATE_HZ), Naive(bundle, threads=1)
    for frame in pictures():
        session.push(frame)
        naive.push(frame.image, frame.t_ns)
    held_to_baseline(f"multiply-accumulates, naive / gates {gates}", naive.macs / session._total.macs)

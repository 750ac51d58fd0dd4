"""The runtime beside a naive program that re-runs the same graphs on every window: one run, interleaved.

``make bench`` prints the ratios; ``python tests/bench/bench_streaming.py BUNDLE CLIP``
prints the table of docs/results/streaming.md. Decoding is outside all three: the frames are in memory.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from naive import Naive

from vidprism_edge.bundle import Arrays, Bundle
from vidprism_edge.report import describe_environment
from vidprism_edge.runtimes.engines import Engine, EngineOptions, load_engines
from vidprism_edge.runtimes.streaming.session import Session
from vidprism_edge.runtimes.streaming.source import Frame, open_source

MOVING_S = 10.0
#: Graphs of experts that keep tokens or state.
REUSED = ("spatial", "hybrid_encode", "temporal")
#: longer than a gate's max skip, so that what a closed gate still looks at is counted
STILL_S = 62.0


def read_clip(path: Path, seconds: float, still: bool) -> tuple[list[np.ndarray], int]:
    """Frames of a clip, back and forth without end, or its first frame with a camera's noise; and the period."""
    source = open_source(str(path))
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame.image)
    source.close()
    period = source.period_ns or 40_000_000
    count = int(seconds * 1e9 / period)
    if still:
        rng = np.random.default_rng(0)
        noise = rng.normal(0, 1.5, (8, *frames[0].shape))
        noisy = [np.clip(frames[0] + n, 0, 255).astype(np.uint8) for n in noise]
        return [noisy[int(rng.integers(8))] for _ in range(count)], period
    loop = frames + frames[-2:0:-1]
    return [loop[i % len(loop)] for i in range(count)], period


class Timed(Engine):
    """An engine that adds up its runs, and the wall time that they take."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.graph)
        self._engine = engine
        self.runs, self.spent_s = 0, 0.0

    def infer_impl(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        start = time.perf_counter()
        outputs = self._engine.infer_impl(inputs)
        self.spent_s += time.perf_counter() - start
        self.runs += 1
        return outputs


class _Ours:
    def __init__(self, bundle: Bundle, gates: str, period: int, engines: Mapping[str, Engine]) -> None:
        self.session = Session(bundle, gates=gates, period_ns=period, engine=engines)
        self.index = 0

    @property
    def macs(self) -> int:
        return self.session._total.macs

    def push(self, image: np.ndarray, t_ns: int) -> object:
        self.index += 1
        return self.session.push(Frame(image, t_ns, self.index))


@dataclass(frozen=True, slots=True)
class Spent:
    """What a program took a second of video: all of it, and its engines, by graph (runs, ms)."""

    ms: float
    gmac: float
    graphs: dict[str, tuple[float, float]]


def race(bundle: Bundle, frames: list[np.ndarray], period: int, threads: int = 1) -> dict[str, Spent]:
    """Push the same frames through all three in turn, on the same engines: a hop of frames each, so that each finds
    the caches as it has left them itself."""
    loaded = load_engines(bundle, "onnxruntime", EngineOptions(threads))
    engines = {p: {n: Timed(e) for n, e in loaded.items()} for p in ("naive", "open", "gated")}
    runners = {
        "naive": Naive(bundle, engines["naive"]),
        "open": _Ours(bundle, "open", period, engines["open"]),
        "gated": _Ours(bundle, "auto", period, engines["gated"]),
    }
    warm = math.ceil((bundle.spec.window_ns + bundle.spec.hop_ns) / bundle.spec.hop_ns)
    spent = dict.fromkeys(runners, 0.0)
    macs_before: dict[str, int] = {}
    hops = itertools.groupby(enumerate(frames), lambda numbered: numbered[0] * period // bundle.spec.hop_ns)
    for hop, numbered in hops:
        taken = list(numbered)
        if hop == warm:
            macs_before = {name: runner.macs for name, runner in runners.items()}
            for engine in (e for program in engines.values() for e in program.values()):
                engine.runs, engine.spent_s = 0, 0.0
        for name, runner in runners.items():
            start = time.perf_counter()
            for i, image in taken:
                runner.push(image, i * period)
            spent[name] += (time.perf_counter() - start) * (hop >= warm)
    video_s = (hop + 1 - warm) * bundle.spec.hop_s
    return {
        name: Spent(
            ms=spent[name] * 1e3 / video_s,
            gmac=(runner.macs - macs_before[name]) / 1e9 / video_s,
            graphs={n: (e.runs / video_s, e.spent_s * 1e3 / video_s) for n, e in engines[name].items()},
        )
        for name, runner in runners.items()
    }


@pytest.mark.parametrize("still", [False, True], ids=["moving", "still"])
def test_streaming_against_naive(benchmark: object, tiny_bundle: Path, real_clip: Path, still: bool) -> None:
    frames, period = read_clip(real_clip, 8.0, still)
    result = benchmark.pedantic(race, (Bundle.open(tiny_bundle), frames, period), rounds=1)  # type: ignore[attr-defined]
    naive = result["naive"]
    for name in ("open", "gated"):
        benchmark.extra_info[f"naive/{name} time"] = naive.ms / result[name].ms  # type: ignore[attr-defined]
        benchmark.extra_info[f"naive/{name} macs"] = naive.gmac / result[name].gmac  # type: ignore[attr-defined]


def reuse_table(runs: Sequence[Mapping[str, Spent]]) -> list[str]:
    """Markdown of exact reuse alone, by graph: medians of the runs, ratios within each run."""
    lines = [
        "| graph | runs a second of video, naive | all gates open | fewer | engine ms a second, naive | "
        "all gates open | less | ms a run, naive | all gates open |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for graph in REUSED:
        naive, ours = ([run[program].graphs[graph] for run in runs] for program in ("naive", "open"))
        counts = [statistics.median(count for count, _ in program) for program in (naive, ours)]
        spent = [statistics.median(ms for _, ms in program) for program in (naive, ours)]
        less = statistics.median(n[1] / o[1] for n, o in zip(naive, ours, strict=True))
        lines.append(
            f"| {graph} | {counts[0]:.1f} | {counts[1]:.1f} | {counts[0] / counts[1]:.2f} × | {spent[0]:.1f} | "
            f"{spent[1]:.1f} | {less:.2f} × | {spent[0] / counts[0]:.2f} | {spent[1] / counts[1]:.2f} |"
        )
    return lines


def write_table(bundle: Bundle, clip: Path, repeats: int, threads: int) -> str:
    """Markdown of the comparison: medians of the repeats, ratios within each repeat."""
    environment = describe_environment()
    lines = [
        "| scene | program | GMAC a second of video | ms a second of video | MACs, naive = 1 | time, naive = 1 |",
        "|---|---|---|---|---|---|",
    ]
    names = {
        "naive": "naive: all graphs on every window",
        "open": "VidPrism Edge, all gates open (exact reuse only)",
        "gated": "VidPrism Edge, gates auto",
    }
    for scene, still in (("moving", False), ("still, with sensor noise", True)):
        frames, period = read_clip(clip, STILL_S if still else MOVING_S, still)
        runs = [race(bundle, frames, period, threads) for _ in range(repeats)]
        if not still:
            reuse = reuse_table(runs)
        for name, title in names.items():
            ms = statistics.median(r[name].ms for r in runs)
            gmac = runs[0][name].gmac
            faster = statistics.median(r["naive"].ms / r[name].ms for r in runs)
            fewer = runs[0]["naive"].gmac / gmac
            lines.append(
                f"| {scene} | {title} | {gmac:.2f} | {ms:.0f} | {fewer:.1f} × fewer | {faster:.1f} × faster |"
            )
    lines += [
        "",
        *reuse,
        "",
        f"Preset {bundle.spec.preset}, {clip.name} ({MOVING_S:g} s; still: {STILL_S:g} s), ONNX Runtime "
        f"{environment['tools'].get('onnxruntime')}, {threads} thread a graph, decoding outside; median of {repeats} "
        f"interleaved runs on {environment['cpu']}, {environment['cores']} cores, Python {environment['python']}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    print(write_table(Bundle.open(arguments.bundle), arguments.clip, arguments.repeats, arguments.threads))


if __name__ == "__main__":
    main()

"""The runtime beside a naive program that re-runs the same graphs on every window: one run, interleaved.

``make bench`` prints the ratios; ``python tests/bench/bench_streaming.py BUNDLE CLIP``
prints the table of docs/results/streaming.md. Decoding is outside all three: the frames are in memory.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from naive import Naive

from vidprism_edge.bundle import Bundle
from vidprism_edge.report import describe_environment
from vidprism_edge.runtimes.engines import EngineOptions
from vidprism_edge.runtimes.streaming.session import Session
from vidprism_edge.runtimes.streaming.source import Frame, open_source

MOVING_S = 10.0
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


class _Ours:
    def __init__(self, bundle: Bundle, gates: str, period: int, threads: int) -> None:
        self.session = Session(bundle, gates=gates, period_ns=period, options=EngineOptions(threads))
        self.index = 0

    @property
    def macs(self) -> int:
        return self.session._total.macs

    def push(self, image: np.ndarray, t_ns: int) -> object:
        self.index += 1
        return self.session.push(Frame(image, t_ns, self.index))


def race(
    bundle: Bundle, frames: list[np.ndarray], period: int, threads: int = 1
) -> dict[str, dict[str, float]]:
    """Push the same frames through all three, a frame at a time in turn; CPU and wall seconds a second of video."""
    runners = {
        "naive": Naive(bundle, threads=threads),
        "open": _Ours(bundle, "open", period, threads),
        "gated": _Ours(bundle, "auto", period, threads),
    }
    warm = bundle.spec.window_ns + bundle.spec.hop_ns
    spent = {name: [] for name in runners}
    macs_before: dict[str, int] = {}
    for i, image in enumerate(frames):
        t_ns = i * period
        if t_ns >= warm and not macs_before:
            macs_before = {name: runner.macs for name, runner in runners.items()}
        for name, runner in runners.items():
            start = time.perf_counter()
            runner.push(image, t_ns)
            if t_ns >= warm:
                spent[name].append(time.perf_counter() - start)
    video_s = len(spent["naive"]) * period / 1e9
    return {
        name: {
            "ms_per_video_s": sum(spent[name]) * 1e3 / video_s,
            "gmac_per_video_s": (runner.macs - macs_before[name]) / 1e9 / video_s,
        }
        for name, runner in runners.items()
    }


@pytest.mark.parametrize("still", [False, True], ids=["moving", "still"])
def test_streaming_against_naive(benchmark: object, tiny_bundle: Path, real_clip: Path, still: bool) -> None:
    frames, period = read_clip(real_clip, 8.0, still)
    result = benchmark.pedantic(race, (Bundle.open(tiny_bundle), frames, period), rounds=1)  # type: ignore[attr-defined]
    naive = result["naive"]
    for name in ("open", "gated"):
        benchmark.extra_info[f"naive/{name} time"] = naive["ms_per_video_s"] / result[name]["ms_per_video_s"]  # type: ignore[attr-defined]
        benchmark.extra_info[f"naive/{name} macs"] = (
            naive["gmac_per_video_s"] / result[name]["gmac_per_video_s"]
        )  # type: ignore[attr-defined]


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
        for name, title in names.items():
            ms = statistics.median(r[name]["ms_per_video_s"] for r in runs)
            gmac = runs[0][name]["gmac_per_video_s"]
            faster = statistics.median(r["naive"]["ms_per_video_s"] / r[name]["ms_per_video_s"] for r in runs)
            fewer = runs[0]["naive"]["gmac_per_video_s"] / gmac
            lines.append(
                f"| {scene} | {title} | {gmac:.2f} | {ms:.0f} | {fewer:.1f} × fewer | {faster:.1f} × faster |"
            )
    lines += [
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

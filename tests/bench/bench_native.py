"""The native sampler against cv2 + numpy: the same work in one process, interleaved, one thread, by thread CPU time.

    pytest -o python_files='bench_*.py' tests/bench/bench_native.py      # the floors, a few repeats
    python tests/bench/bench_native.py --repeats 20 --write docs/results/native-core.md

Work: block motion, energy and mean luma of every frame, and area-averaged planar normalised streams. "closed": 112
every frame. "second": one second at 30 frames/s with 112 at 30 Hz, 160 at 10 Hz, 224 at 2 Hz. Frames rotate beyond the
cache.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vidprism_edge.runtimes import _native

MEAN, STD = np.array([0.4, 0.45, 0.5], np.float32), np.array([0.2, 0.25, 0.3], np.float32)
CLOSED, SECOND = [(112, 1)], [(112, 1), (160, 3), (224, 15)]  # size, every n-th frame
SIZES = {"720p": (720, 1280), "1080p": (1080, 1920)}
FRAMES = 30
BEYOND_CACHE = 96 << 20  # bytes of frames that are gone through in turn

Push = Callable[[object], None]


def cv2_sampler(streams: list[tuple[int, int]], shrink: bool) -> Push:
    """What a good engineer writes: INTER_AREA for crops and blocks, arrays of bytes as long as possible."""
    state: dict = {"luma": None, "i": 0}
    scale, shift = 1 / 255 / STD, MEAN / STD
    block = 8 if shrink else 16

    def blocks(values: NDArray) -> NDArray:
        height, width = values.shape
        h, w = -(-height // block), -(-width // block)
        if height % block or width % block:
            values = cv2.copyMakeBorder(
                values, 0, h * block - height, 0, w * block - width, cv2.BORDER_REPLICATE
            )
        return cv2.resize(values, (w, h), interpolation=cv2.INTER_AREA)

    def push(frame: object) -> None:
        image = np.asarray(frame)
        if shrink:
            image = cv2.resize(
                image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA
            )
        luma = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        before = luma if state["luma"] is None else state["luma"]
        dx = cv2.copyMakeBorder(cv2.absdiff(luma[:, 1:], luma[:, :-1]), 0, 0, 1, 0, cv2.BORDER_CONSTANT)
        dy = cv2.copyMakeBorder(cv2.absdiff(luma[1:], luma[:-1]), 1, 0, 0, 0, cv2.BORDER_CONSTANT)
        blocks(cv2.absdiff(luma, before)), blocks(dx).astype(np.float32) + blocks(dy), blocks(luma)
        for size, every in streams:
            if state["i"] % every == 0:
                small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
                values = cv2.cvtColor(small, cv2.COLOR_BGR2RGB).astype(np.float32)
                values *= scale
                values -= shift
                np.ascontiguousarray(values.transpose(2, 0, 1))
        state.update(luma=luma, i=state["i"] + 1)

    return push


def native_sampler(
    streams: list[tuple[int, int]], shape: tuple[int, int], motion: str, fmt: str = "bgr24"
) -> Push:
    specs = [(size, 30000 // every, 1, 8, MEAN, STD, False) for size, every in streams]
    rings = [np.zeros((16, 1, 3, size, size), np.float32) for size, _ in streams]
    sampler = _native.Sampler(specs, rings, small_px=0, period_ns=33_333_333, motion=motion)  # type: ignore[arg-type]
    stats = np.empty((3, -(-shape[0] // 16), -(-shape[1] // 16)), np.float32)
    clock = iter(range(0, 1 << 60, 33_333_334))

    def push(frame: object) -> None:
        sampler.push(frame, next(clock), stats, format=fmt)  # type: ignore[arg-type]

    return push


def read_once(frame: object) -> None:
    """The cheapest reading of all bytes that numpy has: the largest of the 64-bit words."""
    np.asarray(frame).reshape(-1).view(np.uint64).max()


def pictures(shape: tuple[int, int]) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """BGR and NV12 frames, smooth with detail, more bytes than the cache."""
    rng = np.random.default_rng(0)
    height, width = shape
    count = BEYOND_CACHE // (height * width * 3) + 1
    coarse = rng.integers(0, 256, (count, height // 8, width // 8, 3), dtype=np.uint8)
    bgr = [cv2.resize(c, (width, height), interpolation=cv2.INTER_CUBIC) for c in coarse]
    nv12 = [np.ascontiguousarray(np.concatenate([b[..., 0], b[: height // 2, :, 1]])) for b in bgr]
    return bgr, nv12


def measure(size: str, streams: list[tuple[int, int]], repeats: int) -> dict[str, float]:
    """Median thread CPU time for one frame, microseconds; the contestants take turns."""
    shape = SIZES[size]
    bgr, nv12 = pictures(shape)
    contestants: dict[str, tuple[Push, list]] = {
        "cv2 + numpy": (cv2_sampler(streams, False), bgr),
        "the same, shrunk 2x2 first": (cv2_sampler(streams, True), bgr),
        "ours, exact motion": (native_sampler(streams, shape, "exact"), bgr),
        "ours, averaged motion": (native_sampler(streams, shape, "averaged"), bgr),
        "ours, NV12, averaged": (native_sampler(streams, shape, "averaged", "nv12"), nv12),
        "reading the frame once": (read_once, bgr),
    }
    cv2.setNumThreads(1)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    at = 0
    for _ in range(repeats):
        for name, (push, frames) in contestants.items():
            start = time.thread_time()
            for i in range(FRAMES):
                push(frames[(at + i) % len(frames)])
            times[name].append((time.thread_time() - start) / FRAMES * 1e6)
        at += FRAMES
    return {name: statistics.median(t) for name, t in times.items()}


def test_floors(benchmark) -> None:  # type: ignore[no-untyped-def]
    """The same output at least 7 times as fast as cv2 + numpy; averaged 10 times, and 5 times the shrunk variant."""
    result = benchmark.pedantic(measure, args=("720p", SECOND, 5), rounds=1)
    base = result["cv2 + numpy"]
    assert base / result["ours, exact motion"] >= 7
    assert base / result["ours, averaged motion"] >= 10
    assert result["the same, shrunk 2x2 first"] / result["ours, averaged motion"] >= 5


@pytest.mark.parametrize("size", SIZES)
def test_ceiling_of_a_closed_gate(benchmark, size: str) -> None:  # type: ignore[no-untyped-def]
    """Gate closed, averaged motion: at most 2.2 times what reading the frame once costs."""
    result = benchmark.pedantic(measure, args=(size, CLOSED, 20), rounds=1)
    assert result["ours, averaged motion"] / result["reading the frame once"] <= 2.2


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def compiler() -> str:
    found = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=False)
    return found.stdout.splitlines()[0] if found.returncode == 0 else "unknown"


def table(repeats: int) -> str:
    results = {
        (size, name): measure(size, s, repeats)
        for size in SIZES
        for name, s in (("closed", CLOSED), ("second", SECOND))
    }
    first = next(iter(results.values()))
    lines = [
        "| | " + " | ".join(f"{size}, {name}" for size, name in results) + " |",
        "|---|" + "---|" * len(results),
    ]
    for contestant in first:
        cells = []
        for (_, work), r in results.items():
            value = r[contestant] if work == "closed" else r[contestant] * FRAMES / 1000
            cells.append(f"{value:,.0f} µs" if work == "closed" else f"{value:.1f} ms")
            if contestant == "reading the frame once":
                cells[-1] += f" (averaged is {r['ours, averaged motion'] / r[contestant]:.1f} of it)"
            elif contestant != "cv2 + numpy":
                cells[-1] += f" ({r['cv2 + numpy'] / r[contestant]:.1f}×)"
        lines.append(f"| {contestant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the native sampler with cv2 + numpy.")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--write", type=Path, help="put the table between the marks of this Markdown file")
    arguments = parser.parse_args()
    text = (
        f"{table(arguments.repeats)}\n\n"
        f"{processor()}; {compiler()}; kernels {_native.simd_selected()}; Python {platform.python_version()}, "
        f"OpenCV {cv2.__version__}, numpy {np.__version__}; median of {arguments.repeats} interleaved repeats of "
        f"{FRAMES} frames, one thread, thread CPU time; frames from memory ({BEYOND_CACHE >> 20} MiB in turn)."
    )
    print(text)
    if arguments.write:
        before, _, rest = arguments.write.read_text().partition("<!-- table -->\n")
        after = rest.partition("<!-- end -->")[2]
        arguments.write.write_text(f"{before}<!-- table -->\n{text}\n<!-- end -->{after}")


if __name__ == "__main__":
    main()

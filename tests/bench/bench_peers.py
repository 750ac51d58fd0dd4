"""One table: the streaming runtime beside per-window inference of its own graphs and of other networks.

    python tests/bench/bench_peers.py CLIP NANO_BUNDLE CLIP_BUNDLE --write docs/results/peers.md

The same clip, ONNX Runtime, one thread, frames in memory. Times are thread CPU time, which other programs disturb
least: with one thread on a machine of its own it is the latency.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))
from bench_streaming import read_clip
from naive import Naive
from peers import PEERS

from vidprism_edge.bundle import Bundle
from vidprism_edge.report import describe_environment
from vidprism_edge.runtimes import _native
from vidprism_edge.runtimes.engines import EngineOptions
from vidprism_edge.runtimes.streaming.session import Session
from vidprism_edge.runtimes.streaming.source import Frame

SECONDS = 6.0
HOP_S, WINDOW_S = 0.5, 2.0


def count_macs(name: str) -> float:
    """Multiply-accumulates of one run, counted on tensors without content."""
    with torch.device("meta"):
        net = PEERS[name][0]().eval()
        clip = torch.zeros(1, net.frames, 3, net.size_px, net.size_px)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(clip)
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_has_its_published_size(name: str) -> None:
    """Parameters within a hundredth, multiply-accumulates within a twentieth."""
    make, macs, parameters = PEERS[name]
    with torch.device("meta"):
        net = make()
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(parameters, rel=0.01)
    assert count_macs(name) == pytest.approx(macs, rel=0.05)


class Peer:
    """A network that sees the window's frames, evenly spaced, and runs as a whole at each decision."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(0)
        net, self.macs = PEERS[name][0]().eval(), count_macs(name)
        self.frames, self.size_px = net.frames, net.size_px
        clip = torch.zeros(1, self.frames, 3, self.size_px, self.size_px)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "peer.onnx"
            torch.onnx.export(
                net, (clip,), path, dynamo=True, opset_version=20, input_names=["frame"], verbose=False
            )
            self._session = onnxruntime.InferenceSession(
                str(path), settings, providers=["CPUExecutionProvider"]
            )
        self._clip = np.zeros(tuple(clip.shape), np.float32)

    def decide(self, window: list[NDArray[np.uint8]]) -> None:
        """Crop the window's frames and run the network."""
        for row, k in enumerate(np.linspace(0, len(window) - 1, self.frames).round().astype(int)):
            height, width = window[k].shape[:2]
            _native.resize_area(
                window[k], (0, 0, width, height), self._clip[0, row], (0.45,) * 3, (0.225,) * 3, False
            )
        self._session.run(None, {"frame": self._clip})


def time_peer(name: str, frames: list[NDArray[np.uint8]], period: int, decisions: int) -> tuple[float, float]:
    """Median milliseconds of a decision, and its multiply-accumulates."""
    peer, count = Peer(name), round(WINDOW_S * 1e9 / period)
    spent = []
    for i in range(decisions + 1):
        window = frames[i : i + count]
        start = time.thread_time()
        peer.decide(window)
        spent.append((time.thread_time() - start) * 1e3)
    return statistics.median(spent[1:]), peer.macs


def time_stream(
    push: Callable[[NDArray[np.uint8], int], object],
    macs: Callable[[], int],
    frames: list[NDArray[np.uint8]],
    period: int,
) -> tuple[float, float]:
    """Milliseconds and multiply-accumulates of a decision: all that pushing costs beyond the first window, divided."""
    warm = round((WINDOW_S + HOP_S) * 1e9 / period)
    for i in range(warm):
        push(frames[i], i * period)
    before, start = macs(), time.thread_time()
    for i in range(warm, len(frames)):
        push(frames[i], i * period)
    decisions = (len(frames) - warm) * period / 1e9 / HOP_S
    return (time.thread_time() - start) * 1e3 / decisions, (macs() - before) / decisions


def rows(clip: Path, bundles: list[Bundle]) -> list[tuple[str, float, float]]:
    """Name, milliseconds and multiply-accumulates a decision."""
    frames, period = read_clip(clip, SECONDS, still=False)
    still, _ = read_clip(clip, SECONDS, still=True)
    found = []
    for bundle in bundles:
        weights = ", random weights" if bundle.manifest.random_weights else ""
        name = f"{bundle.spec.preset}{weights}"
        found.append((f"{name}: its graphs on every window", *time_naive(bundle, frames, period)))
        for gates, pictures, what in (
            ("open", frames, "streaming, ungated"), ("auto", frames, "streaming, gated"),
            ("auto", still, "streaming, gated, nothing moves"),
        ):  # fmt: skip
            found.append((f"{name}: {what}", *time_ours(bundle, gates, pictures, period)))
    found += [(f"{n}, random weights: on every window", *time_peer(n, frames, period, 3)) for n in PEERS]
    return found


def time_naive(bundle: Bundle, frames: list[NDArray[np.uint8]], period: int) -> tuple[float, float]:
    """The bundle's graphs on every window."""
    naive = Naive(bundle, threads=1)
    return time_stream(naive.push, lambda: naive.macs, frames, period)


def time_ours(
    bundle: Bundle, gates: str, frames: list[NDArray[np.uint8]], period: int
) -> tuple[float, float]:
    """The runtime."""
    session = Session(bundle, gates=gates, period_ns=period, options=EngineOptions(1))
    return time_stream(
        lambda image, t_ns: session.push(Frame(image, t_ns, 0)), lambda: session._total.macs, frames, period
    )


def write_table(found: list[tuple[str, float, float]], clip: Path) -> str:
    """Markdown, with ratios to the first row."""
    base, environment = found[0], describe_environment()
    lines = [
        "| | GMAC a decision | ms a decision | GMAC a second of video | ms a second of video | time, first row = 1 |",
        "|---|---|---|---|---|---|",
    ]
    for name, ms, macs in found:
        lines.append(
            f"| {name} | {macs / 1e9:.2f} | {ms:.0f} | {macs / HOP_S / 1e9:.2f} | {ms / HOP_S:.0f} | "
            f"{ms / base[1]:.2f} |"
        )
    return "\n".join(lines) + (
        f"\n\n{clip.name}, {SECONDS:g} s, a decision every {HOP_S:g} s on a window of {WINDOW_S:g} s; ONNX Runtime "
        f"{environment['tools'].get('onnxruntime')}, fp32, one thread, thread CPU time, frames in memory; "
        f"{environment['cpu']}, Python {environment['python']}.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--write", type=Path, help="put the table between the marks of this Markdown file")
    arguments = parser.parse_args()
    text = write_table(rows(arguments.clip, [Bundle.open(b) for b in arguments.bundles]), arguments.clip)
    print(text)
    if arguments.write:
        before, _, rest = arguments.write.read_text().partition("<!-- table -->\n")
        after = rest.partition("<!-- end -->")[2]
        arguments.write.write_text(f"{before}<!-- table -->\n{text}<!-- end -->{after}")


if __name__ == "__main__":
    main()

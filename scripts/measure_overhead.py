"""What a frame costs beside decoding and engines: sampler, gates, caches, decisions, events and their JSON.

    python scripts/measure_overhead.py BUNDLE VIDEO [--size 1280x720] [--frames 450]

Processor time of this process, not wall time, so that other programs on the machine count little. VIDEO is rewritten
at the size asked for, 30 frames a second, H.264, and read back through the runtime's own source.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vidprism_edge.bundle import Arrays, Bundle
from vidprism_edge.runtimes.engines import Engine, EngineOptions, load_engines
from vidprism_edge.runtimes.streaming.events import EventDetector
from vidprism_edge.runtimes.streaming.session import Session
from vidprism_edge.runtimes.streaming.source import open_source

FPS = 30
FRAME_MS = 1000.0 / FPS


class Timed(Engine):
    """An engine whose processor time is added up for all graphs."""

    spent_s = 0.0

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.graph)
        self._engine = engine

    def infer_impl(self, inputs: Mapping[str, npt.NDArray[np.float32]]) -> Arrays:
        start = time.process_time()
        outputs = self._engine.infer_impl(inputs)
        Timed.spent_s += time.process_time() - start
        return outputs


def rewrite(video: Path, output: Path, width: int, height: int, count: int) -> None:
    """``count`` frames of a video, forwards and backwards, enlarged."""
    import av

    source = open_source(str(video))
    images = []
    while (frame := source.read()) is not None and len(images) < count:
        images.append(frame.image)
    source.close()
    turn = images + images[-2:0:-1]
    with av.open(str(output), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.options = {"preset": "veryfast"}
        for k in range(count):
            large = cv2.resize(turn[k % len(turn)], (width, height), interpolation=cv2.INTER_CUBIC)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(large, format="bgr24")))
        container.mux(stream.encode())


def measure(bundle: Bundle, video: Path, gates: str) -> dict[str, float]:
    """Milliseconds of processor time a frame, by what they are spent on."""
    import msgspec

    engines = {n: Timed(e) for n, e in load_engines(bundle, "onnxruntime", EngineOptions(1)).items()}
    source = open_source(str(video))
    session = Session(bundle, engine=engines, gates=gates, period_ns=source.period_ns)
    events = EventDetector(bundle.spec.events, bundle.spec.labels)
    decode_s = work_s = convert_s = 0.0
    count, Timed.spent_s = 0, 0.0
    while True:
        start = time.process_time()
        frame = source.read()
        read = time.process_time()
        if frame is None:
            break
        decode_s += read - start
        for prediction in session.push(frame) or []:
            events.update(prediction)
            msgspec.json.encode(prediction.as_json())
        work_s += time.process_time() - read
        if count < 100:  # the planes go to the native core as they are; this is what showing them would cost
            start = time.process_time()
            _ = frame.image
            convert_s += time.process_time() - start
        count += 1
    source.close()
    session.finish()
    return {
        "decode": decode_s / count * 1e3,
        "to BGR, where shown": convert_s / min(count, 100) * 1e3,
        "engines": Timed.spent_s / count * 1e3,
        "all else": (work_s - Timed.spent_s) / count * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--frames", type=int, default=450)
    a = parser.parse_args()
    width, height = map(int, a.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "large.mp4"
        rewrite(a.video, video, width, height, a.frames)
        found = {gates: measure(Bundle.open(a.bundle), video, gates) for gates in ("open", "auto")}
    print(f"| {a.video.name} at {a.size}, ms a frame | gates open | share of 33.3 ms | gates auto | share |")
    print("|---|---|---|---|---|")
    for what in found["open"]:
        cells = [f"{found[g][what]:.2f} | {found[g][what] / FRAME_MS:.1%}" for g in ("open", "auto")]
        print(f"| {what} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

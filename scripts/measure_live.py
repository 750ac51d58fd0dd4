"""Clips of people left out through a camera in real time, near and far: writes docs/results/live.md.

The clips lie in the middle of a picture four times as wide and high, whose rest is their border drawn out; crops of
it at ×1 (the person is about a sixth of the height), ×2 and ×4 (nearly the whole height) are what the camera shows,
in 640 × 480. Frames come through the live source (reader thread, watchdog), paced by the clock, to the bundle of the
fold that has not seen the person. Label of a clip: argmax of the mean logits over its ready decisions; `none` is wrong.

    python scripts/measure_live.py --work DIR --data DIR [--folds 1,2,3,4,5,6] [--cameras 4]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np

from vidprism_edge.bundle import Bundle
from vidprism_edge.calibration.data import Clip, Reader, read_dataset
from vidprism_edge.calibration.evaluation import label_clip
from vidprism_edge.errors import SourceError
from vidprism_edge.runtimes.engines import EngineOptions
from vidprism_edge.runtimes.streaming.session import Session
from vidprism_edge.runtimes.streaming.source_decode import Picture
from vidprism_edge.runtimes.streaming.source_live import LiveSource

ROOT = Path(__file__).resolve().parents[1]
ZOOMS = (1, 2, 4)
WIDE, SIZE = 4, (640, 480)


def show(image: np.ndarray, zoom: int) -> np.ndarray:
    """What a camera sees of the scene, uint8 [480, 640, 3]: the clip's picture is ``zoom`` / 4 of its width."""
    height, width = image.shape[:2]
    share = WIDE / zoom
    rows, columns = round((share - 1) / 2 * height), round((share - 1) / 2 * width)
    scene = cv2.copyMakeBorder(image, rows, rows, columns, columns, cv2.BORDER_REPLICATE)
    return cv2.resize(scene, SIZE, interpolation=cv2.INTER_AREA if zoom < WIDE else cv2.INTER_LINEAR)


class Camera:
    """A connection that shows a clip as time passes, with a sensor's noise."""

    def __init__(self, clip: Clip, zoom: int) -> None:
        self._pictures = [(f.t_ns, show(f.image, zoom)) for f in clip.frames]
        self._rng = np.random.default_rng(zoom)
        self._start_ns = time.monotonic_ns()

    def read(self) -> Picture | None:
        if not self._pictures:
            return None
        t_ns, picture = self._pictures.pop(0)
        due = self._start_ns + t_ns
        time.sleep(max(0, due - time.monotonic_ns()) / 1e9)
        noise = self._rng.normal(0.0, 1.0, picture.shape)
        return Picture(np.clip(picture + noise, 0, 255).astype(np.uint8), due)

    def close(self) -> None:
        self._pictures.clear()


def watch(bundle: Bundle, clip: Clip, zoom: int) -> bool:
    """Play one clip → whether its label was right."""
    session = Session(bundle, options=EngineOptions(1), period_ns=clip.period_ns)
    source = LiveSource("camera", lambda: Camera(clip, zoom), max_reconnects=0)
    made = []
    try:
        while (frame := source.read()) is not None:
            made += session.push(frame) or []
    except SourceError:
        # the clip is over, and the camera does not come back
        made += session.finish()
    finally:
        source.close()
    return label_clip(made, bundle.spec.labels) == clip.entry.label


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folds", default="1,2,3,4,5,6")
    parser.add_argument("--cameras", type=int, default=4)
    options = parser.parse_args()
    data = read_dataset(options.data)
    folds = options.folds.split(",")
    right: dict[int, list[list[bool]]] = {zoom: [] for zoom in ZOOMS}
    for fold in folds:
        bundle = Bundle.open(options.work / f"fold{fold}.vpbundle")
        clips = list(Reader().read(data.pick([fold]).entries))
        with ThreadPoolExecutor(options.cameras) as pool:
            for zoom in ZOOMS:
                found = list(pool.map(watch, repeat(bundle), clips, repeat(zoom)))
                right[zoom].append(found)
                print(fold, f"×{zoom}", np.mean(found), flush=True)
    write(folds, right, options.cameras)


def write(folds: Sequence[str], right: dict[int, list[list[bool]]], cameras: int) -> None:
    """The table."""
    lines = ["# Live, near and far", "", (__doc__ or "").split("\n\n")[1].replace("\n", " "), ""]
    lines += [
        f"{cameras} cameras at once, one process, ONNX Runtime, one thread a graph. No webcam was there: the camera "
        "is made, the source, its threads and the clock are real.",
        "",
        f"| left-out subject | {' | '.join(f'×{zoom}' for zoom in right)} |",
        f"|---|{'---|' * len(right)}",
    ]
    for i, fold in enumerate(folds):
        lines.append(f"| {fold} | {' | '.join(f'{np.mean(found[i]):.0%}' for found in right.values())} |")
    means = [np.mean([ok for part in found for ok in part]) for found in right.values()]
    lines.append(f"| all | {' | '.join(f'{m:.1%}' for m in means)} |")
    lines += ["", "```sh", "python scripts/measure_live.py --work WORK --data DATA", "```"]
    (ROOT / "docs" / "results" / "live.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

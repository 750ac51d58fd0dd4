"""Tiny real videos: a bright square that goes left or right over a pattern, and one that only flickers."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

FPS = 15
SIZE = (128, 96)


def write_clip(
    path: Path, kind: str, *, seed: int = 0, seconds: float = 3.0, still_s: float = 0.6, rest_s: float = 0.0
) -> None:
    """``kind``: left, right or flicker. The first ``still_s`` and the last ``rest_s`` seconds are still."""
    rng = np.random.default_rng(seed)
    width, height = SIZE
    background = (
        rng.integers(60, 120, (height // 8, width // 8, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    )
    row = 30 + int(rng.integers(0, 20))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS, options={"qscale": "2"})
        stream.width, stream.height = SIZE
        count = round(seconds * FPS)
        for i in range(count):
            picture = background.copy()
            done = min(1.0, max(0.0, (i / FPS - still_s) / (seconds - still_s - rest_s)))
            if kind == "flicker":
                picture[row : row + 20, 50:70] = 250 if (i // 2) % 2 and done else 20
            else:
                x = round((0.1 + 0.6 * (done if kind == "right" else 1 - done)) * width)
                picture[row : row + 20, x : x + 20] = 250
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def write_folder(folder: Path, *, subjects: int = 2, kinds: tuple[str, ...] = ("left", "right")) -> Path:
    """A data set with one clip of each kind for each subject."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path,label,subject"]
    for subject in range(1, subjects + 1):
        for kind in kinds:
            name = f"{kind}_{subject}.mp4"
            write_clip(folder / name, kind, seed=subject)
            lines.append(f"{name},{kind},{subject}")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    return folder

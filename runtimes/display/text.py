"""Text in a picture: OpenCV 5's fonts where they are, the strokes of OpenCV 4 otherwise."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

_ASCII = {"×": "x", "…": "...", "–": "-", "·": "|", "≥": ">=", "µ": "u"}


@lru_cache(maxsize=1)
def _face() -> Any:
    """Return OpenCV 5's sans face, None on OpenCV 4. Kept: the face caches its glyphs."""
    import cv2

    return cv2.FontFace("sans") if hasattr(cv2, "FontFace") else None


def _stroke(text: str, size: int, bold: bool) -> tuple[str, float, int]:
    """Return what OpenCV 4 takes: text in ASCII, scale and thickness for ``size`` pixels."""
    for sign, plain in _ASCII.items():
        text = text.replace(sign, plain)
    text = text.encode("ascii", "replace").decode()
    return text, size / 30, max(1, round(size / (10 if bold else 16)))


def width(text: str, size: int, bold: bool = False) -> int:
    """Return the width in pixels of one line of ``text`` at ``size`` pixels."""
    import cv2

    face = _face()
    if face is None:
        plain, scale, thickness = _stroke(text, size, bold)
        return int(cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)[0][0])
    # an empty picture size: nothing wraps
    x, _y, w, _h = cv2.getTextSize((0, 0), text, (0, 0), face, size, 700 if bold else 400)
    return int(x + w)


def shorten(text: str, size: int, limit: int, bold: bool = False) -> str:
    """Return ``text``, cut with … where it is wider than ``limit`` pixels; empty where not even that fits."""
    if width(text, size, bold) <= limit:
        return text
    fits, end = 0, len(text)
    while end - fits > 1:
        middle = (fits + end) // 2
        if width(text[:middle].rstrip() + "…", size, bold) <= limit:
            fits = middle
        else:
            end = middle
    return text[:fits].rstrip() + "…" if fits else ""


def put(
    image: np.ndarray,
    text: str,
    x: int,
    baseline: int,
    size: int,
    colour: tuple[int, int, int],
    bold: bool = False,
) -> None:
    """Draw one line of ``text`` into ``image`` (uint8 [H, W, 3]) from ``x`` on its ``baseline``."""
    import cv2

    if not text:
        return
    face = _face()
    if face is None:
        plain, scale, thickness = _stroke(text, size, bold)
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(image, plain, (x, baseline), font, scale, colour, thickness, cv2.LINE_AA)
    else:
        cv2.putText(image, text, (x, baseline), colour, face, size, weight=700 if bold else 400)

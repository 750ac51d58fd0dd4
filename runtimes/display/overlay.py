"""A frame as a person wants to see it: labels, followed boxes, and which expert ran and why another did not."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vidprism_edge.runtimes.display import text
from vidprism_edge.runtimes.display.palette import (
    ACCENT,
    COLOURS,
    GREY,
    WARNING,
    bgr,
    colour_of,
    duration_text,
    macs_text,
    percent_text,
    rate_text,
    reason_text,
)
from vidprism_edge.runtimes.streaming.prediction import UNTRAINED, Prediction

#: The picture is enlarged to at least this, so that text in it can be read.
LEAST_WIDTH, LEAST_HEIGHT = 640, 360
#: A narrow picture is not enlarged beyond this height; bars at its sides fill the width.
_MOST_HEIGHT = 1080
TOP = 3

_INK = bgr("#F4F5F7")
_SOFT = bgr("#B4B9C2")
_DARK = bgr("#101216")
_PANEL = bgr("#15171C")
_STRIP = bgr("#1B1E24")
_OFF = bgr("#2A2E36")


class Placement(NamedTuple):
    """Where the source picture lies in the drawn one: pixel = offset + scale · source pixel."""

    scale: float
    left: int
    top: int
    width: int
    height: int

    def box(self, box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """Return the corners (left, top, right, bottom) of a source box (x, y, w, h), clamped to the picture."""
        x, y, w, h = box
        right, bottom = self.left + self.width - 1, self.top + self.height - 1
        return (
            int(np.clip(round(self.left + x * self.scale), self.left, right)),
            int(np.clip(round(self.top + y * self.scale), self.top, bottom)),
            int(np.clip(round(self.left + (x + w) * self.scale) - 1, self.left, right)),
            int(np.clip(round(self.top + (y + h) * self.scale) - 1, self.top, bottom)),
        )


def draw(
    image_bgr: np.ndarray,
    prediction: Prediction | None,
    *,
    fps: float,
    latency_ms: float | None,
    always_on_macs: float | None = None,
) -> np.ndarray:
    """Return a new picture: the frame with what ``prediction`` says, and below it one badge per expert.

    ``image_bgr``: uint8 [H, W, 3] of any size; it is not changed. A small frame is enlarged to at least 640 x 360.
    ``prediction`` is None before the first decision. ``latency_ms`` is the age of the decision when it was made, None
    where that means nothing. ``always_on_macs``: what a decision costs with every gate open.

    Raises ValueError for anything but an uint8 picture.
    """
    if image_bgr.dtype != np.uint8 or image_bgr.ndim != 3 or image_bgr.shape[2] != 3 or not image_bgr.size:
        raise ValueError(
            f"got {image_bgr.dtype} {list(image_bgr.shape)}, expected uint8 [H, W, 3], not empty"
        )
    place, width, height = _place(image_bgr)
    unit = max(1.0, min(width / 960, height / 540))
    strip = _strip(width, prediction, unit)
    drawn = np.empty((height + strip.shape[0], width, 3), np.uint8)
    canvas, drawn[height:] = drawn[:height], strip
    _fit(image_bgr, canvas, place)
    if prediction is not None:
        _boxes(canvas, place, prediction, unit)
    _labels(canvas, prediction, unit)
    _speed(canvas, prediction, unit, fps, latency_ms, always_on_macs)
    return drawn


def _place(image: np.ndarray) -> tuple[Placement, int, int]:
    """Return where ``image`` lies in a canvas that is large enough to be read, and the canvas's width and height."""
    height, width = image.shape[:2]
    scale = max(1.0, min(LEAST_WIDTH / width, max(1.0, _MOST_HEIGHT / height)))
    w, h = round(width * scale), round(height * scale)
    wide, high = max(w, LEAST_WIDTH), max(h, LEAST_HEIGHT)
    return Placement(scale, (wide - w) // 2, (high - h) // 2, w, h), wide, high


def _fit(image: np.ndarray, canvas: np.ndarray, place: Placement) -> None:
    """Draw ``image`` into ``canvas`` where ``place`` says, with bars around it."""
    import cv2

    if (place.height, place.width) != canvas.shape[:2]:
        canvas[:] = _STRIP
    size = (place.width, place.height)
    fitted = image if place.scale == 1 else cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    canvas[place.top : place.top + place.height, place.left : place.left + place.width] = fitted


def _rounded(
    image: np.ndarray,
    box: tuple[int, int, int, int],
    radius: int,
    colour: tuple[int, int, int],
    opacity: float = 1.0,
) -> None:
    """Fill the rounded rectangle ``box`` (left, top, width, height) in ``image``."""
    import cv2

    x, y, w, h = box
    if w <= 0 or h <= 0:
        return
    radius = min(radius, w // 2, h // 2)
    patch = image[y : y + h, x : x + w]
    layer = patch.copy()
    h, w = layer.shape[:2]
    cv2.rectangle(layer, (radius, 0), (w - 1 - radius, h - 1), colour, cv2.FILLED)
    cv2.rectangle(layer, (0, radius), (w - 1, h - 1 - radius), colour, cv2.FILLED)
    for cx in (radius, w - 1 - radius):
        for cy in (radius, h - 1 - radius):
            cv2.circle(layer, (cx, cy), radius, colour, cv2.FILLED, cv2.LINE_AA)
    patch[:] = layer if opacity >= 1 else cv2.addWeighted(layer, opacity, patch, 1 - opacity, 0)


def _pixels(unit: float) -> Callable[[float], int]:
    """Return the function that turns design units into pixels."""
    return lambda value: round(value * unit)


def _boxes(canvas: np.ndarray, place: Placement, prediction: Prediction, unit: float) -> None:
    """Draw the followed boxes, each in its expert's colour with its name at a corner of its own."""
    import cv2

    px = _pixels(unit)
    line, size, pad = max(2, px(2)), px(12), px(4)
    order = [*COLOURS, *prediction.boxes]
    followed = [(name, box) for name, box in prediction.boxes.items() if box is not None]
    followed.sort(key=lambda item: order.index(item[0]))
    tags = []
    for index, (name, box) in enumerate(followed):
        x0, y0, x1, y1 = place.box(box)
        inset = index * (line + 1)  # experts that follow the same box stay visible side by side
        x0, y0, x1, y1 = x0 + inset, y0 + inset, max(x0 + inset, x1 - inset), max(y0 + inset, y1 - inset)
        cv2.rectangle(canvas, (x0, y0), (x1, y1), _DARK, line + 2, cv2.LINE_AA)
        cv2.rectangle(canvas, (x0, y0), (x1, y1), bgr(colour_of(name)), line, cv2.LINE_AA)
        wide, high = text.width(name, size, True) + 2 * pad, size + pad
        if x1 - x0 >= wide + 2 * pad and y1 - y0 >= 3 * high:
            # a corner each; the third goes between the others where there is room, else to the top
            middle = index == 2 and x1 - x0 >= 4 * wide
            x = (x0 + x1 - wide) // 2 if middle else x0 if index % 2 == 0 else x1 - wide
            tags.append((name, x, y1 - high if index < 2 or middle else y0, wide, high))
    for name, x, y, wide, high in tags:
        _rounded(canvas, (x, y, wide, high), 0, bgr(colour_of(name)))
        text.put(canvas, name, x + pad, y + high - pad, size, _DARK, True)


def _labels(canvas: np.ndarray, prediction: Prediction | None, unit: float) -> None:
    """Draw the panel of the best labels with a bar each, and what to think of them."""
    px = _pixels(unit)
    pad, size, row = px(10), px(15), px(26)
    pills = []
    if prediction is None:
        pills = [("waiting for the first decision", GREY)]
    else:
        if prediction.partial:
            pills.append(("short clip", GREY))
        elif not prediction.ready:
            pills.append(("warming up", GREY))
        if not prediction.trained:
            pills.insert(0, (UNTRAINED if pills else f"{UNTRAINED}: labels mean nothing yet", WARNING))
    best = sorted(prediction.scores.items(), key=lambda item: -item[1])[:TOP] if prediction else []
    wide, pill_row = min(px(300), canvas.shape[1] // 2), px(24) if pills else 0
    high = 2 * pad + pill_row + row * len(best) - (px(6) if best else px(4))
    left = top = px(10)
    _rounded(canvas, (left, top, wide, high), px(10), _PANEL, 0.78)
    x, y, inner = left + pad, top + pad, wide - 2 * pad
    pill_x = x
    for words, colour in pills:
        words = text.shorten(words, px(12), x + inner - pill_x - px(12), True)
        if words:
            pill_wide = text.width(words, px(12), True) + px(12)
            _rounded(canvas, (pill_x, y, pill_wide, px(18)), px(9), bgr(colour))
            text.put(canvas, words, pill_x + px(6), y + px(13), px(12), _DARK, True)
            pill_x += pill_wide + px(6)
    y += pill_row
    sure = prediction is not None and prediction.trained and prediction.ready
    for rank, (label, score) in enumerate(best):
        shade = bgr(ACCENT if sure and rank == 0 else GREY)
        share = percent_text(score)
        filled = round(inner * min(1.0, max(0.0, score)))  # max in this order also takes a NaN to 0
        share_wide = text.width(share, size, rank == 0)
        ink = _INK if rank == 0 else _SOFT
        label = text.shorten(label, size, inner - share_wide - px(8), rank == 0)
        text.put(canvas, label, x, y + px(13), size, ink, rank == 0)
        text.put(canvas, share, x + inner - share_wide, y + px(13), size, ink, rank == 0)
        _rounded(canvas, (x, y + px(18), inner, px(3)), px(1), _OFF)
        _rounded(canvas, (x, y + px(18), filled, px(3)), px(1), shade)
        y += row


def _speed(
    canvas: np.ndarray,
    prediction: Prediction | None,
    unit: float,
    fps: float,
    latency_ms: float | None,
    always_on_macs: float | None,
) -> None:
    """Draw the chip at the right: frames a second, latency, and what the last decision cost."""
    px = _pixels(unit)
    pad, size = px(10), px(13)
    lines = [f"{fps:.1f} fps" + ("" if latency_ms is None else f"  ·  {duration_text(latency_ms)} latency")]
    share = None
    if prediction is not None:
        lines.append(macs_text(prediction.macs))
        if always_on_macs:
            share = prediction.macs / always_on_macs
            lines[-1] += f"  ·  {percent_text(share)} of always-on"
    lines = [text.shorten(line, size, canvas.shape[1] // 2 - px(50)) for line in lines]
    wide = max(text.width(line, size) for line in lines) + 2 * pad
    high = pad + len(lines) * px(18) + (px(10) if share is not None else px(4))
    left, top = canvas.shape[1] - px(10) - wide, px(10)
    _rounded(canvas, (left, top, wide, high), px(10), _PANEL, 0.78)
    y = top + pad
    for line in lines:
        text.put(canvas, line, left + wide - pad - text.width(line, size), y + px(12), size, _INK)
        y += px(18)
    if share is not None:
        inner = wide - 2 * pad
        _rounded(canvas, (left + pad, y + px(2), inner, px(3)), px(1), _OFF)
        _rounded(canvas, (left + pad, y + px(2), round(inner * min(1.0, share)), px(3)), px(1), bgr(ACCENT))


def _strip(width: int, prediction: Prediction | None, unit: float) -> np.ndarray:
    """Return the strip below the picture: a badge per expert, lit where it ran since the decision before."""
    px = _pixels(unit)
    gap, high = px(8), px(48)
    strip = np.full((high + 2 * gap, width, 3), _STRIP, np.uint8)
    wide = (width - gap * (len(COLOURS) + 1)) // len(COLOURS)
    for index, name in enumerate(COLOURS):
        left = gap + index * (wide + gap)
        runs = prediction.experts_fired.get(name, 0) if prediction else 0
        lit = runs > 0
        _rounded(strip, (left, gap, wide, high), px(9), bgr(colour_of(name)) if lit else _OFF)
        if not lit:
            # a grey badge keeps a bar of its colour, so that it can be matched with its box
            _rounded(strip, (left + px(6), gap + px(10), px(4), high - px(20)), px(2), bgr(colour_of(name)))
        x, inner = left + px(16), wide - px(26)
        first, second = (_DARK, _DARK) if lit else (_INK, _SOFT)
        rate = prediction.rates_hz.get(name) if prediction else None
        right = "" if rate is None else rate_text(rate)
        right_wide = text.width(right, px(13)) if right else 0
        heading = text.shorten(name, px(15), inner - right_wide - px(6), True)
        text.put(strip, heading, x, gap + px(20), px(15), first, True)
        text.put(strip, right, x + inner - right_wide, gap + px(20), px(13), second)
        text.put(
            strip, text.shorten(_state(prediction, name), px(13), inner), x, gap + px(38), px(13), second
        )
    return strip


def _state(prediction: Prediction | None, name: str) -> str:
    """Return what an expert did since the decision before, in words."""
    if prediction is None:
        return "–"
    runs = prediction.experts_fired.get(name, 0)
    if not runs:
        return reason_text(prediction.skipped.get(name, ""))
    words = "1 run" if runs == 1 else f"{runs} runs"
    age = prediction.ages_ms.get(name)
    if age is None:
        return words
    return f"{words}, just now" if age < 1 else f"{words}, {duration_text(age)} ago"

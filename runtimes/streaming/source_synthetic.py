"""A deterministic picture made by arithmetic, for tests and for measurements without a camera."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np

from vidprism_edge.errors import SourceError
from vidprism_edge.runtimes.streaming.source import CountedSource, Frame

DEFAULT_SIZE = (640, 480)
DEFAULT_RATE = Fraction(30)
# seconds: of each cycle the first part is still, then objects cross the picture
CYCLE_S, IDLE_S = 4, Fraction(3, 2)
MAX_SIDE_PX = 8192
_FORM = re.compile(r"synthetic:(\d+(?:\.\d+)?)(?::(\d+)x(\d+)(?:@(\d+(?:\.\d+)?))?)?")


class SyntheticSource(CountedSource):
    """Three textured squares over a still, textured background; the same pixels on every machine.

    Each cycle of 4 s starts with 1.5 s in which nothing moves and all frames are bit-identical. Frame k is
    at k / rate seconds, rounded to a nanosecond. ``loop`` never ends.
    """

    def __init__(
        self, name: str, seconds: Fraction, size: tuple[int, int], rate: Fraction, *, loop: bool = False
    ) -> None:
        super().__init__(name, round(10**9 / rate))
        self._rate = rate
        self._frames = None if loop else max(1, int(seconds * rate))
        self._closed = False
        width, height = size
        coarse = _noise((height // 32 + 2, width // 32 + 2, 3), 1, 40, 200)
        grain = _noise((height, width, 1), 2, 0, 24)
        # enlarged by repetition: exact on every machine, unlike an interpolation
        self._background = coarse.repeat(32, 0).repeat(32, 1)[:height, :width] + grain
        side = max(1, min(width, height) // 5)
        step = -(-side // 4)
        tiles = _noise((3, 4, 4, 3), 3, 0, 256)
        self._objects = [tile.repeat(step, 0).repeat(step, 1)[:side, :side] for tile in tiles]

    def read(self) -> Frame | None:
        """Return the next frame, None after the last."""
        k = self._index
        if self._closed or (self._frames is not None and k >= self._frames):
            return None
        image = self._background.copy()
        moving = self._moving_s(k)
        for number, tile in enumerate(self._objects):
            self._paste(image, tile, number, moving)
        t_ns = round(k * 10**9 / self._rate)
        return self._frame(image, t_ns)

    def _moving_s(self, k: int) -> Fraction:
        """Seconds of motion there were up to frame ``k``: the squares' own clock, which stops when idle."""
        cycles, rest = divmod(k / self._rate, CYCLE_S)
        return cycles * (CYCLE_S - IDLE_S) + max(Fraction(0), rest - IDLE_S)

    @staticmethod
    def _paste(image: np.ndarray, tile: np.ndarray, number: int, moving_s: Fraction) -> None:
        """Put a square where it is after ``moving_s``: there and back along its own straight line."""
        height, width = image.shape[0] - tile.shape[0], image.shape[1] - tile.shape[1]
        x = _swing(moving_s * Fraction(2 + number, 8) + Fraction(number, 5), width)
        y = _swing(moving_s * Fraction(1 + number, 9) + Fraction(number + 1, 4), height)
        image[y : y + tile.shape[0], x : x + tile.shape[1]] = tile

    def close(self) -> None:
        """End the source."""
        self._closed = True


def _noise(shape: tuple[int, ...], seed: int, low: int, high: int) -> np.ndarray:
    """Return uint8 values in low..high-1, scrambled from their place: no generator whose stream may change."""
    values = np.arange(np.prod(shape), dtype=np.uint32) + np.uint32(seed << 24)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        values = (values ^ (values >> np.uint32(shift))) * np.uint32(factor)
    values ^= values >> np.uint32(16)
    scaled: np.ndarray = (low + values % np.uint32(high - low)).astype(np.uint8)
    return scaled.reshape(shape)


def _swing(phase: Fraction, span: int) -> int:
    """Return a position in 0..span that goes there and back once while ``phase`` grows by 2."""
    phase = phase % 2
    return int(min(phase, 2 - phase) * span)


def open_synthetic(source: str, *, loop: bool = False, **_: object) -> SyntheticSource:
    """Open ``"synthetic:SECONDS[:WIDTHxHEIGHT[@FPS]]"``. Raises SourceError for any other form."""
    match = _FORM.fullmatch(source)
    if match is None:
        raise SourceError(
            f"source {source!r} is not understood; expected synthetic:SECONDS[:WIDTHxHEIGHT[@FPS]], "
            "for example synthetic:10:640x480@30"
        )
    seconds = Fraction(match[1])
    size = (int(match[2]), int(match[3])) if match[2] else DEFAULT_SIZE
    rate = Fraction(match[4]) if match[4] else DEFAULT_RATE
    if seconds <= 0 or not 1 <= min(size) <= max(size) <= MAX_SIDE_PX or not 0 < rate <= 1000:
        raise SourceError(
            f"source {source!r} is out of range; expected more than 0 seconds, sides of 1 to {MAX_SIDE_PX} "
            "pixels and up to 1000 frames a second"
        )
    return SyntheticSource(source, seconds, size, rate, loop=loop)

"""Every kernel set gives what the scalar one gives, bit for bit: formats, sizes around the vectors, strides, crops.

Hypothesis drives the shapes and prints what it takes to see a failure again; the pixels come from the seed in the case.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vidprism_edge.runtimes import _native

CHANNELS = {"bgr24": 3, "rgb24": 3, "gray8": 1, "nv12": 1, "i420": 1, "yuyv": 2}
AROUND_VECTORS = [1, 2, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 95, 128, 129, 191, 192, 193, 320, 485]  # fmt: skip
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


def plane(rng: np.random.Generator, shape: tuple[int, ...], padding: int, upwards: bool) -> NDArray[np.uint8]:
    """Bytes of which a fifth are the largest, with `padding` bytes behind each row, perhaps the last row first."""
    row = int(np.prod(shape[1:]))
    memory = rng.integers(0, 256, (shape[0], row + padding), dtype=np.uint8)
    memory[rng.random(memory.shape) < 0.2] = 255
    view = memory[::-1] if upwards else memory
    inner = (shape[2], 1) if len(shape) == 3 else (1,)
    return np.lib.stride_tricks.as_strided(view, shape, (view.strides[0], *inner))


def frame_of(fmt: str, height: int, width: int, seed: int, padding: int, upwards: bool) -> Any:
    rng = np.random.default_rng(seed)
    half = (-(-height // 2), -(-width // 2))
    if CHANNELS[fmt] > 1:
        return plane(rng, (height, width, CHANNELS[fmt]), padding, upwards)
    y = plane(rng, (height, width), padding, upwards)
    if fmt == "nv12":
        return y, plane(rng, (*half, 2), padding, upwards)
    if fmt == "i420":
        return y, plane(rng, half, padding, not upwards), plane(rng, half, padding, upwards)
    return y


@st.composite
def cases(draw: st.DrawFn) -> tuple:
    fmt = draw(st.sampled_from(sorted(CHANNELS)))
    width = draw(st.one_of(st.sampled_from(AROUND_VECTORS), st.integers(1, 400)))
    width += width % 2 if fmt == "yuyv" else 0
    height = draw(st.one_of(st.sampled_from([1, 15, 16, 17, 33]), st.integers(1, 90)))
    w, h = draw(st.integers(1, width)), draw(st.integers(1, height))
    box = draw(st.integers(0, width - w)), draw(st.integers(0, height - h)), w, h
    size = draw(st.integers(max(2, -(-max(width, height) // 128)), 70))
    return (
        fmt,
        (height, width),
        box,
        size,
        draw(st.integers(0, 40)),
        draw(st.booleans()),
        draw(st.integers(0, 2**31)),
    )


def outputs(frame: Any, fmt: Any, shape: tuple[int, int], box: tuple, size: int) -> list[NDArray]:
    """A crop as floats and as bytes, and of two frames pushed: the ring and the statistics of both motions."""
    floats = np.full((3, size, size), np.nan, np.float32)
    _native.resize_area(frame, box, floats, MEAN, STD, False, format=fmt)
    levels = np.empty((size, size, 3), np.uint8)
    _native.resize_area_u8(frame, levels, box=box, format=fmt)
    found: list[NDArray] = [levels, floats]
    for motion in ("exact", "averaged"):
        ring = np.full((4, 1, 3, size, size), np.nan, np.float32)
        stats = np.empty((3, -(-shape[0] // 16), -(-shape[1] // 16)), np.float32)
        sampler = _native.Sampler([(size, 30000, 1, 2, MEAN, STD, True)], [ring], small_px=0, motion=motion)
        sampler.set_boxes(0, [box])
        for i in range(2):
            sampler.push(frame, i * 33_333_334, stats, format=fmt)
        assert np.array_equal(ring[:2], ring[2:])
        found += [ring, stats]
    return found


@settings(max_examples=100, deadline=None, print_blob=True)
@example(case=("bgr24", (33, 485), (1, 2, 480, 30), 21, 7, True, 5))
@example(case=("yuyv", (17, 322), (3, 0, 317, 17), 30, 1, False, 6))
@given(case=cases())
def test_every_set_is_the_scalar_one(case: tuple) -> None:
    fmt, shape, box, size, padding, upwards, seed = case
    frame = frame_of(fmt, shape[0], shape[1], seed, padding, upwards)
    before = _native.simd_selected()
    try:
        _native.simd_select("scalar")
        wanted = outputs(frame, fmt, shape, box, size)
        for name in _native.simd_available():
            _native.simd_select(name)
            for got, reference in zip(outputs(frame, fmt, shape, box, size), wanted, strict=True):
                assert np.array_equal(got, reference), name
    finally:
        _native.simd_select(before)


def test_a_stream_is_its_single_crop(kernels: str) -> None:
    """Sums made column by column beside the luma are those of the whole width, wherever the box begins and ends."""
    frame = plane(np.random.default_rng(1), (70, 1000, 3), 0, False)
    for x, w in ((0, 1000), (1, 998), (319, 64), (320, 321), (640, 360), (999, 1)):
        ring, wanted = np.empty((2, 1, 3, 24, 24), np.float32), np.empty((3, 24, 24), np.float32)
        sampler = _native.Sampler([(24, 15000, 1, 1, MEAN, STD, False)], [ring], small_px=0)
        sampler.set_boxes(0, [(x, 3, w, 60)])
        sampler.push(frame, 0, None)
        _native.resize_area(frame, (x, 3, w, 60), wanted, MEAN, STD, False)
        assert np.array_equal(ring[0, 0], wanted), (x, w)

"""Crops and resizes against the definition in float64: the mean over each output pixel's exact area."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vidprism_edge.runtimes import _native

LEVEL = 0.1  # grey levels
PLAIN = ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))  # the output is in grey levels


def coverage(source: int, n: int) -> NDArray[np.float64]:
    """Row i: the share of each source pixel in output i. The overlap of two intervals, all at once."""
    low = np.arange(n)[:, None] * source / n
    high = (np.arange(n)[:, None] + 1) * source / n
    pixel = np.arange(source)[None, :]
    overlap = np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None)
    return overlap / (source / n)


def content(box: tuple[int, int, int, int], size: int, letterbox: bool) -> tuple[int, int]:
    if not letterbox:
        return size, size
    longer = max(box[2:])
    return tuple(max(1, int(np.floor(side * size / longer + 0.5))) for side in box[2:])  # type: ignore[return-value]


def reference(
    frame: NDArray[np.uint8], box: tuple[int, int, int, int], size: int, letterbox: bool
) -> NDArray:
    """Planar R, G, B in grey levels; 0 outside the letterbox."""
    x, y, w, h = box
    cw, ch = content(box, size, letterbox)
    ox, oy = (size - cw) // 2, (size - ch) // 2
    crop = frame[y : y + h, x : x + w].astype(np.float64)
    picture = np.einsum("iy,yxc,jx->cij", coverage(h, ch), crop, coverage(w, cw), optimize=True)
    out = np.zeros((3, size, size))
    out[:, oy : oy + ch, ox : ox + cw] = picture[::-1]
    return out


def resized(
    frame: NDArray, box: tuple[int, int, int, int], size: int, letterbox: bool
) -> NDArray[np.float32]:
    out = np.full((3, size, size), np.nan, np.float32)
    _native.resize_area(frame, box, out, *PLAIN, letterbox)
    return out


def pixels(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """Noise, hard edges and flat parts."""
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    frame[rng.random((height, width)) < 0.3] = 255
    frame[: height // 3] = rng.integers(0, 2, (height // 3, width, 3)) * 255
    return frame


def strided(frame: NDArray[np.uint8], padding: int, flip: bool) -> NDArray[np.uint8]:
    """The same picture with another stride: padded rows, or rows that run upwards in memory."""
    height, width, _ = frame.shape
    memory = np.full(height * (width * 3 + padding), 77, np.uint8).reshape(height, -1)
    view = memory[::-1] if flip else memory
    view[:, : width * 3] = frame.reshape(height, -1)
    rows = np.lib.stride_tricks.as_strided(view, (height, width, 3), (view.strides[0], 3, 1))
    assert np.array_equal(rows, frame)
    return rows


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, int, int, tuple[int, int, int, int], int, bool, int, bool]:
    width, height = draw(st.integers(1, 150)), draw(st.integers(1, 150))
    w, h = draw(st.integers(1, width)), draw(st.integers(1, height))
    x = draw(st.sampled_from([0, width - w, (width - w) // 2]))
    y = draw(st.sampled_from([0, height - h, (height - h) // 2]))
    size = draw(st.integers(2, 130))
    return (
        draw(st.integers(0, 2**31)), height, width, (x, y, w, h), size,
        draw(st.booleans()), draw(st.integers(0, 9)), draw(st.booleans()),
    )  # fmt: skip


@settings(max_examples=120, deadline=None, print_blob=True)
@given(case=cases())
def test_random_crops(case: tuple) -> None:
    seed, height, width, box, size, letterbox, padding, flip = case
    frame = pixels(seed, height, width)
    wanted = reference(frame, box, size, letterbox)
    for name in _native.simd_available():
        _native.simd_select(name)
        got = resized(strided(frame, padding, flip), box, size, letterbox)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=LEVEL, err_msg=name)
    _native.simd_select(_native.simd_available()[0])


@pytest.mark.parametrize(
    ("shape", "size"),
    [((720, 1280), 112), ((720, 1280), 224), ((1080, 1920), 160), ((481, 641), 112), ((2160, 3840), 112)],
)
def test_the_sizes_in_use(shape: tuple[int, int], size: int) -> None:
    frame = pixels(3, *shape)
    whole = (0, 0, shape[1], shape[0])
    for letterbox in (False, True):
        wanted = reference(frame, whole, size, letterbox)
        for name in _native.simd_available():
            _native.simd_select(name)
            assert np.abs(resized(frame, whole, size, letterbox) - wanted).max() < LEVEL
    _native.simd_select(_native.simd_available()[0])


@pytest.mark.parametrize("width", [1, 2, 5, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 127])
def test_widths_around_the_vectors(kernels: str, width: int) -> None:
    frame = pixels(width, 40, width)
    for size in (1, 2, 7, 16, 17, 40, 128):
        wanted = reference(frame, (0, 0, width, 40), size, False)
        assert np.abs(resized(frame, (0, 0, width, 40), size, False) - wanted).max() < LEVEL


def test_crops_at_every_border(kernels: str) -> None:
    frame = pixels(9, 90, 120)
    for w, h in ((33, 47), (64, 64), (119, 89), (5, 3)):
        for x in (0, 1, 120 - w - 1, 120 - w):
            for y in (0, 1, 90 - h - 1, 90 - h):
                wanted = reference(frame, (x, y, w, h), 56, True)
                assert np.abs(resized(frame, (x, y, w, h), 56, True) - wanted).max() < LEVEL


def test_extremes_of_white_and_black(kernels: str) -> None:
    for value in (0, 255):
        frame = np.full((301, 517, 3), value, np.uint8)
        for size in (8, 112, 516, 600):
            assert np.abs(resized(frame, (0, 0, 517, 301), size, False) - value).max() < 0.02


def test_channels_are_red_green_blue_and_normalised(kernels: str) -> None:
    frame = np.zeros((30, 40, 3), np.uint8)
    frame[:] = (10, 100, 200)  # B, G, R
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    out = np.empty((3, 16, 16), np.float32)
    _native.resize_area(frame, (0, 0, 40, 30), out, mean, std, False)
    wanted = (np.array([200, 100, 10]) / 255 - mean) / std
    np.testing.assert_allclose(out[:, 5, 5], wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "size"), [((90, 160), (45, 80)), ((97, 131), (31, 57)), ((20, 20), (33, 41))]
)
def test_bytes_are_rounded(kernels: str, shape: tuple[int, int], size: tuple[int, int]) -> None:
    frame = pixels(4, *shape)
    out = np.empty((*size, 3), np.uint8)
    _native.resize_area_u8(frame, out)
    wanted = np.einsum(
        "iy,yxc,jx->ijc", coverage(shape[0], size[0]), frame.astype(float), coverage(shape[1], size[1])
    )
    assert np.abs(out - wanted).max() <= 0.5 + LEVEL


def test_a_half_is_rounded_up(kernels: str) -> None:
    frame = np.zeros((2, 2, 3), np.uint8)
    frame[0, 0] = 2  # mean 0.5
    out = np.empty((1, 1, 3), np.uint8)
    _native.resize_area_u8(frame, out)
    assert out.tolist() == [[[1, 1, 1]]]


def test_the_same_size_is_a_copy(kernels: str) -> None:
    for shape in ((1, 1), (3, 5), (97, 131), (33, 64)):
        frame = pixels(6, *shape)
        out = np.empty((*shape, 3), np.uint8)
        _native.resize_area_u8(strided(frame, 5, True), out)
        assert np.array_equal(out, frame)


def test_every_kernel_set_gives_the_same_bits() -> None:
    rng = np.random.default_rng(11)
    for _ in range(60):
        height, width = (int(v) for v in rng.integers(1, 200, 2))
        frame = pixels(int(rng.integers(1 << 30)), height, width)
        box, size, letterbox = (0, 0, width, height), int(rng.integers(2, 140)), bool(rng.integers(2))
        out_shape = tuple(int(v) for v in rng.integers(2, 60, 2))
        floats, bytes_ = [], []
        for name in _native.simd_available():
            _native.simd_select(name)
            floats.append(resized(frame, box, size, letterbox))
            small = np.empty((*out_shape, 3), np.uint8)
            _native.resize_area_u8(frame, small)
            bytes_.append(small)
        for f, b in zip(floats, bytes_, strict=True):
            assert np.array_equal(f, floats[-1])
            assert np.array_equal(b, bytes_[-1])
    _native.simd_select(_native.simd_available()[0])

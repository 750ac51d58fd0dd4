"""Antialiased bicubic is Pillow's, bit for bit, horizontally first.

CLIP and its kin were trained when Pillow always resized horizontally first. Pillow 13 goes vertically first where the
height shrinks by more pixels than the width; asked for one side after the other, all versions give the same bytes.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from vidprism_edge.runtimes import _native


def pixels(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    frame[rng.random((height, width)) < 0.3] = rng.integers(0, 2) * 255  # overshoots
    return frame


def pillow(
    frame: NDArray[np.uint8], box: tuple[int, int, int, int], size: tuple[int, int]
) -> NDArray[np.uint8]:
    x, y, w, h = box
    picture = Image.fromarray(np.ascontiguousarray(frame[y : y + h, x : x + w]))
    bicubic = Image.Resampling.BICUBIC
    resized = np.asarray(picture.resize((size[1], h), bicubic).resize((size[1], size[0]), bicubic))
    if h - size[0] <= w - size[1]:
        assert np.array_equal(resized, np.asarray(picture.resize((size[1], size[0]), bicubic)))
    return resized


@settings(max_examples=200, deadline=None, print_blob=True)
@given(
    seed=st.integers(0, 2**31), width=st.integers(1, 200), height=st.integers(1, 200),
    out=st.tuples(st.integers(2, 90), st.integers(2, 90)), crop=st.booleans(), flip=st.booleans(),
)  # fmt: skip
def test_200_random_sizes_and_pictures(
    seed: int, width: int, height: int, out: tuple[int, int], crop: bool, flip: bool
) -> None:
    frame = pixels(seed, height, width)
    frame = frame[::-1] if flip else frame
    box = (
        (width // 4, height // 3, max(1, width // 2), max(1, height // 2)) if crop else (0, 0, width, height)
    )
    got = np.empty((*out, 3), np.uint8)
    _native.resize_bicubic_u8(frame, got, box=box)
    assert np.array_equal(got, pillow(frame, box, out))


@pytest.mark.parametrize("shape", [(720, 1280), (481, 641), (224, 224), (100, 60)])
def test_the_224_stream_is_pillow_normalised(kernels: str, shape: tuple[int, int]) -> None:
    frame = pixels(1, *shape)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    ring = np.zeros((4, 1, 3, 224, 224), np.float32)
    sampler = _native.Sampler([(224, 2000, 1, 2, mean, std, False, "bicubic")], [ring], small_px=0)
    sampler.push(frame, 0, None)
    rgb = pillow(frame, (0, 0, shape[1], shape[0]), (224, 224))[..., ::-1].astype(np.float64)
    wanted = (rgb / 255 - mean) / std
    np.testing.assert_allclose(ring[0, 0].transpose(1, 2, 0), wanted, atol=2e-6)
    assert np.array_equal(ring[0], ring[2])


def test_letterbox_and_rgb() -> None:
    frame = pixels(4, 60, 120)
    out, swapped = np.empty((3, 64, 64), np.float32), np.empty((3, 64, 64), np.float32)
    plain = ((0, 0, 0), (1 / 255,) * 3)
    _native.resize_bicubic(frame, (0, 0, 120, 60), out, *plain, True)
    _native.resize_bicubic(frame[..., ::-1].copy(), (0, 0, 120, 60), swapped, *plain, True, format="rgb24")
    wanted = np.zeros((64, 64, 3))
    wanted[16:48] = pillow(frame, (0, 0, 120, 60), (32, 64))[..., ::-1]
    np.testing.assert_allclose(out.transpose(1, 2, 0), wanted, atol=1e-4)
    assert np.array_equal(out, swapped)


def test_yuv_is_converted_first() -> None:
    y = np.random.default_rng(0).integers(0, 256, (48, 64), dtype=np.uint8)
    grey = (y, np.full((24, 32, 2), 128, np.uint8))
    out, wanted = np.empty((20, 20, 3), np.uint8), np.empty((20, 20, 3), np.uint8)
    _native.resize_bicubic_u8(grey, out, format="nv12", full_range=True)
    _native.resize_bicubic_u8(y, wanted, format="gray8")
    assert np.array_equal(out, wanted)


def test_an_unknown_resampler() -> None:
    with pytest.raises(ValueError, match="resample: given 'lanczos'; expected one of 'area', 'bicubic'"):
        _native.Sampler(
            [(8, 1000, 1, 1, (0,) * 3, (1,) * 3, True, "lanczos")], [np.zeros((2, 1, 3, 8, 8), np.float32)]
        )

"""RGB24, GRAY8, NV12, I420 and YUYV against a float64 reference: average Y, U, V over the exact area, then convert."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vidprism_edge.runtimes import _native

LEVEL = 0.1  # grey levels
PLAIN = ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
YUV = ("nv12", "i420", "yuyv")


def coverage(start: int, length: int, total: int, n: int) -> NDArray[np.float64]:
    """Row i: the share of each of `total` pixels in output i of [start, start + length)."""
    low = start + np.arange(n)[:, None] * length / n
    high = start + (np.arange(n)[:, None] + 1) * length / n
    pixel = np.arange(total)[None, :]
    return np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None) / (length / n)


def noise(seed: int, *shape: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, shape, dtype=np.uint8)
    values[rng.random(shape) < 0.2] = 255
    return values


def make(fmt: str, height: int, width: int, seed: int) -> tuple[object, NDArray[np.float64]]:
    """What the core takes, and the full-size [H, W, 3] Y, U, V (or R, G, B) that it stands for."""
    ch, cw = -(-height // 2), -(-width // 2)
    y = noise(seed, height, width)
    if fmt == "gray8":
        return y, np.repeat(y[..., None], 3, 2).astype(np.float64)
    if fmt in ("bgr24", "rgb24"):
        rgb = noise(seed, height, width, 3)
        return (rgb if fmt == "rgb24" else np.ascontiguousarray(rgb[..., ::-1])), rgb.astype(np.float64)
    if fmt == "yuyv":
        frame, uv = np.empty((height, width, 2), np.uint8), noise(seed + 1, height, cw, 2)
        frame[..., 0] = y
        frame[..., 1] = uv.reshape(height, width)
        chroma = np.repeat(uv, 2, axis=1)
    else:
        uv = noise(seed + 1, ch, cw, 2)
        frame = (y, uv) if fmt == "nv12" else (y, uv[..., 0].copy(), uv[..., 1].copy())  # type: ignore[assignment]
        chroma = np.repeat(np.repeat(uv, 2, axis=0), 2, axis=1)[:height, :width]
    return frame, np.concatenate([y[..., None], chroma], axis=2).astype(np.float64)


def to_rgb(yuv: NDArray[np.float64], matrix: str, full_range: bool) -> NDArray[np.float64]:
    """ITU-R BT.601-7 and BT.709-6, clipped to 0 .. 255."""
    kr, kb = (0.2126, 0.0722) if matrix == "bt709" else (0.299, 0.114)
    y, u, v = yuv[..., 0], yuv[..., 1] - 128, yuv[..., 2] - 128
    if not full_range:
        y, u, v = (y - 16) * 255 / 219, u * 255 / 224, v * 255 / 224
    r, b = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    g = (y - kr * r - kb * b) / (1 - kr - kb)
    return np.clip(np.stack([r, g, b], axis=-1), 0, 255)


def reference(
    source: NDArray[np.float64],
    fmt: str,
    box: tuple[int, int, int, int],
    size: tuple[int, int],
    **how: object,
) -> NDArray[np.float64]:
    x, y, w, h = box
    down, across = coverage(y, h, source.shape[0], size[0]), coverage(x, w, source.shape[1], size[1])
    mean = np.einsum("iy,yxc,jx->ijc", down, source, across, optimize=True)
    return to_rgb(mean, **how) if fmt in YUV else mean  # type: ignore[arg-type]


@st.composite
def cases(draw: st.DrawFn) -> tuple:
    fmt = draw(st.sampled_from(["rgb24", "gray8", *YUV]))
    width, height = draw(st.integers(1, 110)), draw(st.integers(1, 110))
    if fmt == "yuyv":
        width += width % 2
    w, h = draw(st.integers(1, width)), draw(st.integers(1, height))
    x, y = draw(st.integers(0, width - w)), draw(st.integers(0, height - h))
    how = {"matrix": draw(st.sampled_from(["bt601", "bt709"])), "full_range": draw(st.booleans())}
    return fmt, (height, width), (x, y, w, h), draw(st.integers(2, 70)), how, draw(st.integers(0, 2**31))


@settings(max_examples=200, deadline=None, print_blob=True)
@given(case=cases())
def test_random_crops(case: tuple) -> None:
    fmt, (height, width), box, size, how, seed = case
    frame, source = make(fmt, height, width, seed)
    wanted = reference(source, fmt, box, (size, size), **how).transpose(2, 0, 1)
    outputs = []
    for name in _native.simd_available():
        _native.simd_select(name)
        out = np.full((3, size, size), np.nan, np.float32)
        _native.resize_area(frame, box, out, *PLAIN, False, format=fmt, **how)
        np.testing.assert_allclose(out, wanted, rtol=0, atol=LEVEL, err_msg=name)
        outputs.append(out)
    _native.simd_select(_native.simd_available()[0])
    assert all(np.array_equal(out, outputs[0]) for out in outputs)


@pytest.mark.parametrize("fmt", ["bgr24", "rgb24", "gray8", *YUV])
def test_small_frames_and_normalised_streams(kernels: str, fmt: str) -> None:
    frame, source = make(fmt, 90, 122, 5)
    mean, std = (0.1, 0.5, 0.7), (0.2, 0.3, 0.4)
    ring = np.zeros((4, 1, 3, 32, 32), np.float32)
    sampler = _native.Sampler([(32, 15000, 1, 2, mean, std, False)], [ring], small_px=61)
    sampler.push(frame, 0, None, format=fmt)
    how = {"matrix": "bt601", "full_range": False}
    rgb = reference(source, fmt, (0, 0, 122, 90), (32, 32), **how)
    np.testing.assert_allclose(
        ring[0, 0].transpose(1, 2, 0), (rgb / 255 - mean) / std, atol=LEVEL / 255 / 0.2
    )
    assert sampler.small_shape == (45, 61)
    out = np.empty((45, 61, 3), np.uint8)
    _native.resize_area_u8(frame, out, format=fmt)
    wanted = reference(source, fmt, (0, 0, 122, 90), (45, 61), **how)
    assert np.abs(out[..., ::-1] - wanted).max() <= 0.5 + LEVEL


@pytest.mark.parametrize("motion", ["exact", "averaged"])
@pytest.mark.parametrize("fmt", ["gray8", *YUV])
def test_luma_is_y_as_it_stands(kernels: str, fmt: str, motion: str) -> None:
    frame, source = make(fmt, 50, 70, 3)
    y = source[..., 0].astype(int)
    if motion == "averaged":
        four = y[np.minimum(np.arange(13)[:, None] * 4 + np.arange(4), 49)]
        y = ((four[:, 0] + four[:, 1] + 1) // 2 + (four[:, 2] + four[:, 3] + 1) // 2 + 1) // 2
    luma, stats = np.empty(y.shape, np.uint8), np.empty((3, 4, 5), np.float32)
    _native.block_stats(frame, None, luma, stats, format=fmt, motion=motion)
    assert np.array_equal(luma, y)
    assert stats[2, 0, 0] == pytest.approx(y[: 4 if motion == "averaged" else 16, :16].mean())


def test_one_array_and_planes_are_the_same() -> None:
    whole = noise(7, 90, 80)  # 60 rows of Y, 30 of chroma
    y = whole[:60]
    planes = {
        "nv12": (y, whole[60:]),
        "i420": (y, whole[60:75].reshape(30, 40), whole[75:].reshape(30, 40)),
    }
    for fmt, parts in planes.items():
        one, several = np.empty((3, 24, 24), np.float32), np.empty((3, 24, 24), np.float32)
        _native.resize_area(whole, (3, 5, 70, 50), one, *PLAIN, True, format=fmt)
        _native.resize_area(parts, (3, 5, 70, 50), several, *PLAIN, True, format=fmt)
        assert np.array_equal(one, several)


def test_planes_may_be_padded_or_upside_down() -> None:
    y, uv = noise(1, 40, 64)[:, :50], noise(2, 20, 32, 2)[:, :25]
    a, b = np.empty((3, 16, 16), np.float32), np.empty((3, 16, 16), np.float32)
    _native.resize_area((y, uv), (0, 0, 50, 40), a, *PLAIN, False, format="nv12")
    _native.resize_area((y.copy(), uv.copy()), (0, 0, 50, 40), b, *PLAIN, False, format="nv12")
    assert np.array_equal(a, b)
    _native.resize_area((y[::-1], uv[::-1]), (0, 0, 50, 40), b, *PLAIN, False, format="nv12")
    np.testing.assert_allclose(a[:, ::-1], b, atol=LEVEL)


def test_averaged_motion_of_the_sampler_is_that_of_block_stats(kernels: str) -> None:
    rng = np.random.default_rng(1)
    sampler = _native.Sampler([], [], small_px=0, motion="averaged")
    previous = None
    for i in range(4):
        frame = rng.integers(0, 256, (51, 70, 3), dtype=np.uint8)
        got, wanted, luma = (
            np.empty((3, 4, 5), np.float32),
            np.empty((3, 4, 5), np.float32),
            np.empty((13, 70), np.uint8),
        )
        sampler.push(frame, i * 40_000_000, got)
        _native.block_stats(frame, previous, luma, wanted, motion="averaged")
        assert np.array_equal(got, wanted)
        previous = luma


def test_averaged_motion_sees_a_faint_object_as_well_as_the_exact_one() -> None:
    """A square of 3 levels moves under noise of 4 levels: the blocks that it touches against those that it does not."""
    rng = np.random.default_rng(0)
    d_prime = {}
    for motion in ("exact", "averaged"):
        sampler = _native.Sampler([], [], small_px=0, motion=motion)
        stats, inside, outside = np.empty((3, 12, 16), np.float32), [], []
        for i in range(40):
            frame = np.full((192, 256), 120.0)
            x = 32 + 4 * (i % 30)
            frame[64:128, x : x + 64] += 12
            noisy = np.clip(frame + rng.normal(0, 4, frame.shape), 0, 255).round().astype(np.uint8)
            sampler.push(np.repeat(noisy[..., None], 3, 2), i * 40_000_000, stats)
            if i % 30:
                edge = (x + 64) // 16
                inside += list(stats[0, 4:8, edge])
                outside += list(stats[0, 0:3].ravel())
        d_prime[motion] = (np.mean(inside) - np.mean(outside)) / np.std(outside)
    assert d_prime["averaged"] > 0.9 * d_prime["exact"]


def test_another_format_is_a_reset() -> None:
    sampler = _native.Sampler([], [])
    frame, _ = make("nv12", 40, 60, 0)
    assert sampler.push(frame, 0, None, format="nv12")[0] == _native.RESET_START
    assert sampler.push(frame, 40_000_000, None, format="nv12")[0] == _native.OK
    assert sampler.push(noise(0, 40, 60, 3), 80_000_000, None)[0] == _native.RESET_SIZE


@pytest.mark.parametrize(
    ("frame", "fmt", "words"),
    [
        (noise(0, 40, 60, 3), "bgr", "format: given 'bgr'; expected one of 'bgr24', 'rgb24'"),
        (noise(0, 40, 60, 3), "nv12", r"frame: given .*expected Y uint8 \[H, W\] and UV"),
        (noise(0, 40, 61, 2), "yuyv", "frame: given .*even W"),
        (noise(0, 41, 60), "nv12", "frame: given .*of even sides"),
        ((noise(0, 40, 60),), "nv12", "given 1 planes"),
        ((noise(0, 40, 60), noise(0, 20, 59)), "nv12", "frame: given .*shape"),
        ((noise(0, 40, 60), noise(0, 20, 30), noise(0, 19, 30)), "i420", "frame: given .*shape"),
        ((noise(0, 40, 60), None), "nv12", "frame: given .*expected a numpy array"),
        (noise(0, 40, 60, 3), "gray8", "frame: given .*shape"),
    ],
)
def test_bad_frames(frame: object, fmt: str, words: str) -> None:
    sampler = _native.Sampler([], [])
    with pytest.raises(ValueError, match=words):
        sampler.push(frame, 0, None, format=fmt)

"""A decoder's planes go to the native core as they are, and give the picture that people see."""

from __future__ import annotations

import numpy as np
import pytest

from vidprism_edge.runtimes import _native
from vidprism_edge.runtimes.streaming.picture import YuvPicture, describe_layout, take_pixels
from vidprism_edge.runtimes.streaming.source import Frame, open_source

av = pytest.importorskip("av")


def make_frame(shape=(96, 130), form="yuv420p", full=False, matrix=5):
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    smooth = [128 + 80 * np.sin(x / 17 + c) * np.cos(y / 13 - c) for c in range(3)]
    frame = av.VideoFrame.from_ndarray(np.stack(smooth, axis=2).round().astype(np.uint8), format="rgb24")
    return frame.reformat(
        format=form, dst_colorspace=matrix, dst_color_range=2 if full else 1, src_color_range=2
    )


@pytest.mark.parametrize("form", ["yuv420p", "yuvj420p", "nv12"])
@pytest.mark.parametrize("matrix", [1, 5], ids=["bt709", "bt601"])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("shape", [(96, 130), (95, 131), (2, 2)])
def test_the_planes_give_the_picture_that_people_see(form, matrix, full, shape):
    """The core on the planes and the core on FFmpeg's BGR differ by what 4:2:0 and rounding allow."""
    pixels = take_pixels(make_frame(shape, form, full or form == "yuvj420p", matrix))
    assert isinstance(pixels, YuvPicture)
    assert pixels.shape == (*shape, 3)
    out = np.empty((2, 3, 32, 32), np.float32)
    box = (0, 0, shape[1], shape[0])
    for target, picture in zip(out, (pixels, pixels.to_bgr()), strict=True):
        planes, layout = describe_layout(picture)
        _native.resize_area(planes, box, target, (0, 0, 0), (1 / 255,) * 3, False, **layout)
    # FFmpeg's quick conversion rounds down by up to two levels, which only a mean over many pixels hides
    assert np.abs(out[0] - out[1]).mean() < (3 if shape == (2, 2) else 1.5)
    assert out[1].std() > 5 or shape == (2, 2)


def test_what_the_core_cannot_read_is_converted():
    for form in ("yuv422p", "yuv444p", "rgb24", "gray"):
        pixels = take_pixels(make_frame(form=form))
        assert isinstance(pixels, np.ndarray)
        assert pixels.shape == (96, 130, 3)


def test_an_image_is_the_consumers_to_draw_on():
    frame = Frame(take_pixels(make_frame()), 0, 0)
    before = [plane.copy() for plane in frame.pixels.planes]
    frame.image[:] = 0
    assert all(np.array_equal(a, b) for a, b in zip(before, frame.pixels.planes, strict=True))
    assert frame.image.max() > 0


def test_files_are_sampled_from_the_decoders_planes(real_clip):
    source = open_source(str(real_clip))
    frame = source.read()
    source.close()
    assert isinstance(frame.pixels, YuvPicture)
    # the planes outlive the decoder
    assert frame.pixels.luma.std() > 10

"""GStreamer: NV12 from the pipe of a real ``gst-launch-1.0`` with a made-up picture and a software decoder."""

from __future__ import annotations

import shutil
import subprocess
import time

import numpy as np
import pytest

from vidprism_edge.errors import SourceError
from vidprism_edge.runtimes.streaming import source_gstreamer as module
from vidprism_edge.runtimes.streaming.picture import YuvPicture
from vidprism_edge.runtimes.streaming.sampler import StreamSampler
from vidprism_edge.runtimes.streaming.source import open_source
from vidprism_edge.runtimes.streaming.source_gstreamer import Caps, make_pipeline, read_caps

CAPS = (
    "/GstPipeline:pipeline0/GstCapsFilter:vpe.GstPad:src: caps = video/x-raw, format=(string)NV12, width=(int)322, "
    "height=(int)241, framerate=(fraction)30/1, interlace-mode=(string)progressive, colorimetry=(string)bt709"
)


def need(*elements):
    """Skip where GStreamer or one of its elements is missing."""
    if shutil.which(module.PROGRAM) is None:
        pytest.skip("needs gst-launch-1.0: apt-get install gstreamer1.0-tools gstreamer1.0-plugins-base")
    for element in elements:
        if subprocess.run(["gst-inspect-1.0", "--exists", element], check=False).returncode:
            pytest.skip(f"this GStreamer has no {element}")


def test_the_data_name_every_element_that_a_pipeline_names():
    for name, kind in module.list_kinds().items():
        parts = [part.split()[0] for part in kind.pipeline.split("!")]
        elements = {part for part in parts if not part.startswith("video/")}
        assert elements <= {element for of_package in kind.needs.values() for element in of_package}, name


def test_what_this_machine_has_is_told_by_gstreamer_itself():
    need("videotestsrc", "videoconvert")
    kinds = module.list_kinds()
    assert module.find_missing(kinds["gsttest"]) == {}
    made_up = module.Kind("", {}, {"some-package": ("videoconvert", "nosuchelement")}, "")
    assert module.find_missing(made_up) == {"some-package": ["nosuchelement"]}


def test_caps_are_read_from_what_the_program_tells():
    caps = read_caps(CAPS)
    assert caps == Caps(322, 241, "bt709", False)
    assert (caps.stride, caps.rows, caps.size_bytes) == (324, 242, 324 * 363)
    assert read_caps(CAPS.replace("bt709", "bt601")).matrix == "bt601"
    assert read_caps(CAPS.replace("(string)bt709", "(string)1:4:0:0")).full_range
    assert read_caps(CAPS.replace("vpe", "other")) is None


def test_names_stand_for_pipelines_and_values_stay_values():
    words = make_pipeline("csi://1?width=1920&height=1080&fps=60")
    assert words[:2] == ["nvarguscamerasrc", "sensor-id=1"]
    assert "video/x-raw(memory:NVMM),width=1920,height=1080,framerate=60/1" in words
    words = make_pipeline("nvdec:a b ! filesink.mp4")
    assert words[1].startswith("uri=file:///")
    assert words[1].endswith("a%20b%20%21%20filesink.mp4")
    assert "nvv4l2decoder" in words
    assert make_pipeline("nvdec:rtsp://cam/1")[1] == "uri=rtsp://cam/1"
    assert make_pipeline('gst:videotestsrc ! identity name="a b"') == [
        "videotestsrc",
        "!",
        "identity",
        "name=a b",
    ]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("gst:", "has no pipeline"),
        ('gst:a "b', "check its quotes"),
        ("csi://one", "expected its number"),
        ("csi://0?widht=3", "widht is not known; expected width, height, fps"),
        ("csi://0?width=0", "expected a positive whole number"),
    ],
)
def test_a_name_that_means_nothing_is_refused(source, says):
    with pytest.raises(SourceError, match=says):
        open_source(source)


def test_a_missing_program_says_what_to_install(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    with pytest.raises(SourceError, match=r"apt-get install gstreamer1\.0-tools"):
        open_source("gsttest:ball")


@pytest.mark.parametrize(("width", "height"), [(320, 240), (322, 242)])
def test_the_planes_are_the_picture_that_was_drawn(width, height):
    need("videotestsrc", "videoconvert")
    with open_source(f"gsttest:smpte?width={width}&height={height}&fps=30") as source:
        frames = [source.read() for _ in range(4)]
    assert all(isinstance(f.pixels, YuvPicture) for f in frames)
    assert frames[0].pixels.layout["format"] == "nv12"
    assert all(b.t_ns > a.t_ns for a, b in zip(frames, frames[1:], strict=False))
    image = frames[-1].image
    assert image.shape == (height, width, 3)
    # SMPTE bars from the left: white, yellow, cyan, green, magenta, red, blue
    bars = [image[height // 3, int((i + 0.5) * width / 7)].astype(int) for i in range(7)]
    expected = [
        (255, 255, 255),
        (0, 255, 255),
        (255, 255, 0),
        (0, 255, 0),
        (255, 0, 255),
        (0, 0, 255),
        (255, 0, 0),
    ]
    assert np.abs(np.array(bars) - expected).max() <= 6


def test_a_software_decoder_and_the_native_core(tiny_spec):
    need("jpegenc", "jpegdec", "videoconvert")
    pipeline = (
        "gst:videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=30/1 ! jpegenc ! "
        "jpegdec ! videoconvert"
    )
    from vidprism_edge.runtimes.streaming.policy import ContentPolicy

    sampler = StreamSampler(tiny_spec, ContentPolicy(tiny_spec), period_ns=33_333_333)
    with open_source(pipeline) as source:
        pushes = [sampler.push(frame.pixels, frame.t_ns) for frame in (source.read() for _ in range(8))]
    points = [point for push in pushes for point in push.points]
    assert points
    assert all(np.isfinite(p.pixels).all() for p in points if p.pixels is not None)


def test_a_pipeline_that_fails_tells_the_programs_own_words():
    need("videotestsrc")
    with pytest.raises(SourceError, match="no element"):
        open_source("gst:nosuchelement ! videoconvert").read()


def test_closing_ends_the_program():
    need("videotestsrc", "videoconvert")
    connection = module.GStreamerConnection(make_pipeline("gsttest:ball"), "test", read_timeout_s=20)
    assert connection.read() is not None
    start = time.monotonic()
    connection.close()
    assert connection._process.returncode is not None
    assert time.monotonic() - start < 30


def test_a_pipeline_that_ends_gives_none():
    need("videotestsrc", "videoconvert")
    words = ["videotestsrc", "num-buffers=2", "!", "video/x-raw,width=64,height=48", "!", "videoconvert"]
    connection = module.GStreamerConnection(words, "test", read_timeout_s=20)
    try:
        pictures = [connection.read() for _ in range(3)]
    finally:
        connection.close()
    assert pictures[-1] is None
    assert pictures[0].pixels.shape == (48, 64, 3)

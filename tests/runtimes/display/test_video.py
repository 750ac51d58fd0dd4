"""The written video: its times, sizes and what is left when something goes wrong."""

from __future__ import annotations

import os

import av
import numpy as np
import pytest

from vidprism_edge.errors import UsageError
from vidprism_edge.runtimes.display import video
from vidprism_edge.runtimes.display.video import VideoWriter, fit

MS = 1_000_000
#: 30 fps with a pause of two seconds and milliseconds that are rounded.
TIMES = [7_000 * MS + t * MS for t in (0, 33, 67, 100, 2100, 2133, 2167, 2200)]


def read(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert container.duration is not None
        return [(frame.time, frame.to_ndarray(format="bgr24")) for frame in container.decode(stream)]


def shade(value: int, height: int = 120, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture(params=["libx264", "mpeg4"])
def encoder(request, monkeypatch):
    if request.param == "mpeg4":
        monkeypatch.setattr(video, "_encoder", lambda: ("mpeg4", {"qscale": "4"}))
    return request.param


@pytest.mark.parametrize("extension", [".mp4", ".mov", ".mkv", ".MP4"])
def test_the_times_come_back(tmp_path, encoder, extension):
    path = tmp_path / f"out{extension}"
    with VideoWriter(path, 30) as writer:
        for t_ns in TIMES:
            writer.write(shade(90), t_ns)
        assert writer.codec == encoder
        assert writer.frames == len(TIMES)
        assert not path.exists()
    assert os.listdir(tmp_path) == [path.name]
    times = [time for time, _ in read(path)]
    assert times == pytest.approx([(t - TIMES[0]) / 1e9 for t in TIMES], abs=1e-3)


@pytest.mark.parametrize("extension", [".mp4", ".mkv"])
def test_the_last_picture_stays_for_one_period(tmp_path, extension):
    path = tmp_path / f"out{extension}"
    with VideoWriter(path, 25) as writer:
        writer.write(shade(90), 0)
        writer.write(shade(90), 1000 * MS)
    with av.open(str(path)) as container:
        assert container.duration == pytest.approx(1_040_000, abs=2000)


@pytest.mark.parametrize("extension", [".mp4", ".mkv"])
def test_times_that_stand_still_or_run_back_still_go_forward_in_the_file(tmp_path, extension):
    path = tmp_path / f"out{extension}"
    with VideoWriter(path, 30) as writer:
        for t in (100, 100, 50, 200):
            writer.write(shade(90), t * MS)
    times = [time for time, _ in read(path)]
    assert len(times) == 4
    assert all(a < b for a, b in zip(times, times[1:], strict=False))
    assert times[-1] == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (121, 161), (120, 161), (2, 2)])
def test_the_size_is_made_even(tmp_path, encoder, size):
    path = tmp_path / "out.mp4"
    with VideoWriter(path, 30) as writer:
        writer.write(shade(200, *size), 0)
        assert writer.size == (max(2, size[1] + size[1] % 2), max(2, size[0] + size[0] % 2))
    ((_, image),) = read(path)
    assert image.shape[:2] == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    assert np.abs(image.astype(int) - 200).max() < 12  # no dark row or column


def test_another_size_is_fitted_in_with_bars(tmp_path):
    path = tmp_path / "out.mp4"
    with VideoWriter(path, 30) as writer:
        writer.write(shade(200, 120, 160), 0)
        writer.write(shade(200, 300, 100), 33 * MS)  # tall: 40 pixels wide
        writer.write(shade(200, 30, 80), 67 * MS)  # wide: 60 pixels high
    images = [image for _, image in read(path)]
    assert {image.shape for image in images} == {(120, 160, 3)}
    tall, wide = images[1].astype(int), images[2].astype(int)
    assert tall[:, :55].max() < 40
    assert tall[:, 105:].max() < 40
    assert tall[5:-5, 65:95].min() > 180
    assert wide[:25].max() < 40
    assert wide[95:].max() < 40
    assert wide[35:85, 5:-5].min() > 180


def test_fit_leaves_a_picture_of_the_size_alone():
    image = shade(3)
    assert fit(image, 160, 120) is image
    assert fit(shade(5, 1, 4000), 64, 48).shape == (48, 64, 3)


def test_an_error_leaves_nothing_and_the_old_file_as_it_was(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="planted"), VideoWriter(path, 30) as writer:
        writer.write(shade(1), 0)
        raise RuntimeError("planted")
    assert os.listdir(tmp_path) == ["out.mp4"]
    assert path.read_bytes() == b"old"


def test_an_encoder_that_fails_leaves_nothing(tmp_path):
    writer = VideoWriter(tmp_path / "out.mp4", 30)
    writer.write(shade(1), 0)
    with pytest.raises(ValueError, match=r".*"):
        writer.write(np.zeros((120, 160), np.uint8), 1)
    assert os.listdir(tmp_path) == []
    with pytest.raises(ValueError, match="closed"):
        writer.write(shade(1), 2)


def test_an_interrupted_video_is_whole(tmp_path):
    path = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, 30) as writer:
        for t_ns in TIMES:
            writer.write(shade(90), t_ns)
        raise KeyboardInterrupt
    assert len(read(path)) == len(TIMES)


def test_an_interruption_while_a_picture_is_written_keeps_the_video(tmp_path, monkeypatch):
    def interrupt(*_args):
        raise KeyboardInterrupt

    path = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, 30) as writer:
        writer.write(shade(90), 0)
        monkeypatch.setattr(video, "fit", interrupt)
        writer.write(shade(90), 33 * MS)
    assert len(read(path)) == 1
    assert os.listdir(tmp_path) == ["out.mp4"]


def test_without_a_picture_nothing_is_left(tmp_path):
    writer = VideoWriter(tmp_path / "out.mp4", 30)
    writer.close()
    writer.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["out", "out.avi", "out.txt", "out.mp4.gz"])
def test_an_unknown_extension_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"ends in one of \.m4v, \.mkv, \.mov, \.mp4"):
        VideoWriter(tmp_path / name, 30)
    assert os.listdir(tmp_path) == []


def test_a_path_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    for path in ("missing/out.mp4", "folder.mp4", "file/out.mp4"):
        with pytest.raises(UsageError, match="cannot write a video"):
            VideoWriter(tmp_path / path, 30)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.mp4"]


def test_a_folder_that_refuses_files_is_told(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.touch", refuse)
    with pytest.raises(UsageError, match="Permission denied"):
        VideoWriter(tmp_path / "out.mp4", 30)

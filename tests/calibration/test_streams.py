"""Streams of a subject's clips: truth, idle, one subject at a time; and the score of events."""

from __future__ import annotations

import numpy as np
import pytest

from tests.calibration.test_data import write_table
from tests.runtimes.streaming.made_videos import write_video
from vidprism_edge.calibration.data import read_dataset
from vidprism_edge.calibration.streams import (
    MOVED_SHARE,
    Action,
    SubjectStream,
    count_still,
    score_events,
)
from vidprism_edge.errors import UsageError
from vidprism_edge.runtimes.streaming.events import Event

SECOND = 10**9
HEAD, MOVING, TAIL = 6, 15, 5


def pictures(shade: int) -> list[np.ndarray]:
    """A bright square that stands, walks to the right, and stands."""
    made = []
    for k in range(HEAD + MOVING + TAIL):
        picture = np.full((48, 64, 3), shade, np.uint8)
        x = 4 + 2 * int(np.clip(k - HEAD + 1, 0, MOVING))
        picture[16:32, x : x + 16] = 220
        made.append(picture)
    return made


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    rows = ["path,label,subject"]
    for name, label, subject, shade in (("a", "wave", 1, 40), ("b", "clap", 1, 60), ("c", "wave", 2, 80)):
        write_video(folder / f"{name}.mkv", pictures(shade), "ffv1", rate=15)
        rows.append(f"{name}.mkv,{label},{subject}")
    return read_dataset(write_table(folder, *rows)).entries


def read_all(stream):
    frames = []
    while (frame := stream.read()) is not None:
        frames.append(frame)
    return frames


def test_still_frames_are_counted_from_both_ends():
    made = pictures(50)
    assert count_still(made) == HEAD
    assert count_still(made[::-1]) == TAIL + 1, "the last step's end stands too"
    assert count_still(made[:1]) == 1
    assert MOVED_SHARE < 16 * 2 / (48 * 64), "a step of the square is more than the share"


def test_the_picture_moves_where_the_truth_says_and_nowhere_else(entries):
    stream = SubjectStream(entries[:2], seconds=60, seed=3, noise=0.0)
    frames = read_all(stream)
    assert len(frames) == stream.frames
    assert [f.t_ns for f in frames] == [k * stream.period_ns for k in range(len(frames))]
    # a step of the square changes two columns at each of its sides; from one clip to the next it jumps
    changes = [(a.image != b.image).any(axis=(0, 2)).sum() for a, b in zip(frames, frames[1:], strict=False)]
    moved = [0 < columns <= 4 for columns in changes]
    times = np.array([f.t_ns for f in frames[1:]])[moved]
    inside = [any(a.onset_ns <= t <= a.offset_ns for a in stream.truth) for t in times]
    assert all(inside)
    assert len(times) == MOVING * len(stream.truth)
    assert {a.label for a in stream.truth} == {"wave", "clap"}
    gaps = [b.onset_ns - a.offset_ns for a, b in zip(stream.truth, stream.truth[1:], strict=False)]
    assert min(gaps) > 1.5 * SECOND
    assert max(gaps) < 21 * SECOND


def test_the_control_has_idle_alone(entries):
    stream = SubjectStream(entries[:2], seconds=30, actions=False, noise=0.0)
    assert stream.truth == []
    for frame in read_all(stream):
        columns = np.flatnonzero(frame.image[24, :, 0] > 150)
        assert columns[0] in (4, 4 + 2 * MOVING), "the square stands where it stands in idle"


def test_noise_is_fresh_of_one_strength_and_repeats_with_the_seed(entries):
    first, second = (read_all(SubjectStream(entries[2:], seconds=20, noise=2.0)) for _ in range(2))
    assert all((a.image == b.image).all() for a, b in zip(first, second, strict=True))
    noise = [float(f.image[:8].std()) for f in first]
    assert min(noise) > 1.8
    assert max(noise) < 2.3
    assert (first[0].image != first[2 * HEAD - 2].image).any()


def test_subjects_are_never_mixed(entries):
    with pytest.raises(UsageError, match="one subject"):
        SubjectStream(entries, seconds=10)


def event(label, onset_s, offset_s):
    onset, offset = round(onset_s * SECOND), round(offset_s * SECOND)
    return Event(
        state="offset", label=label, onset_ns=onset, told_ns=onset + SECOND // 2, offset_ns=offset, score=0.9,
        peak=1.0,
    )  # fmt: skip


def test_events_are_matched_once_by_label_and_time():
    truth = [Action("wave", 10 * SECOND, 13 * SECOND), Action("clap", 20 * SECOND, 22 * SECOND)]
    events = [event("wave", 10.5, 14), event("wave", 12, 14), event("throw", 20, 22), event("clap", 40, 42)]
    score = score_events(truth, events, video_s=60)
    assert (score.actions, score.found, score.false_alarms) == (2, 1, 3)
    assert score.recall == 0.5
    assert score.delays_ms == (1000.0,)
    assert score.false_alarms_a_minute == pytest.approx(3.0)
    assert score_events([], [], 60).recall is None

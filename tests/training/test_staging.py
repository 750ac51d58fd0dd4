"""Clips made of clips: idle parts, people farther away, things that pass."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from vidprism_edge.calibration.data import Reader
from vidprism_edge.calibration.streams import count_still
from vidprism_edge.runtimes.streaming.source import Frame
from vidprism_edge.spec import NONE
from vidprism_edge.training.staging import FAR, FAR_PX, MADE_S, make_far, make_idle, make_passing


@pytest.fixture(scope="module")
def clip(dataset):
    return next(iter(Reader().read(dataset.entries[:1])))


def changes(made) -> np.ndarray:
    """Share of the pixels that differ from the first picture, frame by frame."""
    pictures = [f.image.astype(np.int16) for f in made.frames]
    return np.array([(np.abs(p - pictures[0]).max(axis=2) > 20).mean() for p in pictures])


@pytest.mark.parametrize("seed", range(4))
def test_an_idle_clip_shows_still_pictures_of_both_ends(clip, seed):
    made = make_idle(clip, np.random.default_rng(seed))
    assert made.entry.label == NONE
    assert made.frames[-1].t_ns == pytest.approx(MADE_S * 1e9, rel=0.05)
    assert all(np.any(a.image != b.image) for a, b in pairwise(made.frames))
    pictures = [f.image.astype(np.int16) for f in clip.frames]
    head, tail = count_still(pictures), count_still(pictures[::-1])
    still = [*pictures[:head], *pictures[len(pictures) - tail :]]
    for frame in made.frames:
        assert min(np.abs(frame.image - p).mean() for p in still) < 3.0, "a picture of the action"


def test_an_idle_clip_jumps_from_one_end_to_the_other(clip):
    start = clip.frames[0].image
    end = start[:, ::-1]
    half = len(clip.frames) // 2
    frames = [Frame(end if i >= half else start, f.t_ns, f.index) for i, f in enumerate(clip.frames)]
    made = make_idle(replace(clip, frames=frames), np.random.default_rng(0))
    at_end = [
        np.abs(f.image - end.astype(float)).mean() < np.abs(f.image - start.astype(float)).mean()
        for f in made.frames
    ]
    assert 1 <= np.count_nonzero(np.diff(at_end)) <= 4


def test_a_clip_that_moves_all_the_time_has_no_idle_part(clip):
    quarter = len(clip.frames) // 4
    moving = replace(clip, frames=clip.frames[2 * quarter : 3 * quarter])
    assert make_idle(moving, np.random.default_rng(0)) is None


@pytest.mark.parametrize("seed", range(4))
def test_a_far_clip_shows_the_same_action_smaller(clip, seed):
    made = make_far(clip, np.random.default_rng(seed))
    assert made.entry.label == clip.entry.label
    assert [f.t_ns for f in made.frames] == [f.t_ns for f in clip.frames]
    height, width = made.frames[0].image.shape[:2]
    assert max(height, width) == FAR_PX
    # what changes takes the square of the distance less of the picture
    share = np.median(changes(clip)[-10:] / np.maximum(changes(made)[-10:], 1e-9)) ** 0.5
    assert 0.9 * FAR[0] < share < 1.3 * FAR[1]


@pytest.mark.parametrize("seed", range(8))
def test_a_thing_passes_before_the_first_picture(clip, seed):
    made = make_passing(clip, np.random.default_rng(seed))
    assert made.entry.label == NONE
    assert len(made.frames) == round(MADE_S * 1e9 / clip.period_ns)
    seen = changes(made)
    assert seen.max() > 0.005, "nothing has passed"
    assert any(np.abs(np.diff(seen)) > 0), "nothing moves"
    again = make_passing(clip, np.random.default_rng(seed))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(made.frames, again.frames, strict=True))

"""Clips made of clips: idle parts, people farther away, things that pass."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from vidprism_edge.calibration.data import Reader
from vidprism_edge.spec import NONE
from vidprism_edge.training.staging import (
    AFTER_S,
    BEFORE_S,
    FAR,
    FAR_PX,
    MADE_S,
    make_far,
    make_idle,
    make_passing,
    make_stream,
)


@pytest.fixture(scope="module")
def clip(dataset):
    return next(iter(Reader().read(dataset.entries[:1])))


def changes(made) -> np.ndarray:
    """Share of the pixels that differ from the first picture, frame by frame."""
    pictures = [f.image.astype(np.int16) for f in made.frames]
    return np.array([(np.abs(p - pictures[0]).max(axis=2) > 20).mean() for p in pictures])


def test_an_idle_clip_is_its_still_start_with_fresh_noise(clip):
    made = make_idle(clip, np.random.default_rng(0))
    assert made.entry.label == NONE
    assert made.frames[-1].t_ns == pytest.approx(MADE_S * 1e9, rel=0.05)
    assert changes(made).max() < 0.01
    assert all(np.any(a.image != b.image) for a, b in pairwise(made.frames))


def test_a_clip_that_moves_at_once_has_no_idle_part(clip):
    moving = replace(clip, frames=clip.frames[len(clip.frames) // 2 :])
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


@pytest.fixture
def ending(clip):
    """The clip, and then a second in which nothing moves."""
    last = clip.frames[-1]
    still = [replace(last, t_ns=last.t_ns + i * clip.frame_ns, index=last.index + i) for i in range(1, 16)]
    return replace(clip, frames=[*clip.frames, *still])


@pytest.mark.parametrize("seed", range(4))
def test_a_stream_is_the_clip_between_its_own_still_frames(ending, seed):
    made = make_stream(ending, np.random.default_rng(seed))
    assert made.entry.label == ending.entry.label
    assert [f.index for f in made.frames] == list(range(len(made.frames)))
    moves = np.array(
        [
            (np.abs(b.image.astype(np.int16) - a.image).max(axis=2) > 20).mean()
            for a, b in pairwise(made.frames)
        ]
    )
    begins, ends = made.span
    assert moves[: begins - 1].max() < 0.002 < moves[begins - 1 : ends].max()
    assert moves[ends:].max() < 0.002
    seconds = [n * made.frame_ns / 1e9 for n in (begins, len(made.frames) - ends)]
    assert seconds[0] >= BEFORE_S[0]
    assert seconds[1] >= AFTER_S[0]


def test_a_clip_that_ends_in_motion_makes_no_stream(clip):
    assert make_stream(clip, np.random.default_rng(0)) is None

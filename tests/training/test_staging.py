"""Clips made of clips: idle parts, people farther away, things that pass."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from vidprism_edge.calibration.data import Reader
from vidprism_edge.spec import NONE
from vidprism_edge.training.staging import FAR, FAR_PX, MADE_S, make_far, make_idle, make_passing


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
    from dataclasses import replace

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

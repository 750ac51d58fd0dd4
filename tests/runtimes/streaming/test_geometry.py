"""Boxes, the lattice, and the matrices that carry maps between boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidprism_edge.runtimes.streaming.geometry import (
    LATTICE_SCALES,
    LATTICE_STEP,
    WHOLE,
    Scene,
    interpolation,
    snap,
)

SIDE = st.integers(1, 2000)
SCENES = st.builds(Scene, SIDE, SIDE, st.sampled_from(["letterbox", "crop", "stretch"]))
UNIT = st.floats(0.0, 1.0)
SCENE_BOX = st.tuples(st.floats(0.0, 0.7), st.floats(0.0, 0.7), st.floats(0.05, 0.3), st.floats(0.05, 0.3))


@given(
    scene=SCENES,
    x=st.floats(-500, 2500),
    y=st.floats(-500, 2500),
    side=st.floats(0, 3000),
    least=st.integers(1, 400),
)
def test_a_box_is_square_inside_the_frame_and_on_the_lattice(scene, x, y, side, least):
    bx, by, w, h = snap(scene, (x, y), side, least)
    shorter = min(scene.width, scene.height)
    assert w == h
    assert w >= 1
    assert 0 <= bx <= scene.width - w
    assert 0 <= by <= scene.height - h
    assert w in {round(shorter * scale) for scale in LATTICE_SCALES} | {shorter}
    # at least the stream's size, and what was asked for, where the frame allows
    assert w >= min(least, shorter) - 0.5
    assert w >= min(side, shorter) - 0.5
    step = max(1, round(w * LATTICE_STEP))
    for position, limit in ((bx, scene.width), (by, scene.height)):
        assert position % step == 0 or position == limit - w


@given(scene=SCENES, x=UNIT, y=UNIT, least=st.integers(1, 300))
def test_the_smallest_scale_that_serves_is_taken(scene, x, y, least):
    size = snap(scene, (x * scene.width, y * scene.height), 0.0, least)[2]
    shorter = min(scene.width, scene.height)
    smaller = [round(shorter * s) for s in LATTICE_SCALES if round(shorter * s) < size]
    assert all(s < min(least, shorter) - 0.5 for s in smaller)


@given(scene=SCENES, x=UNIT, y=UNIT)
def test_neighbouring_centres_mostly_share_a_box(scene, x, y):
    """A coarse lattice: among 64 centres a pixel apart there are few boxes."""
    boxes = {snap(scene, (x * scene.width + i, y * scene.height), scene.height / 2, 32) for i in range(64)}
    step = max(1, round(min(b[2] for b in boxes) * LATTICE_STEP))
    assert len(boxes) <= 64 / step + 2


@given(scene=SCENES)
def test_the_whole_frame_is_the_whole_scene(scene):
    assert scene.to_scene(scene.whole) == WHOLE


@given(scene=SCENES, x=UNIT, y=UNIT)
def test_pixels_and_scene_coordinates_are_inverse(scene, x, y):
    px, py = scene.to_pixels(x, y)
    corner = scene.to_scene((round(px), round(py), 1, 1))
    width, height = 1 / corner[2], 1 / corner[3]
    assert corner[0] == pytest.approx(x, abs=0.51 / width)
    assert corner[1] == pytest.approx(y, abs=0.51 / height)


@pytest.mark.parametrize(
    ("fit", "box", "expected"),
    [
        ("letterbox", (0, 0, 100, 100), (0.0, 0.25, 0.5, 0.5)),
        ("crop", (50, 0, 50, 50), (0.0, 0.0, 0.5, 0.5)),
        ("stretch", (0, 0, 100, 100), (0.0, 0.0, 0.5, 1.0)),
    ],
)
def test_known_scene_boxes(fit, box, expected):
    """A frame of 200 × 100: letterboxed it lies in the middle half of the scene's height."""
    assert Scene(200, 100, fit).to_scene(box) == pytest.approx(expected)


@given(scene=SCENES, scale=st.floats(0.05, 1.0), x=UNIT, y=UNIT, share=st.floats(0.1, 1.0))
def test_a_box_at_another_size_of_the_frame_lies_in_it(scene, scale, x, y, share):
    other = Scene(max(1, round(scene.width * scale)), max(1, round(scene.height * scale)), scene.fit)
    side = max(1, round(min(scene.width, scene.height) * share))
    box = (round(x * (scene.width - side)), round(y * (scene.height - side)), side, side)
    bx, by, w, h = scene.to_other(box, other)
    assert w == h >= 1
    assert 0 <= bx <= other.width - w
    assert 0 <= by <= other.height - h


def reference(source, target, n_in, n_out):
    """One axis by definition: the value of the piecewise linear function through the cells' centres."""
    matrix = np.zeros((n_out, n_in))
    for o in range(n_out):
        place = target[0] + (o + 0.5) / n_out * target[1]
        if not source[0] <= place <= source[0] + source[1]:
            continue
        for i in range(n_in):
            matrix[o, i] = np.interp(
                (place - source[0]) / source[1] * n_in - 0.5, range(n_in), np.eye(n_in)[i]
            )
    return matrix


@given(source=SCENE_BOX, target=SCENE_BOX, n_in=st.integers(1, 14), n_out=st.integers(1, 14))
def test_the_matrices_interpolate(source, target, n_in, n_out):
    vertical, horizontal = interpolation(source, target, n_in, n_out)
    assert vertical.dtype == np.float32
    np.testing.assert_allclose(vertical, reference(source[1::2], target[1::2], n_in, n_out), atol=1e-5)
    np.testing.assert_allclose(horizontal, reference(source[0::2], target[0::2], n_in, n_out), atol=1e-5)
    rows = np.stack((vertical, horizontal)).sum(axis=2)
    assert np.all(np.isclose(rows, 1.0, atol=1e-5) | (rows == 0.0))


@given(box=SCENE_BOX, n=st.integers(2, 14))
def test_a_constant_map_stays_constant_where_the_box_covers(box, n):
    vertical, horizontal = interpolation(box, WHOLE, n, 14)
    carried = vertical @ np.full((n, n), 0.7) @ horizontal.T
    assert np.all(np.isclose(carried, 0.7, atol=1e-5) | (carried == 0.0))


def test_a_peak_goes_where_it_is():
    """A map of the lower right quarter: its first cell lies in the middle of the scene."""
    vertical, horizontal = interpolation((0.5, 0.5, 0.5, 0.5), WHOLE, 2, 4)
    peak = np.zeros((2, 2))
    peak[0, 1] = 1.0
    carried = vertical @ peak @ horizontal.T
    assert np.unravel_index(carried.argmax(), carried.shape) == (2, 3)
    assert not carried[:2].any()
    assert not carried[:, :2].any()

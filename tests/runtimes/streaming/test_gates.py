"""Gates: noise does not open them, motion does within a frame, and none stays closed beyond its max skip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidprism_edge.runtimes import _native
from vidprism_edge.runtimes.streaming.gates import Activity, Gate

HEIGHT, WIDTH = 240, 320
PERIOD_NS = 40_000_000
SECOND = 10**9


class Camera:
    """Block statistics of a scene with a camera's noise, from the native core."""

    def __init__(self, sigma: float, *, grey: bool = False, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.sigma, self.grey = sigma, grey
        self.scene = (
            self.rng.integers(60, 190, (HEIGHT // 16, WIDTH // 16, 3))
            .repeat(16, 0)
            .repeat(16, 1)
            .astype(float)
        )
        self.luma = np.zeros((HEIGHT, WIDTH), np.uint8)
        self.previous: np.ndarray | None = None

    def look(
        self,
        offset: float = 0.0,
        square: tuple[int, int, int] | None = None,
        gain: float = 1.0,
        shift: int = 0,
        shade: tuple[int, int, int, float] | None = None,
    ) -> np.ndarray:
        shape = (HEIGHT, WIDTH, 1 if self.grey else 3)
        image = np.roll(self.scene, shift, 1) * gain + offset + self.rng.normal(0, 1, shape) * self.sigma
        if shade is not None:
            x, y, side, amount = shade
            image[y : y + side, x : x + side] += amount
        if square is not None:
            x, y, side = square
            image[y : y + side, x : x + side] = 250
        frame = np.clip(np.round(image), 0, 255).astype(np.uint8)
        stats = np.zeros((3, HEIGHT // 16, WIDTH // 16), np.float32)
        luma = np.zeros((HEIGHT, WIDTH), np.uint8)
        _native.block_stats(frame, self.previous, luma, stats)
        self.previous = luma
        return stats


@pytest.mark.parametrize("grey", [False, True], ids=["colour noise", "grey noise"])
@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.0, 2.0, 4.0, 6.0, 12.0])
def test_noise_is_no_motion_and_an_object_in_it_is(sigma, grey):
    camera, activity = Camera(sigma, grey=grey), Activity()
    for _ in range(50):
        activity.observe(camera.look())
    moving = []
    for _ in range(200):
        activity.observe(camera.look())
        moving.append(activity.moving)
    assert not any(moving), f"noise of sigma {sigma} fired in {sum(moving)} of {len(moving)} frames"
    activity.observe(camera.look(square=(100, 80, 48)))
    assert activity.moving
    for _ in range(3):
        activity.observe(camera.look(square=(100, 80, 48)))
    assert not activity.moving


def test_change_too_slow_to_move_is_seen_against_what_an_expert_saw():
    camera, activity = Camera(1.0), Activity()
    for _ in range(50):
        activity.observe(camera.look())
    seen = activity.reference()
    assert activity.difference(seen) == ""
    moved = []
    for k in range(100):  # a square gets brighter by a grey level a frame
        activity.observe(camera.look(shade=(100, 80, 48, 1.0 * k)))
        moved.append(activity.moving)
    assert not any(moved)
    assert activity.difference(seen) == "change"


def test_a_picture_of_another_size_counts_as_changed():
    activity = Activity()
    activity.observe(np.zeros((3, 4, 4), np.float32))
    assert activity.difference(np.zeros((5, 5), np.float32)) == "change"
    assert activity.difference(None) == "change"


class Scripted(Activity):
    def __init__(self) -> None:
        super().__init__()
        self.changed = ""
        self.share = 1.0

    def difference(self, reference: object, share: float = 0.0) -> str:
        return self.changed


@settings(max_examples=200)
@given(
    max_skip_s=st.floats(0.1, 30.0),
    hold_s=st.floats(0.0, 2.0),
    events=st.lists(
        st.tuples(
            st.integers(1, 2 * SECOND), st.sampled_from(["still", "motion", "change", "light"]), st.booleans()
        ),
        min_size=1,
    ),
)
def test_a_gate_never_stays_closed_beyond_max_skip(max_skip_s, hold_s, events):
    """Whatever happens and however badly the frames come, if the expert runs whenever it may."""
    gate, activity, t = Gate(hold_s=hold_s, max_skip_s=max_skip_s, always_open=False), Scripted(), 0
    gate.reset(0, 0)
    last_run = 0
    for step, what, runs in events:
        t += step
        activity.moving, activity.cause = what == "motion", "motion" if what == "motion" else ""
        activity.changed = what if what in ("change", "light") else ""
        gate.update(t, activity)
        if what == "motion":
            assert gate.is_open, "motion must open the gate at once"
            assert gate.reason == "motion"
        if t - last_run >= max_skip_s * 1e9 + 1:
            assert gate.is_open, f"closed for {(t - last_run) / 1e9} s"
        assert gate.reason
        if gate.is_open and runs:
            gate.ran(t, activity)
            last_run = t


def test_hold_keeps_the_gate_open_after_motion():
    gate, activity = Gate(hold_s=1.0, max_skip_s=30.0, always_open=False), Scripted()
    gate.reset(0, 0)
    activity.moving, activity.cause = True, "motion"
    gate.update(10, activity)
    activity.moving, activity.cause = False, ""
    gate.update(10 + SECOND - 1, activity)
    assert gate.is_open
    gate.update(10 + SECOND, activity)
    assert not gate.is_open
    assert gate.reason == "still picture"


def test_the_first_window_is_open_and_always_open_is():
    activity = Scripted()
    gate = Gate(hold_s=1.0, max_skip_s=30.0, always_open=False)
    gate.reset(5, 2 * SECOND)
    gate.update(4, activity)
    assert (gate.is_open, gate.reason) == (True, "warm-up")
    always = Gate(hold_s=1.0, max_skip_s=1.0, always_open=True)
    always.reset(0, 0)
    always.update(10**15, activity)
    assert always.is_open


def test_a_gate_joins_anothers_look_when_it_has_rested_for_half_of_its_max_skip():
    gate, activity = Gate(hold_s=0.0, max_skip_s=30.0, always_open=False), Scripted()
    gate.reset(0, 0)
    gate.ran(0, activity)
    gate.update(14 * SECOND, activity, join=True)
    assert not gate.is_open
    gate.update(16 * SECOND, activity)
    assert not gate.is_open
    gate.update(16 * SECOND, activity, join=True)
    assert (gate.is_open, gate.reason) == (True, "max skip")
    gate.ran(16 * SECOND, activity)
    gate.update(16 * SECOND + 1, activity, join=True)
    assert not gate.is_open, "a look ends when the expert has run"

"""What holds of the policy whatever it sees: gates, rates, boxes and epochs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidprism_edge.runtimes.streaming.geometry import LATTICE_SCALES, Scene
from vidprism_edge.runtimes.streaming.motion import RegionRule
from vidprism_edge.runtimes.streaming.policy import ContentPolicy, locate
from vidprism_edge.spec import STREAMS, load_preset

SPEC = load_preset("nano")
SCENE, SMALL = Scene(1280, 720, "letterbox"), Scene(320, 180, "letterbox")
GRID = 14
FRAME_NS = 40_000_000
SECOND = 10**9


def stats(
    motion: float = 0.0, luma: float = 100.0, place: tuple[float, float] = (0.54, 0.51), blocks: int = 6
) -> np.ndarray:
    """Block statistics of a frame in which one block in a hundred moves by ``motion`` grey levels."""
    values = np.zeros((3, 45, 80), np.float32)
    column, row = round(place[0] * 80 - blocks / 2), round(place[1] * 45 - blocks / 2)
    values[0, max(0, row) : row + blocks, max(0, column) : column + blocks] = motion
    values[2, :20] = luma
    values[2, 20:] = 100.0
    return values


def peak(x: float, y: float, height: float = 1.0, size: float = 0.08) -> np.ndarray:
    grid = (np.arange(GRID) + 0.5) / GRID
    bump = np.exp(-((grid[None] - x) ** 2 + (grid[:, None] - y) ** 2) / (2 * size**2))
    return (height * bump).astype(np.float32)


FLAT = np.full((GRID, GRID), 0.4, np.float32)


class Stream:
    """A policy, fed with frames; every expert runs whenever its gate is open and its rate asks for it."""

    def __init__(self, **options: object) -> None:
        self.policy = ContentPolicy(SPEC, **options)
        self.t_ns = 0
        self.last_ran = dict.fromkeys(STREAMS, -SECOND)
        self.policy.reset(SCENE, SMALL, 0)

    def frame(
        self,
        motion: float = 0.0,
        luma: float = 100.0,
        maps: tuple | None = None,
        step_ns: int = FRAME_NS,
        **where: Any,
    ):
        self.t_ns += step_ns
        plan = self.policy.observe(stats(motion, luma, **where), self.t_ns)
        if maps is not None:
            self.policy.read_maps(*maps, self.t_ns)
        for name in STREAMS:
            interval = plan.intervals[name]
            if interval and self.t_ns - self.last_ran[name] >= interval / SPEC.streams[name].rate_hz * SECOND:
                self.policy.ran(name, self.t_ns)
                self.last_ran[name] = self.t_ns
        return plan

    def still(self, seconds: float) -> list:
        return [self.frame(maps=(FLAT, np.zeros_like(FLAT))) for _ in range(int(seconds * SECOND / FRAME_NS))]


@pytest.mark.parametrize("max_skip_s", [1.0, 3.0, 30.0])
def test_no_expert_rests_longer_than_max_skip(max_skip_s):
    stream = Stream(max_skip_s=max_skip_s)
    closed = dict.fromkeys(STREAMS, 0.0)
    longest = dict.fromkeys(STREAMS, 0.0)
    for plan in stream.still(3 * max_skip_s + 5):
        for name in STREAMS:
            closed[name] = 0.0 if plan.intervals[name] else closed[name] + FRAME_NS / SECOND
            longest[name] = max(longest[name], closed[name])
            assert plan.reasons[name] in ("rate", "still picture")
    # after max_skip, the gate is open for its hold; the hold alone may fill a short max_skip
    assert all(seconds <= max_skip_s for seconds in longest.values()), longest
    assert max(longest.values()) > 0
    assert max_skip_s < 3 or min(longest.values()) > 0


def test_a_still_scene_closes_the_gates_and_motion_opens_them_within_one_frame():
    stream = Stream()
    plan = stream.still(8)[-1]
    assert not any(plan.intervals.values())
    assert set(plan.reasons.values()) == {"still picture"}
    plan = stream.frame(motion=40.0)
    assert all(plan.intervals[name] == 1 for name in STREAMS)


def test_change_without_motion_opens_the_gates_too():
    """The light goes slowly: no two frames differ, but what the experts saw is no longer so."""
    stream = Stream()
    stream.still(8)
    opened = False
    for k in range(100):
        opened = opened or bool(stream.frame(luma=100 + 0.2 * k).intervals["spatial"])
    assert opened


def test_the_first_window_is_open_whatever_comes():
    stream = Stream()
    for plan in stream.still(SPEC.window_s - 0.1):
        assert all(plan.intervals.values())


def test_a_dull_scene_runs_at_the_floor_rates_and_a_salient_one_at_the_ceiling():
    """Held open by their max skip, dull streams take one point in as many as the floor says."""
    dull = Stream(max_skip_s=0.5)
    floor = {n: SPEC.streams[n].floor_interval for n in STREAMS}
    for plan in dull.still(10)[100:]:
        for name in STREAMS:
            assert plan.intervals[name] in (0, floor[name])
    assert floor["spatial"] == 4
    assert floor["hybrid"] == 5
    salient = Stream(max_skip_s=0.5)
    salient.still(10)
    salient.frame(maps=(peak(0.5, 0.5), FLAT))
    for _ in range(100):
        plan = salient.frame(maps=(peak(0.5, 0.5), FLAT))
        assert all(plan.intervals[name] in (0, 1) for name in STREAMS)


def test_always_open_is_every_stream_at_its_ceiling():
    stream = Stream(always_open=True)
    for plan in stream.still(40):
        assert set(plan.intervals.values()) == {1}


@settings(max_examples=30, deadline=None)
@given(
    width=st.integers(1, 1920),
    height=st.integers(1, 1080),
    places=st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0.02, 0.4)), min_size=1, max_size=12
    ),
)
def test_boxes_are_square_on_the_lattice_inside_the_frame(width, height, places):
    """At every size of the frame, down to one pixel."""
    policy = ContentPolicy(SPEC)
    scale = min(320, max(width, height)) / max(width, height)
    scene = Scene(width, height, "letterbox")
    small = Scene(max(1, round(width * scale)), max(1, round(height * scale)), "letterbox")
    policy.reset(scene, small, 0)
    for k, (x, y, size) in enumerate(places):
        policy.read_maps(peak(x, y, size=size), peak(y, x, size=size), k * SECOND)
        plan = policy.observe(np.zeros((3, -(-height // 16), -(-width // 16)), np.float32), k * SECOND + 1)
        assert plan.boxes["analyzer"] == (scene.whole,)
        for name, frame in (("spatial", scene), ("hybrid", scene), ("temporal", small)):
            boxes = plan.boxes[name]
            assert len(boxes) <= SPEC.streams[name].regions
            for bx, by, w, h in boxes:
                assert 0 <= bx <= bx + w <= frame.width
                assert 0 <= by <= by + h <= frame.height
                if (bx, by, w, h) != frame.whole:
                    assert w == h
                    shorter = min(frame.width, frame.height)
                    assert w in {round(shorter * s) for s in LATTICE_SCALES} | {shorter}
                    assert w >= min(SPEC.streams["spatial" if frame is scene else name].size_px, shorter) - 1


def test_a_region_is_kept_while_it_serves_and_left_when_it_does_not():
    box = locate(peak(0.4, 0.5), SCENE, 224, None)
    assert box is not None
    assert locate(peak(0.43, 0.5), SCENE, 224, box) == box
    far = locate(peak(0.8, 0.5), SCENE, 224, box)
    assert far != box
    x, y = SCENE.to_pixels(0.8, 0.5)
    assert far is not None
    assert far[0] <= x <= far[0] + far[2]
    assert far[1] <= y <= far[1] + far[3]
    assert locate(FLAT, SCENE, 224, box) == box


@pytest.mark.parametrize("amount", [0.01, 0.02])
def test_a_trembling_peak_does_not_make_the_region_tremble(amount):
    """Hysteresis: a peak that wanders by a hundredth of the picture changes the box at most once."""
    rng, box, changes = np.random.default_rng(0), None, -1
    for _ in range(100):
        dx, dy = rng.uniform(-amount, amount, 2)
        new = locate(peak(0.37 + dx, 0.55 + dy), SCENE, 224, box)
        changes += new != box
        box = new
    assert changes <= 1


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_epochs_are_at_least_one_window_apart_while_the_gate_is_open(seed):
    """Wherever motion goes. Only the whole frame with which a stream begins may be left sooner."""
    rng, stream, epochs, previous = np.random.default_rng(seed), Stream(), [], None
    place, span = rng.uniform(0.1, 0.9, 2), 0
    for k in range(500):
        if k % 20 == 0:
            place = rng.uniform(0.1, 0.9, 2)
        plan = stream.frame(motion=50.0, place=place)
        assert plan.intervals["temporal"] == 1, "a convolution's rate is constant"
        box = plan.boxes["temporal"][0]
        if previous is not None and box != previous:
            epochs.append((stream.t_ns, previous))
        previous = box
    chosen = [t for t, before in epochs if before != SMALL.whole]
    starts = [t for t, _ in epochs]
    assert len(epochs) >= 2, "a region that never changes proves nothing"
    for t in chosen:
        before = max((s for s in starts if s < t), default=None)
        span = t - (before if before is not None else 0)
        assert span >= SPEC.window_ns


@pytest.mark.parametrize("blocks", [3, 4, 8, 16])
def test_the_moving_region_is_as_large_as_what_moves_and_holds_it(blocks):
    """A person is followed near and far; blocks that flicker elsewhere stretch nothing."""
    stream = Stream()
    for k in range(30):
        plan = stream.frame(motion=50.0 if k > 5 else 0.0, place=(0.3, 0.4), blocks=blocks)
    x, y, side, _ = plan.boxes["temporal"][0]
    extent = blocks * 16 / 4
    assert (
        min(180, 0.8 * extent * RegionRule().room)
        <= side
        <= min(180, max(68, 1.5 * extent * RegionRule().room))
    )
    for middle, low, length in ((0.3 * 320, x, side), (0.4 * 180, y, side)):
        assert low <= middle - extent / 2 + 4
        assert middle + extent / 2 - 4 <= low + length


def test_the_moving_region_is_not_chosen_from_the_first_frames_nor_from_what_is_everywhere():
    stream = Stream()
    boxes = [stream.frame(motion=50.0).boxes["temporal"][0] for _ in range(25)]
    waited = sum(box == SMALL.whole for box in boxes) * FRAME_NS
    assert 0.4 * SECOND < waited < 0.7 * SECOND
    shaken = Stream()
    for _ in range(25):
        plan = shaken.frame(motion=50.0, blocks=80)
    assert plan.boxes["temporal"] == (SMALL.whole,)


def test_a_reset_forgets_regions_and_opens_everything():
    stream = Stream()
    for _ in range(100):
        plan = stream.frame(motion=50.0, place=(0.9, 0.5))
    assert plan.boxes["temporal"] != (SMALL.whole,)
    stream.still(10)
    stream.policy.reset(SCENE, SMALL, stream.t_ns)
    plan = stream.frame()
    assert plan.boxes["temporal"] == (SMALL.whole,)
    assert all(plan.intervals.values())


@pytest.mark.parametrize("seconds", [0.0, -1.0, 33.0, float("nan"), float("inf")])
def test_a_max_skip_that_is_none_is_refused(seconds):
    with pytest.raises(ValueError, match="max_skip_s"):
        ContentPolicy(SPEC, max_skip_s=seconds)

"""The policy's temporal region: chosen as soon as motion has shown itself, then kept for a window."""

from __future__ import annotations

import numpy as np
import pytest

from vidprism_edge.runtimes.streaming.gates import GateSettings
from vidprism_edge.runtimes.streaming.geometry import Scene
from vidprism_edge.runtimes.streaming.policy import FIRST_MAPS, ContentPolicy
from vidprism_edge.spec import load_preset

FRAME_NS = 66_666_667
STATS = np.zeros((3, 15, 20), np.float32)


def make_map(x: float, y: float, width: float = 0.1) -> np.ndarray:
    grid = (np.arange(14) + 0.5) / 14
    near = (np.abs(grid[None] - x) < width) & (np.abs(grid[:, None] - y) < width)
    return near.astype(np.float32)


class Player:
    """Feeds the policy one frame after the other, with a motion map every third."""

    def __init__(self) -> None:
        self.spec = load_preset("nano")
        self.policy = ContentPolicy(self.spec)
        self.frame = -1
        scene = Scene(320, 240, self.spec.fit)
        self.policy.reset(scene, scene, 0)
        self.boxes: list[tuple[int, int, int, int]] = []

    def play(self, frames: int, motion: np.ndarray | None) -> None:
        """None: the analyzer does not run."""
        for _ in range(frames):
            self.frame += 1
            t_ns = self.frame * FRAME_NS
            self.boxes.append(self.policy.observe(STATS, t_ns).boxes["temporal"][0])
            if motion is not None and self.frame % 3 == 0:
                self.policy.read_maps(np.full((14, 14), 0.5, np.float32), motion, t_ns)


@pytest.fixture
def player():
    return Player()


def test_a_still_scene_keeps_the_whole_frame(player):
    player.play(60, np.zeros((14, 14), np.float32))
    assert set(player.boxes) == {(0, 0, 320, 240)}


def test_the_first_region_is_followed_at_once_and_kept_for_a_window(player):
    player.play(15, np.zeros((14, 14), np.float32))
    player.play(3 * FIRST_MAPS, make_map(0.3, 0.5, 0.05))
    x, _, w, _ = player.boxes[-1]
    assert w == 180, "motion was seen in FIRST_MAPS maps and the crop did not follow"
    assert x <= 0.3 * 320 <= x + w
    chosen, since = player.boxes[-1], player.frame
    player.play(60, make_map(0.8, 0.5, 0.05))
    changed = next(i for i, box in enumerate(player.boxes) if i > since and box != chosen)
    first = player.boxes.index(chosen)
    assert (changed - first) * FRAME_NS >= player.spec.window_ns - FRAME_NS


def test_the_first_region_holds_all_that_moved_until_then(player):
    for x in (0.42, 0.5, 0.58, 0.58):
        player.play(3, make_map(x, 0.5, 0.04))
    x, _, w, _ = player.boxes[-1]
    assert x <= 0.39 * 320
    assert x + w >= 0.61 * 320


def test_an_analyzer_that_rested_chooses_the_region_that_one_that_ran_would():
    boxes = []
    for rest in (np.zeros((14, 14), np.float32), None):
        player = Player()
        player.play(30, make_map(0.2, 0.5, 0.05))
        player.play(300, rest)
        player.play(60, make_map(0.8, 0.5, 0.05))
        boxes.append(player.boxes[-1])
    assert boxes[0] == boxes[1]
    assert boxes[0][0] > 100, "what moved 20 s ago is forgotten"


def test_an_expert_rarer_than_its_floor_runs_at_once_and_then_by_the_time_since():
    """Every 16th point of 2 Hz: the first of a stream is taken at its start, the next ones 8 s apart."""
    spec = load_preset("nano")
    settings = GateSettings(busy_interval={"analyzer": 1, "spatial": 16, "hybrid": 1, "temporal": 1})
    policy = ContentPolicy(spec, settings=settings)
    scene = Scene(320, 240, spec.fit)
    policy.reset(scene, scene, 0)
    stats = STATS.copy()
    ran = []
    for frame in range(600):
        t_ns = frame * FRAME_NS
        stats[0] = 50.0 if frame % 2 else 40.0  # something always moves
        plan = policy.observe(stats, t_ns)
        assert plan.intervals["hybrid"] == 1
        if plan.intervals["spatial"] and frame % 7 == 0:
            assert plan.intervals["spatial"] == 1
            policy.ran("spatial", t_ns)
            ran.append(t_ns / 1e9)
    assert ran[0] == 0.0
    gaps = np.diff(ran)
    assert len(gaps) == 5
    assert gaps.min() >= 7.5
    assert gaps.max() <= 8.5

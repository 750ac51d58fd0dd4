"""The policy's temporal region: chosen as soon as motion has shown itself, then kept for a window."""

from __future__ import annotations

import numpy as np
import pytest

from vidprism_edge.runtimes.streaming.gates import GateSettings
from vidprism_edge.runtimes.streaming.geometry import Scene
from vidprism_edge.runtimes.streaming.motion import FIRST_NS
from vidprism_edge.runtimes.streaming.policy import ContentPolicy
from vidprism_edge.spec import load_preset

FRAME_NS = 66_666_667
STATS = np.zeros((3, 15, 20), np.float32)


def move_at(x: float, y: float, blocks: int = 3, by: float = 40.0) -> np.ndarray:
    """Block statistics of a frame in which a square of blocks around a place moves."""
    stats = STATS.copy()
    column, row = round(x * 20 - blocks / 2), round(y * 15 - blocks / 2)
    stats[0, row : row + blocks, column : column + blocks] = by
    return stats


class Player:
    """Feeds the policy one frame after the other."""

    def __init__(self) -> None:
        self.spec = load_preset("nano")
        self.policy = ContentPolicy(self.spec)
        self.frame = -1
        scene = Scene(320, 240, self.spec.fit)
        self.policy.reset(scene, scene, 0)
        self.boxes: list[tuple[int, int, int, int]] = []
        self.regions: list[tuple[tuple[int, int, int, int], ...]] = []

    def play(self, frames: int, stats: np.ndarray = STATS) -> None:
        for _ in range(frames):
            self.frame += 1
            plan = self.policy.observe(stats, self.frame * FRAME_NS)
            self.boxes.append(plan.boxes["temporal"][0])
            self.regions.append(plan.boxes["spatial"])


@pytest.fixture
def player():
    return Player()


def test_a_still_scene_keeps_the_whole_frame(player):
    player.play(60)
    assert set(player.boxes) == {(0, 0, 320, 240)}


def test_the_first_region_is_followed_at_once_and_kept_for_a_window(player):
    player.play(15)
    player.play(FIRST_NS // FRAME_NS + 3, move_at(0.3, 0.5))
    x, _, w, _ = player.boxes[-1]
    assert w == 180, "a small thing has moved and the crop did not follow"
    assert x <= 0.3 * 320 <= x + w
    chosen, since = player.boxes[-1], player.frame
    player.play(60, move_at(0.8, 0.5))
    changed = next(i for i, box in enumerate(player.boxes) if i > since and box != chosen)
    first = player.boxes.index(chosen)
    assert (changed - first) * FRAME_NS >= player.spec.window_ns - FRAME_NS


def test_the_first_region_holds_all_that_moved_until_then(player):
    for x in (0.42, 0.5, 0.58, 0.58):
        player.play(3, move_at(x, 0.5))
    x, _, w, _ = player.boxes[-1]
    assert x <= 0.39 * 320
    assert x + w >= 0.61 * 320


def test_what_moved_long_ago_is_forgotten_and_a_flicker_does_not_draw_the_region_away(player):
    player.play(30, move_at(0.2, 0.5))
    player.play(300)
    assert player.boxes[-1] == player.boxes[29], "a picture at rest keeps its region"
    # a large part of the picture flickers a little, a small one moves
    flicker = move_at(0.8, 0.5)
    flicker[0, 0:5, 0:12] = 5.0
    player.play(60, flicker)
    x, _, w, _ = player.boxes[-1]
    assert w == 180
    assert x <= 0.8 * 320 <= x + w


def test_what_is_followed_at_full_resolution_is_where_something_moves(player):
    salient = np.zeros((14, 14), np.float32)
    salient[6:8, 1:3] = 1.0
    scene = Scene(1280, 960, player.spec.fit)
    player.policy.reset(scene, Scene(320, 240, player.spec.fit), 0)
    player.policy.read_maps(salient, salient, 0)
    stats = np.zeros((3, 60, 80), np.float32)
    player.play(1, stats)
    x, _, w, _ = player.regions[-1][1]
    assert x <= 0.14 * 1280 <= x + w, "until something has moved, it is what is salient"
    stats[0, 28:32, 62:66] = 40.0
    player.play(15, stats)
    player.policy.read_maps(salient, salient, player.frame * FRAME_NS)
    player.play(1, stats)
    x, _, w, _ = player.regions[-1][1]
    assert w == 240
    assert x <= 0.8 * 1280 <= x + w


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


def test_a_person_who_waits_is_seen_whole_though_only_a_hand_moves(player):
    player.play(20, move_at(0.5, 0.5, blocks=6))
    whole = player.boxes[-1]
    assert whole[2] == 240
    player.play(150)
    player.play(60, move_at(0.55, 0.4, blocks=3))
    assert player.boxes[-1] == whole

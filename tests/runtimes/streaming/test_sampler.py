"""The multi-rate sampler: nothing is lost from the counts, whatever the frames and the policy do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidprism_edge.runtimes import _native
from vidprism_edge.runtimes.streaming.policy import ContentPolicy, Plan
from vidprism_edge.runtimes.streaming.sampler import DIRECT, StreamSampler
from vidprism_edge.spec import STREAMS, ModelSpec

MS = 10**6
SIZES = ((48, 64), (64, 48), (96, 128), (17, 33), (1, 1))


class Fixed:
    """A policy that says what it is told to."""

    def __init__(self) -> None:
        self.intervals = dict.fromkeys(STREAMS, 1)
        self.reasons = dict.fromkeys(STREAMS, "told so")
        self.resets = 0

    def reset(self, scene, small, t_ns):
        self.scene, self.small = scene, small
        self.resets += 1

    def observe(self, stats, t_ns):
        whole = (self.scene.whole,)
        boxes = {**dict.fromkeys(DIRECT, whole), "temporal": (self.small.whole,)}
        return Plan(dict(self.intervals), dict(self.reasons), boxes)

    def read_maps(self, saliency, motion, t_ns):
        pass

    def ran(self, stream, t_ns):
        pass


STEPS = st.tuples(
    st.one_of(st.integers(20, 60), st.integers(-30, 700), st.sampled_from([0, -5000, 5000])),  # ms
    st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4]),  # which size
    st.sampled_from([None] * 8 + ["corrupt"]),
    st.dictionaries(st.sampled_from(STREAMS), st.integers(0, 3), max_size=2),
)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEPS, min_size=1, max_size=60))
def test_every_frame_and_grid_point_is_accounted_for(tiny_spec: ModelSpec, steps):
    policy = Fixed()
    sampler = StreamSampler(tiny_spec, policy, period_ns=40 * MS)
    t, refused, resets, fresh = 10**9, 0, 0, dict.fromkeys(STREAMS, 0)
    for step, size, interrupted, intervals in steps:
        t += step * MS
        policy.intervals.update(intervals)
        if interrupted:
            sampler.interrupt(interrupted, t)
        push = sampler.push(np.full((*SIZES[size], 3), 90, np.uint8), t)
        refused += push.refused
        resets += push.reset is not None
        if push.refused:
            t -= step * MS
            continue
        assert [p.t_ns for p in push.points] == sorted(p.t_ns for p in push.points)
        for point in push.points:
            fresh[point.stream] += point.fresh
        sampler.check_counts()
    for name, counts in sampler.counts.items():
        assert counts.delivered == len(steps) - refused
        assert counts.sampled == fresh[name]
        assert set(counts.skipped) <= {"between points", "told so"}
        assert set(counts.held) <= {"told so"}
    assert sum(sampler.resets.values()) == resets == policy.resets


def test_pixels_are_the_crop_of_the_frame(tiny_spec):
    frame = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    sampler = StreamSampler(tiny_spec, Fixed(), period_ns=40 * MS)
    points = {p.stream: p for p in sampler.push(frame, 0).points}
    assert set(points) == set(STREAMS)
    for name in DIRECT:
        s = tiny_spec.streams[name]
        assert points[name].pixels.shape[1] == s.regions
        if s.resampler != "area":
            continue
        expected = np.zeros((3, s.size_px, s.size_px), np.float32)
        _native.resize_area(frame, (0, 0, 80, 60), expected, s.mean, s.std, True)
        np.testing.assert_array_equal(points[name].pixels[-1, 0], expected)
    assert points["temporal"].pixels is None
    s = tiny_spec.streams["temporal"]
    found, expected = np.zeros((2, 3, s.size_px, s.size_px), np.float32)
    sampler.crop_small(0, points["temporal"].boxes[0], found)
    _native.resize_area(frame, (0, 0, 80, 60), expected, s.mean, s.std, True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_past_that_an_epoch_replays_is_kept(tiny_spec):
    """One receptive field of small frames, and no more than is needed."""
    sampler = StreamSampler(tiny_spec, Fixed(), period_ns=40 * MS)
    out = np.zeros((3, 32, 32), np.float32)
    last = 0
    for k in range(100):
        push = sampler.push(np.full((48, 64, 3), k, np.uint8), k * 40 * MS)
        for point in push.points:
            if point.stream == "temporal":
                last = point.k
                for back in range(min(last + 1, tiny_spec.receptive_field)):
                    sampler.crop_small(last - back, (0, 0, 64, 48), out)
    with pytest.raises(KeyError):
        sampler.crop_small(last - 50, (0, 0, 64, 48), out)


@pytest.mark.parametrize("sizes", [((48, 64), (96, 128)), ((96, 128), (48, 64)), ((48, 64), (64, 48))])
def test_another_size_starts_anew_with_the_whole_frame(tiny_spec, sizes):
    policy = ContentPolicy(tiny_spec, always_open=True)
    sampler = StreamSampler(tiny_spec, policy, period_ns=40 * MS)
    for k in range(30):
        sampler.push(np.zeros((*sizes[0], 3), np.uint8), k * 40 * MS)
    push = sampler.push(np.zeros((*sizes[1], 3), np.uint8), 30 * 40 * MS)
    assert push.reset == "resolution"
    for point in push.points:
        if point.stream in DIRECT:
            assert point.boxes == ((0, 0, sizes[1][1], sizes[1][0]),)
    again = sampler.push(np.zeros((*sizes[1], 3), np.uint8), 31 * 40 * MS)
    assert again.reset is None


def test_the_reason_of_an_interruption_is_kept(tiny_spec):
    sampler = StreamSampler(tiny_spec, Fixed(), period_ns=40 * MS)
    frame = np.zeros((48, 64, 3), np.uint8)
    assert sampler.push(frame, 0).reset == "start"
    sampler.interrupt("reconnect", 200 * MS)
    assert sampler.push(frame, 200 * MS).reset == "reconnect"
    assert sampler.resets == {"start": 1, "reconnect": 1}
    assert sampler.push(frame, 190 * MS).refused
    assert sampler.counts["hybrid"].delivered == 2


def test_a_closed_stream_says_why(tiny_spec):
    policy = Fixed()
    policy.intervals["spatial"] = 0
    policy.reasons["spatial"] = "still picture"
    sampler = StreamSampler(tiny_spec, policy, period_ns=40 * MS)
    for k in range(100):
        points = sampler.push(np.zeros((48, 64, 3), np.uint8), k * 40 * MS).points
        # the first frame is sampled by the plan from before it
        assert k == 0 or all(p.stream != "spatial" for p in points)
    counts = sampler.counts["spatial"]
    assert counts.sampled == 1
    assert counts.held == {"still picture": 7}
    assert sum(counts.skipped.values()) == 99
    assert counts.skipped["still picture"] == 7

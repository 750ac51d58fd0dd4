"""Rings, boxes, resets, small frames, counters, memory and threads of the sampler."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vidprism_edge.runtimes import _native
from vidprism_edge.runtimes._native import HELD, REPEATED, RESET, SAMPLED, Sampler

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
SECOND = 10**9


def rings_for(streams: list[tuple]) -> list[NDArray[np.float32]]:
    return [
        np.full((2 * rows, regions, 3, size, size), 7, np.float32) for size, _, regions, rows, *_ in streams
    ]


def make(*streams: tuple, **kwargs: int) -> tuple[Sampler, list[NDArray[np.float32]]]:
    full = [(*s, MEAN, STD, True) for s in streams]
    rings = rings_for(full)
    return Sampler(full, rings, **kwargs), rings


def picture(seed: int, height: int = 60, width: int = 90) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def crop(frame: NDArray[np.uint8], box: tuple[int, int, int, int], size: int) -> NDArray[np.float32]:
    out = np.empty((3, size, size), np.float32)
    _native.resize_area(frame, box, out, MEAN, STD, True)
    return out


def test_the_last_rows_are_one_block_in_order(kernels: str) -> None:
    sampler, (ring,) = make((24, 30000, 1, 4))
    frames = [picture(i) for i in range(11)]
    for i, frame in enumerate(frames):
        _, events = sampler.push(frame, i * SECOND // 30, None)
        (row,) = [e[4] for e in events if e[0] == 0]
        assert 4 <= row < 8
        last = ring[row - 3 : row + 1, 0]
        for back in range(min(4, i + 1)):
            assert np.array_equal(last[3 - back], crop(frames[i - back], (0, 0, 90, 60), 24))


def test_several_streams_with_boxes_in_one_pass(kernels: str) -> None:
    sampler, rings = make((24, 30000, 2, 3), (40, 30000, 1, 2))
    boxes = [(0, 0, 90, 60), (30, 20, 41, 33)]
    sampler.set_boxes(0, boxes)  # before the first frame
    sampler.push(picture(0), 0, None)
    sampler.set_boxes(1, [(89, 59, 1, 1)])
    _, events = sampler.push(picture(1), SECOND // 30, np.empty((3, 4, 6), np.float32))
    rows = {e[0]: e[4] for e in events}
    for region, box in enumerate(boxes):
        assert np.array_equal(rings[0][rows[0], region], crop(picture(1), box, 24))
    assert np.array_equal(rings[1][rows[1], 0], crop(picture(1), (89, 59, 1, 1), 40))


def test_a_region_without_a_box_is_zero() -> None:
    sampler, (ring,) = make((16, 30000, 3, 2))
    sampler.push(picture(0), 0, None)
    sampler.set_boxes(0, [(0, 0, 9, 9), (5, 5, 9, 9)])
    _, events = sampler.push(picture(1), SECOND // 30, None)
    row = events[0][4]
    assert ring[row, 1].any()
    assert not ring[row, 2].any()


def test_a_box_may_change_its_shape() -> None:
    sampler, (ring,) = make((32, 30000, 1, 1))
    for i, box in enumerate([(0, 0, 90, 20), (0, 0, 20, 60), (3, 3, 50, 50)]):
        sampler.set_boxes(0, [box])
        sampler.push(picture(i), i * SECOND // 30, None)
        assert np.array_equal(ring[0, 0], crop(picture(i), box, 32))
        assert np.array_equal(ring[1, 0], ring[0, 0])


def test_small_frames_are_kept_for_their_points() -> None:
    sampler, _ = make(small_px=32, small_rows=5)
    frames = [picture(i) for i in range(12)]
    point_of: dict[int, int] = {}
    for i, frame in enumerate(frames):
        for _, k, _, kind, row in sampler.push(frame, i * SECOND // 10, None)[1]:
            assert row == -1
            assert kind in (SAMPLED, REPEATED)
            point_of[k] = i if kind == SAMPLED else point_of[k - 1]
    assert sampler.small_shape == (21, 32)
    newest = max(point_of)
    for k in range(-1, newest + 3):
        out = np.empty((3, 8, 8), np.float32)
        if newest - 5 < k <= newest:
            sampler.crop_small(k, (4, 2, 20, 17), out, MEAN, STD, True)
            small = np.empty((21, 32, 3), np.uint8)
            _native.resize_area_u8(frames[point_of[k]], small)
            assert np.array_equal(out, crop(small, (4, 2, 20, 17), 8))
        else:
            with pytest.raises(KeyError):
                sampler.crop_small(k, (4, 2, 20, 17), out, MEAN, STD, True)
    with pytest.raises(ValueError, match="inside the frame of width 32, height 21"):
        sampler.crop_small(newest, (0, 0, 33, 1), out, MEAN, STD, True)
    sampler.reset()
    with pytest.raises(KeyError):
        sampler.crop_small(newest, (4, 2, 20, 17), out, MEAN, STD, True)


def test_resets_and_refusals_are_told_and_counted() -> None:
    sampler, _ = make((8, 10000, 1, 2), small_px=0)
    frame = picture(0)
    assert sampler.push(frame, 0, None) == (_native.RESET_START, [(0, 0, 0, SAMPLED, 2)])
    assert sampler.push(frame, 0, None) == (_native.DROPPED_TIMESTAMP, [])
    assert sampler.push(frame, -SECOND // 2, None) == (_native.DROPPED_TIMESTAMP, [])
    assert sampler.push(frame, SECOND // 2, None)[0] == _native.OK
    late = 5 * SECOND
    status, events = sampler.push(frame, late, None)
    assert status == _native.RESET_GAP
    # half a second and half its period resolved 0 .. 7, the gap takes 8 .. 49
    assert events[0] == (0, 8, 800_000_000, RESET, 42)
    assert events[1] == (0, 0, late, SAMPLED, events[1][4])
    status, events = sampler.push(frame, SECOND, None)
    assert (status, events[0][:4]) == (_native.RESET_BACKWARD, (0, 0, SECOND, SAMPLED))
    status, events = sampler.push(picture(0, 10, 10), SECOND + SECOND // 4, None)
    assert (status, [e[3] for e in events]) == (_native.RESET_SIZE, [RESET, SAMPLED])
    assert sampler.frame_shape == (10, 10)
    assert sampler.reset(2 * SECOND) == [(0, 1, 1_350_000_000, RESET, 7)]
    assert sampler.push(picture(0, 10, 10), 2 * SECOND, None)[0] == _native.RESET_START
    counts = sampler.counts(0)
    assert counts["points"] == counts["sampled"] + counts["repeated"] + counts["held"] + counts["reset"]


def test_a_refused_frame_changes_nothing() -> None:
    sampler, (ring,) = make((8, 10000, 1, 2), small_px=0)
    sampler.push(picture(0), 0, None)
    before, stats = ring.copy(), np.full((3, 4, 6), 5, np.float32)
    sampler.push(picture(1), 0, stats)
    assert np.array_equal(ring, before)
    assert (stats == 5).all()


def test_closed_streams_hold_and_reopen() -> None:
    sampler, _ = make((8, 10000, 1, 2), small_px=0, period_ns=SECOND // 10)
    kinds = []
    for i, n in enumerate([0, 0, 3, 3, 3, 3, 3, 0, 1, 1]):
        sampler.set_interval(0, n)
        kinds += [e[3] for e in sampler.push(picture(i), i * SECOND // 10, None)[1]]
    s, h = SAMPLED, HELD
    assert kinds == [h, h, s, h, h, s, h, h, s, s]


def test_the_period_in_use() -> None:
    sampler, _ = make(small_px=0)
    assert sampler.period_ns == 33_333_333
    for i in range(12):
        sampler.push(picture(0), i * 40_000_000, None)
    assert sampler.period_ns == 40_000_000
    assert make(period_ns=123_456)[0].period_ns == 123_456


def test_read_only_rings_are_refused() -> None:
    ring = np.zeros((4, 1, 3, 8, 8), np.float32)
    ring.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        Sampler([(8, 15000, 1, 2, MEAN, STD, True)], [ring])


def test_a_frame_of_one_pixel() -> None:
    sampler, (ring,) = make((8, 15000, 1, 2))
    stats = np.empty((3, 1, 1), np.float32)
    frame = np.full((1, 1, 3), 100, np.uint8)
    assert sampler.push(frame, 0, stats)[0] == _native.RESET_START
    assert stats.ravel().tolist() == [0, 0, 100]
    assert np.abs(ring[0, 0] - crop(frame, (0, 0, 1, 1), 8)).max() == 0
    assert sampler.small_shape == (1, 1)


def test_the_rings_live_as_long_as_the_sampler() -> None:
    sampler = Sampler([(8, 15000, 1, 2, MEAN, STD, True)], [np.zeros((4, 1, 3, 8, 8), np.float32)])
    for i in range(50):
        sampler.push(picture(i), i * SECOND // 15, None)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc/self/statm (Linux)")
def test_memory_is_constant_over_100000_frames() -> None:
    sampler, _ = make((8, 15000, 2, 4), (4, 5000, 1, 4), small_px=16)
    frames, stats = [picture(i, 24, 32) for i in range(4)], np.empty((3, 2, 2), np.float32)

    def push(count: int, start: int) -> None:
        for i in range(start, start + count):
            sampler.push(frames[i % 4], i * SECOND // 30, stats)
            if i % 1000 == 0:
                sampler.set_boxes(0, [(i % 7, i % 5, 20, 15)])

    push(5_000, 0)
    before = resident_bytes()
    push(95_000, 5_000)
    assert resident_bytes() - before < 256 * 1024


def test_the_gil_is_released() -> None:
    """With a switch interval of 1000 s only a release inside push lets the waiting thread run."""
    sampler, _ = make((224, 15000, 1, 2))
    frame = picture(0, 1080, 1920)
    gate, ran = threading.Lock(), []
    gate.acquire()
    thread = threading.Thread(target=lambda: (gate.acquire(), ran.append(1)))
    thread.start()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        gate.release()
        for i in range(5000):  # a busy machine may be long in coming to the other thread
            sampler.push(frame, i * SECOND // 15, None)
            if ran:
                break
        assert ran
    finally:
        sys.setswitchinterval(before)
        thread.join()


def test_one_sampler_is_for_one_thread_at_a_time() -> None:
    sampler, _ = make((224, 1000_000, 1, 2))
    frame, refused, stop = picture(0, 1080, 1920), [], threading.Event()

    def poke() -> None:
        while not stop.is_set():
            try:
                sampler.set_interval(0, 1)
            except RuntimeError as error:
                refused.append(str(error))
                return

    thread = threading.Thread(target=poke)
    thread.start()
    for i in range(500):
        try:
            sampler.push(frame, i * SECOND // 30, None)
        except RuntimeError as error:
            refused.append(str(error))
        if refused:
            break
    stop.set()
    thread.join()
    assert refused
    assert "one thread at a time" in refused[0]


def test_samplers_in_parallel_do_not_meet() -> None:
    def work(seed: int, out: list) -> None:
        sampler, (ring,) = make((40, 15000, 1, 3))
        stats = np.empty((3, 12, 16), np.float32)
        total = 0.0
        for i in range(30):
            sampler.push(picture(seed + i % 5, 190, 250), i * SECOND // 30, stats)
            total += float(stats.sum())
        out.append((seed, ring.copy(), total))

    alone: list = []
    for seed in range(4):
        work(seed, alone)
    together: list = []
    threads = [threading.Thread(target=work, args=(seed, together)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (_, ring, total), (_, other, other_total) in zip(
        alone, sorted(together, key=lambda r: r[0]), strict=True
    ):
        assert np.array_equal(ring, other)
        assert total == other_total

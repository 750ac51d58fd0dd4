"""Each bad argument is a ValueError with what was given and what was expected, and the sampler goes on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vidprism_edge.runtimes._native import OK, Sampler, block_stats, resize_area, resize_area_u8, simd_select

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
BOX = (0, 0, 90, 60)
OUT = np.empty((3, 8, 8), np.float32)
FRAME = np.zeros((60, 90, 3), np.uint8)
STATS = np.empty((3, 4, 6), np.float32)
OUT64, STATS64 = OUT.astype(np.float64), STATS.astype(np.float64)
LUMA = np.empty((60, 90), np.uint8)
LONG = np.zeros((1, 1100, 3), np.uint8)
RING = np.zeros((2, 1, 3, 8, 8), np.float32)


def spec(**change: object) -> tuple:
    fields = {"size": 8, "rate": 15000, "regions": 1, "rows": 2, "mean": MEAN, "std": STD, "letterbox": True}
    return tuple((fields | change).values())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: s.push(FRAME[..., 0], 0, STATS), r"frame: given .*shape \(60, 90\).*expected uint8 \[H, W, 3\]"),
        (lambda s: s.push(FRAME.astype(np.float32), 0, STATS), "frame: given dtype code 'f'.*expected uint8"),
        (lambda s: s.push(FRAME.astype(np.int8), 0, STATS), "frame: given dtype code 'b'"),
        (lambda s: s.push(FRAME[:, ::2], 0, STATS), "frame: given .*pixels 3 bytes apart"),
        (lambda s: s.push(FRAME[..., ::-1], 0, STATS), "frame: given .*strides"),
        (lambda s: s.push(FRAME[..., :2], 0, STATS), "frame: given .*shape"),
        (lambda s: s.push(FRAME[:0], 0, STATS), "frame: given .*sides of 1 to 16384"),
        (lambda s: s.push(np.broadcast_to(FRAME[:1], (60, 90, 3)), 0, STATS), "frame: .*rows at least"),
        (lambda s: s.push(np.zeros((1, 16385, 3), np.uint8), 0, None), "sides of 1 to 16384"),
        (lambda s: s.push(None, 0, STATS), "frame: given .*NoneType.*expected a numpy array"),
        (lambda s: s.push([[1]], 0, STATS), "frame: given .*list.*expected a numpy array"),
        (lambda s: s.push(FRAME, 2**61, STATS), r"t_ns: given 2305843009213693952; expected .*2\*\*60"),
        (lambda s: s.push(FRAME, 0, STATS[:, :3]), r"stats: given .*expected .*writable float32 \[3, 4, 6\]"),
        (lambda s: s.push(FRAME, 0, STATS64), "stats: given dtype code 'd'"),
        (lambda s: s.set_boxes(0, [(0, 0, 91, 60)]), r"box: given .*\(0, 0, 91, 60\).*width 90, height 60"),
        (lambda s: s.set_boxes(0, [BOX, (-1, 0, 5, 5)]), r"boxes: given 2 boxes; expected 1 to 1"),
        (lambda s: s.set_boxes(0, [(-1, 0, 5, 5)]), r"box: given .*\(-1, 0, 5, 5\)"),
        (lambda s: s.set_boxes(0, [(0, 0, 0, 5)]), "at least 1"),
        (lambda s: s.set_boxes(0, [(0, 0, 5)]), "boxes: given .*whole numbers"),
        (lambda s: s.set_boxes(0, [(0, 0, 2**40, 1)]), "boxes: given .*whole numbers"),
        (lambda s: s.set_boxes(0, [(0.5, 0, 5, 5)]), "boxes: given .*whole numbers"),
        (lambda s: s.set_boxes(0, []), "given 0 boxes"),
        (lambda s: s.set_boxes(1, [BOX]), "stream: given 1; expected 0 to 0"),
        (lambda s: s.set_interval(-1, 1), "stream: given -1"),
        (lambda s: s.set_interval(0, -1), "n: given -1; expected 0"),
        (lambda s: s.counts(7), "stream: given 7; expected -1 to 0"),
        (lambda s: resize_area(FRAME, (0, 0, 91, 1), OUT, MEAN, STD, True), "inside the frame of width 90"),
        (lambda s: resize_area(FRAME, BOX, OUT[:, :4], MEAN, STD, True), "out: given"),
        (lambda s: resize_area(FRAME, BOX, OUT[:, :, ::2], MEAN, STD, True), "out: given"),
        (lambda s: resize_area(FRAME, BOX, OUT64, MEAN, STD, True), "out: given dtype code 'd'"),
        (lambda s: resize_area(FRAME, BOX, OUT, (1, 2), STD, True), "mean3: given .*three numbers"),
        (lambda s: resize_area(FRAME, BOX, OUT, MEAN, (1, 0, 1), True), "std3: given .*above 0"),
        (lambda s: resize_area(LONG, (0, 0, 1100, 1), OUT, MEAN, STD, False), "128"),
        (lambda s: resize_area_u8(FRAME, np.empty((0, 4, 3), np.uint8)), "out: given"),
        (lambda s: resize_area_u8(FRAME, np.empty((4, 4, 4), np.uint8)), "out: given"),
        (lambda s: block_stats(FRAME, None, np.empty((60, 89), np.uint8), STATS), "luma_out: given"),
        (lambda s: block_stats(FRAME, FRAME[..., 0], LUMA, STATS), "previous_luma: given"),
        (lambda s: block_stats(FRAME, None, LUMA, None), "stats: given None"),
        (lambda s: simd_select("mmx"), "name: given 'mmx'; expected one of"),
        (lambda s: simd_select(3), "name: given 3"),
        (lambda s: Sampler([spec()], []), "given 1 streams and 0 rings"),
        (lambda s: Sampler([spec()], [RING]), r"rings: given .*expected .*\[4, 1, 3, 8, 8\]"),
        (lambda s: Sampler([spec(size=0)], [OUT]), "streams: given .*size 1 to 16384"),
        (lambda s: Sampler([spec(rate=0)], [OUT]), "rate 1 to 1000000 mHz"),
        (lambda s: Sampler([spec(regions=65)], [OUT]), "regions 1 to 64"),
        (lambda s: Sampler([(1, 2, 3)], [OUT]), r"streams: given \(1, 2, 3\); expected \(size_px"),
        (lambda s: Sampler([spec(std=(0, 1, 1))], [OUT]), "std3"),
        (lambda s: Sampler([], [], repeat_ns=0), "given .*repeat_ns=0.*expected"),
        (lambda s: Sampler([], [], small_px=-1), "given small_px=-1"),
        (lambda s: Sampler([], [], period_ns=-5), "period_ns=-5"),
    ],
)  # fmt: skip
def test_bad_input(call: Callable[[Sampler], object], words: str) -> None:
    sampler = Sampler([spec()], [np.zeros((4, 1, 3, 8, 8), np.float32)])
    sampler.push(FRAME, 0, STATS)
    with pytest.raises(ValueError, match=words):
        call(sampler)
    assert sampler.push(FRAME, 40_000_000, STATS)[0] == OK  # and the sampler goes on

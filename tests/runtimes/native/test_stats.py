"""Block statistics against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vidprism_edge.runtimes import _native


def luma_of(frame: NDArray[np.uint8]) -> NDArray[np.int64]:
    return (frame.astype(np.int64) @ np.array([29, 150, 77]) + 128) >> 8


def block_means(values: NDArray) -> NDArray[np.float32]:
    """Means over 16x16 blocks, the last ones over what is there."""
    rows, columns = np.arange(0, values.shape[0], 16), np.arange(0, values.shape[1], 16)
    total = np.add.reduceat(np.add.reduceat(values, rows, 0), columns, 1)
    area = np.add.reduceat(np.add.reduceat(np.ones_like(values), rows, 0), columns, 1)
    return total.astype(np.float32) / area.astype(np.float32)


def reference(frame: NDArray[np.uint8], previous: NDArray[np.uint8] | None) -> NDArray[np.float32]:
    y = luma_of(frame)
    motion = np.abs(y - (y if previous is None else previous))
    dx = np.abs(np.diff(y, axis=1, prepend=y[:, :1]))
    dy = np.abs(np.diff(y, axis=0, prepend=y[:1]))
    return np.stack([block_means(motion), block_means(dx + dy), block_means(y)])


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (1, 40), (40, 1), (16, 16), (17, 31), (33, 65), (90, 131), (67, 96), (1080, 240), (48, 1280)],
)
def test_against_numpy(kernels: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape[0] * 10_000 + shape[1])
    frame = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    before = rng.integers(0, 256, shape, dtype=np.uint8)
    blocks = (-(-shape[0] // 16), -(-shape[1] // 16))
    for view in (frame, frame[::-1]):
        for previous in (None, before):
            luma = np.empty(shape, np.uint8)
            stats = np.full((3, *blocks), np.nan, np.float32)
            _native.block_stats(view, previous, luma, stats)
            assert np.array_equal(luma, luma_of(view))
            assert np.array_equal(stats, reference(view, previous))


def test_the_sampler_gives_the_same(kernels: str) -> None:
    rng = np.random.default_rng(2)
    sampler = _native.Sampler([], [], small_px=0)
    previous = None
    for i in range(5):
        frame = rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)
        stats = np.empty((3, 4, 5), np.float32)
        sampler.push(frame, i * 40_000_000, stats)
        assert np.array_equal(stats, reference(frame, previous))
        previous = luma_of(frame).astype(np.uint8)


def test_a_camera_may_reuse_its_buffer() -> None:
    sampler = _native.Sampler([], [], small_px=0)
    frame, stats = np.zeros((32, 32, 3), np.uint8), np.empty((3, 2, 2), np.float32)
    sampler.push(frame, 0, stats)
    frame[:] = 100
    sampler.push(frame, 40_000_000, stats)
    assert (stats[0] == 100).all()


def test_nothing_of_the_past_after_a_reset() -> None:
    sampler = _native.Sampler([], [], small_px=0)
    stats = np.empty((3, 2, 2), np.float32)
    sampler.push(np.zeros((32, 32, 3), np.uint8), 0, stats)
    sampler.reset()
    sampler.push(np.full((32, 32, 3), 200, np.uint8), 40_000_000, stats)
    assert (stats[0] == 0).all()
    assert sampler.push(np.zeros((32, 32, 3), np.uint8), 9_000_000_000, stats)[0] == _native.RESET_GAP
    assert (stats[0] == 0).all()

"""The timestamp grid against an oracle that works on whole arrays, straight from the definition.

t_k = t0 + k * 10**12 // rate_mhz. Point k is resolved by the first frame with 2 t_k < 2 s + p; the frame is fresh for
the first of its points with 2 (s - t_k) <= max(p, P), the others are repeated. p: a hint, or the median of the last
nine deltas.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from vidprism_edge.runtimes import _native

FPS = [Fraction(10), Fraction(25, 2), Fraction(15), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30),
       Fraction(60)]  # fmt: skip
RATES = [500, 2000, 5000, 15000, 30000]  # mHz
GUESS = 33_333_333
FRAME = np.zeros((1, 1, 3), np.uint8)


def clock(fps: Fraction, n: int, spoilt: str, seed: int) -> NDArray[np.int64]:
    """Timestamps of n frames, ns."""
    times = np.array([i * 10**9 * fps.denominator // fps.numerator for i in range(n)], np.int64) + 123_456_789
    rng = np.random.default_rng(seed)
    period = float(1e9 / fps)
    if "late" in spoilt:
        times = np.unique(times + (rng.exponential(0.15, n).clip(0, 0.9) * period).astype(np.int64))
    if "missing" in spoilt:
        times = times[rng.random(len(times)) > 0.1]
    if "rounded" in spoilt:
        times = np.unique((times + 500_000) // 1_000_000 * 1_000_000)
    return times


def periods(times: NDArray[np.int64], hint: int) -> NDArray[np.int64]:
    """The period in use when each frame arrives."""
    if hint:
        return np.full(len(times), hint)
    deltas = np.diff(times)
    first = [GUESS, *(int(np.median(deltas[:i])) for i in range(1, min(9, len(times))))]
    if len(times) < 10:
        return np.array(first[: len(times)])
    windows = np.lib.stride_tricks.sliding_window_view(deltas, 9)
    return np.concatenate([first, np.median(windows, axis=1).astype(np.int64)])


def oracle(times: NDArray[np.int64], rate: int, hint: int = 0, interval: int = 1) -> NDArray[np.int64]:
    """[points, 4]: k, t, kind, and which frame stands for it (-1: none), with every gap below repeat_ns."""
    p = periods(times, hint)
    until = np.maximum.accumulate(2 * times + p)
    count = int((until[-1] - 2 * times[0]) * rate // (2 * 10**12)) + 2
    k = np.arange(count)
    t = times[0] + k * 10**12 // rate
    k, t = k[2 * t < until[-1]], t[2 * t < until[-1]]
    resolver = np.searchsorted(until, 2 * t, side="right")
    due = k % interval == 0
    reach = np.maximum(p[resolver], 10**12 // rate)
    fits = due & (2 * (times[resolver] - t) <= reach)
    kind = np.where(due, _native.REPEATED, _native.HELD)
    first_of_frame = np.unique(resolver[fits], return_index=True)[1]
    kind[np.flatnonzero(fits)[first_of_frame]] = _native.SAMPLED
    fresh = np.where(kind == _native.SAMPLED, resolver, -1)
    stands = np.where(due, np.maximum.accumulate(fresh), -1)
    return np.stack([k, t, kind, stands], axis=1)


def run(
    times: NDArray[np.int64], rates: list[int], hint: int = 0, intervals: list[int] | None = None
) -> list[NDArray[np.int64]]:
    """The same from the sampler: one array a stream; the frame that stands in is told by its ring row."""
    rows = 3
    rings = [np.zeros((2 * rows, 1, 3, 1, 1), np.float32) for _ in rates]
    streams = [(1, rate, 1, rows, (0, 0, 0), (1, 1, 1), False) for rate in rates]
    sampler = _native.Sampler(streams, rings, small_px=0, period_ns=hint)
    for i, n in enumerate(intervals or []):
        sampler.set_interval(i, n)
    out: list[list[tuple[int, int, int, int]]] = [[] for _ in rates]
    frame_of_row: list[dict[int, int]] = [{} for _ in rates]
    for i, s in enumerate(times.tolist()):
        status, events = sampler.push(FRAME, s, None)
        assert status == (_native.OK if i else _native.RESET_START)
        for stream, k, t, kind, row in events:
            if kind == _native.SAMPLED:
                frame_of_row[stream][row] = i
            out[stream].append((k, t, kind, frame_of_row[stream][row] if row >= 0 else -1))
    for i in range(len(rates)):
        counts = sampler.counts(i)
        assert counts["points"] == len(out[i])
        kinds = np.array(out[i])[:, 2]
        for name, kind in (("sampled", 0), ("repeated", 1), ("held", 2), ("reset", 3)):
            assert counts[name] == (kinds == kind).sum()
    return [np.array(o, np.int64).reshape(-1, 4) for o in out]


@pytest.mark.parametrize("spoilt", ["", "late", "missing", "rounded", "late missing rounded"])
@pytest.mark.parametrize("fps", FPS, ids=lambda f: f"{float(f):.5g}fps")
def test_against_the_oracle(fps: Fraction, spoilt: str) -> None:
    times = clock(fps, int(90 * fps), spoilt, seed=int(fps * 7) + len(spoilt))
    for hint in (0, int(10**9 / fps)):
        for rate, got in zip(RATES, run(times, RATES, hint), strict=True):
            np.testing.assert_array_equal(got, oracle(times, rate, hint), err_msg=f"{rate} mHz, hint {hint}")


@pytest.mark.parametrize(
    "fps", [Fraction(10), Fraction(30000, 1001), Fraction(60)], ids=lambda f: f"{float(f):.5g}fps"
)
def test_intervals(fps: Fraction) -> None:
    times = clock(fps, int(60 * fps), "late missing", seed=5)
    intervals = [1, 2, 3, 5, 4]
    for rate, n, got in zip(RATES, intervals, run(times, RATES, 0, intervals), strict=True):
        np.testing.assert_array_equal(got, oracle(times, rate, 0, n), err_msg=f"{rate} mHz, every {n}")


@pytest.mark.parametrize("spoilt", ["", "rounded"])
@pytest.mark.parametrize("fps", FPS, ids=lambda f: f"{float(f):.5g}fps")
def test_an_hour_never_drifts_by_more_than_half_a_period(fps: Fraction, spoilt: str) -> None:
    times = clock(fps, int(3600 * fps), spoilt, seed=0)
    rates = [2000, 15000]
    for rate, got in zip(rates, run(times, rates), strict=True):
        assert got[-1, 1] > 3599 * 10**9
        fresh = got[got[:, 2] == _native.SAMPLED]
        period = max(float(1e9 / fps), 1e12 / rate)
        assert np.abs(times[fresh[:, 3]] - fresh[:, 1]).max() <= period / 2 + 1_000_000
        assert len(np.unique(fresh[:, 3])) == len(fresh)  # each frame at most once
        assert np.array_equal(got[:, 0], np.arange(len(got)))  # each point exactly once
        if fps * 1000 >= rate and not spoilt:
            assert (got[:, 2] == _native.SAMPLED).mean() > 0.999


def test_15_fps_at_15_hz_uses_each_frame_once() -> None:
    for spoilt in ("", "rounded"):
        times = clock(Fraction(15), 900, spoilt, 0)
        (got,) = run(times, [15000])
        assert np.array_equal(got[:, 3], np.arange(len(times)))


def test_a_slow_camera_is_repeated() -> None:
    (got,) = run(clock(Fraction(10), 100, "", 0), [30000], hint=100_000_000)
    kinds = got[3:273, 2]  # 90 frames, three points each
    assert (kinds == _native.SAMPLED).sum() == 90
    assert (kinds == _native.REPEATED).sum() == 180


@pytest.mark.parametrize("origin", [0, -5 * 10**17, 10**18, 1_700_000_000 * 10**9 // 2])
def test_the_origin_does_not_matter(origin: int) -> None:
    times = clock(Fraction(25), 200, "late", 3)
    here, there = run(times, [15000])[0], run(times + origin, [15000])[0]
    there[:, 1] -= origin
    np.testing.assert_array_equal(here, there)

"""Latencies in numbers: percentiles that say when they are not there, and how far a repetition may lie off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vidprism_edge.benchmark.stopping import estimate_percentile, least_samples

Float = npt.NDArray[np.float64]

#: Confidence of every interval, and how often the samples are drawn anew for one.
INTERVAL, DRAWS = 0.99, 400
#: Stretches that a run is cut into: samples near in time resemble each other, so stretches are drawn, not samples.
STRETCHES = 16


def name_percentile(percentile: float) -> str:
    """``p99.9`` for 99.9."""
    return f"p{percentile:g}"


def nearest_rank(ordered: Float, percentile: float) -> float:
    """The smallest of the ordered samples that ``percentile`` in 100 do not exceed."""
    rank = int(np.ceil(percentile / 100 * len(ordered)))
    return float(ordered[max(rank, 1) - 1])


def summarise_ms(samples_ms: Sequence[float], percentiles: Sequence[float]) -> dict[str, Any]:
    """Return count, mean, extremes and percentiles (nearest rank, nothing clipped) of latencies in milliseconds.

    A percentile that the sample does not carry is None and named under ``insufficient`` with the count it needs: the
    least one of MLPerf's early stopping, whose upper estimates are under ``early_stopping``.
    """
    values = np.sort(np.asarray(samples_ms, np.float64))
    if not len(values):
        return {"count": 0, "insufficient": {name_percentile(p): least_samples(p) for p in percentiles}}
    result: dict[str, Any] = {
        "count": len(values),
        "mean": float(values.mean()),
        "min": float(values[0]),
        "max": float(values[-1]),
    }
    insufficient, estimates = {}, {}
    for percentile in percentiles:
        name, estimate = name_percentile(percentile), estimate_percentile(values, percentile)
        result[name] = None if estimate is None else nearest_rank(values, percentile)
        if estimate is None:
            insufficient[name] = least_samples(percentile)
        else:
            estimates[name] = estimate
    result["early_stopping"] = estimates
    if insufficient:
        result["insufficient"] = insufficient
    return result


def show_percentile(summary: Mapping[str, Any], percentile: float) -> str:
    """A percentile of :func:`summarise_ms` for people."""
    value = summary.get(name_percentile(percentile))
    return "insufficient" if value is None else f"{value:.2f}"


def draw_again(samples: Sequence[float] | Float, statistic: Callable[[Float], float], seed: int = 0) -> Float:
    """Bootstrap by stretches: the statistic of each of ``DRAWS`` runs made of stretches of this one [DRAWS].

    Stretches are moving blocks of consecutive samples, so that drift and bursts widen what comes out.
    """
    values = np.asarray(samples, np.float64)
    length = max(1, len(values) // STRETCHES)
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, len(values) - length + 1, (DRAWS, -(-len(values) // length)))
    offsets = np.arange(length)
    return np.array([statistic(values[(row[:, None] + offsets).ravel()[: len(values)]]) for row in starts])


def interval(drawn: Float) -> tuple[float, float]:
    """The interval with confidence ``INTERVAL`` from what :func:`draw_again` gave."""
    tail = (1 - INTERVAL) / 2
    return float(np.quantile(drawn, tail)), float(np.quantile(drawn, 1 - tail))


def percentile_statistic(percentile: float) -> Callable[[Float], float]:
    """The percentile by nearest rank as a function of unordered samples."""
    return lambda values: nearest_rank(np.sort(values), percentile)


def intervals_ms(samples_ms: Sequence[float], percentiles: Sequence[float]) -> dict[str, list[float]]:
    """Confidence intervals of the mean and of every percentile that the samples carry."""
    if len(samples_ms) < STRETCHES:
        return {}
    statistics: dict[str, Callable[[Float], float]] = {"mean": lambda values: float(values.mean())}
    for percentile in percentiles:
        if len(samples_ms) >= least_samples(percentile):
            statistics[name_percentile(percentile)] = percentile_statistic(percentile)
    return {name: list(interval(draw_again(samples_ms, of))) for name, of in statistics.items()}


def compare_samples(
    first: Sequence[float], second: Sequence[float], statistic: Callable[[Float], float]
) -> tuple[float, float, float]:
    """The ratio second / first of a statistic, and its confidence interval."""
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    ratios = draw_again(two, statistic, seed=1) / np.maximum(draw_again(one, statistic, seed=2), 1e-12)
    low, high = interval(ratios)
    return statistic(two) / max(statistic(one), 1e-12), low, high

"""Latencies in numbers: percentiles that say when they are not there, and how far a repetition may lie off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from vidprism_edge.benchmark.stopping import estimate_percentile, least_samples

Float = npt.NDArray[np.float64]

#: Confidence of every interval.
INTERVAL = 0.99
#: Stretches that a run in one process is cut into.
STRETCHES = 16
#: Far below what a clock can tell.
_LEAST_MS = 1e-9


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


def percentile_statistic(percentile: float) -> Callable[[Float], float]:
    """The percentile by nearest rank as a function of unordered samples."""
    return lambda values: nearest_rank(np.sort(values), percentile)


def carried_statistics(count: int, percentiles: Sequence[float]) -> dict[str, Callable[[Float], float]]:
    """The mean and those of the percentiles that so many samples carry, by name."""
    carried = [p for p in percentiles if count >= least_samples(p)]
    return {
        "mean": lambda values: float(values.mean()),
        **{name_percentile(p): percentile_statistic(p) for p in carried},
    }


@lru_cache(maxsize=256)
def student_t(freedom: float) -> float:
    """Student's t for ``INTERVAL``, two-sided, with so many degrees of freedom (1 or more, whole or not)."""
    # with t = √ν · tan θ, the density of θ is cos^(ν-1) θ on a quarter circle
    edges = np.linspace(0, np.pi / 2, 50_001)
    weights = np.cos((edges[:-1] + edges[1:]) / 2) ** (freedom - 1)
    cumulated = np.concatenate([[0.0], np.cumsum(weights) / weights.sum()])
    return float(np.sqrt(freedom) * np.tan(np.interp(INTERVAL, cumulated, edges)))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic of a run, and what is known of its error: natural logarithms, so that errors are shares."""

    log: float
    error: float
    freedom: int


def cut(samples: Sequence[float], parts: Sequence[int]) -> list[Float]:
    """The samples of each part; those of a run in one process as ``STRETCHES`` stretches.

    Neighbours resemble each other and so do the samples of one process: a part is one draw, whatever its length.
    """
    values = np.asarray(samples, np.float64)
    if len(parts) > 1:
        return np.split(values, np.cumsum(parts)[:-1])
    return np.array_split(values, min(STRETCHES, len(values)))


def estimate(samples: Sequence[float], parts: Sequence[int], statistic: Callable[[Float], float]) -> Estimate:
    """The statistic of all samples, with the error that its spread over the parts implies; two parts or more."""
    pieces = cut(samples, parts)
    logs = np.log(np.maximum([statistic(piece) for piece in pieces], _LEAST_MS))
    whole = max(statistic(np.asarray(samples, np.float64)), _LEAST_MS)
    return Estimate(float(np.log(whole)), float(logs.std(ddof=1)) / len(pieces) ** 0.5, len(pieces) - 1)


def intervals_ms(
    samples_ms: Sequence[float], parts: Sequence[int], percentiles: Sequence[float]
) -> dict[str, list[float]]:
    """Where 99 of 100 repeated runs have their mean, and every percentile that the samples carry.

    A repetition is off by an error of its own, hence √2.
    """
    if len(samples_ms) < STRETCHES:
        return {}
    found = {}
    for name, statistic in carried_statistics(len(samples_ms), percentiles).items():
        one = estimate(samples_ms, parts, statistic)
        half = student_t(one.freedom) * 2**0.5 * one.error
        found[name] = [float(np.exp(one.log - half)), float(np.exp(one.log + half))]
    return found


def compare_estimates(first: Estimate, second: Estimate) -> tuple[float, float, float]:
    """The ratio second / first, and its interval by Welch's t."""
    one, two = first.error**2, second.error**2
    half = 0.0
    if one + two > 0:
        freedom = (one + two) ** 2 / (one**2 / first.freedom + two**2 / second.freedom)
        half = student_t(freedom) * (one + two) ** 0.5
    difference = second.log - first.log
    return tuple(float(np.exp(difference + side)) for side in (0.0, -half, half))  # type: ignore[return-value]

"""Percentiles that say when they are not there, and intervals that hold for correlated samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidprism_edge.benchmark.statistics import (
    compare_samples,
    draw_again,
    interval,
    intervals_ms,
    percentile_statistic,
    show_percentile,
    summarise_ms,
)
from vidprism_edge.benchmark.stopping import least_samples

SAMPLES = st.lists(st.floats(0.0, 1e6), min_size=1, max_size=800)


@given(samples=SAMPLES, percentile=st.floats(0.1, 99.9))
def test_a_percentile_is_a_sample_by_nearest_rank_or_missing_by_name(samples, percentile):
    name = f"p{percentile:g}"
    summary = summarise_ms(samples, [percentile])
    assert summary["count"] == len(samples)
    assert summary["min"] == min(samples)
    assert summary["max"] == max(samples)
    if len(samples) < least_samples(percentile):
        assert summary[name] is None
        assert summary["insufficient"] == {name: least_samples(percentile)}
        assert show_percentile(summary, percentile) == "insufficient"
        return
    assert "insufficient" not in summary
    assert summary[name] <= summary["early_stopping"][name] <= summary["max"]
    assert summary[name] in samples
    below = sum(s <= summary[name] for s in samples)
    assert below >= percentile / 100 * len(samples) - 1e-6
    assert sum(s < summary[name] for s in samples) < percentile / 100 * len(samples)


def test_known_percentiles():
    summary = summarise_ms(list(range(1, 1001)), [50, 90, 95, 99, 99.9])
    assert (summary["p50"], summary["p90"], summary["p95"], summary["p99"]) == (500, 900, 950, 990)
    assert summary["p99.9"] is None
    assert summary["insufficient"] == {"p99.9": least_samples(99.9)}


def test_nothing_is_clipped():
    """One slow query in a thousand is the maximum and moves the mean."""
    summary = summarise_ms([1.0] * 999 + [1001.0], [50])
    assert summary["max"] == 1001.0
    assert summary["mean"] == pytest.approx(2.0)


def test_no_sample_gives_no_number():
    summary = summarise_ms([], [50, 99])
    assert summary == {"count": 0, "insufficient": {"p50": 11, "p99": 662}}
    assert show_percentile(summary, 50) == "insufficient"


def make_run(rng, level=10.0, count=512):
    """Latencies whose neighbours resemble each other, as those of a machine with moods do."""
    noise = rng.normal(0, 0.1, count)
    for i in range(1, count):
        noise[i] += 0.9 * noise[i - 1]
    return level * np.exp(noise / 2)


def test_a_repetition_lies_in_the_interval_of_most_runs():
    """Drawing single samples instead of stretches would hold in about half of them."""
    rng = np.random.default_rng(0)
    median = percentile_statistic(50)
    truth = median(np.concatenate([make_run(rng) for _ in range(100)]))
    intervals = [interval(draw_again(make_run(rng), median)) for _ in range(60)]
    assert sum(low <= truth <= high for low, high in intervals) >= 54


def test_only_what_the_samples_carry_has_an_interval():
    rng = np.random.default_rng(1)
    found = intervals_ms(make_run(rng, count=100).tolist(), [50, 90, 99])
    assert set(found) == {"mean", "p50", "p90"}
    assert all(low < high for low, high in found.values())
    assert intervals_ms([1.0] * 10, [50]) == {}


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5])
def test_a_ratio_is_found_with_its_interval(factor):
    rng = np.random.default_rng(2)
    ratio, low, high = compare_samples(make_run(rng), make_run(rng, 10 * factor), percentile_statistic(50))
    assert low <= factor <= high
    assert low < ratio < high
    assert high / low < 1.35

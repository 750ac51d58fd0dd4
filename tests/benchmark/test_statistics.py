"""Percentiles that say when they are not there, and intervals that hold for correlated samples."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidprism_edge.benchmark.statistics import (
    Estimate,
    compare_estimates,
    estimate,
    intervals_ms,
    percentile_statistic,
    show_percentile,
    student_t,
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
    noise = list(accumulate(rng.normal(0, 0.1, count).tolist(), lambda before, new: 0.9 * before + new))
    return level * np.exp(np.array(noise) / 2)


def make_parts(rng, parts=6, count=60, spread=0.03):
    """A run of several processes, each with a level of its own → samples, and how many each part has."""
    levels = 10.0 * np.exp(rng.normal(0, spread, parts))
    return np.concatenate([make_run(rng, level, count) for level in levels]), [count] * parts


def estimate_median(samples, parts):
    return estimate(samples, parts, percentile_statistic(50))


def test_a_repetition_lies_in_the_interval_that_a_run_of_several_processes_prints():
    rng = np.random.default_rng(0)
    held = dict.fromkeys(("mean", "p50", "p90"), 0)
    for _ in range(200):
        (one, parts), (two, _) = make_parts(rng), make_parts(rng)
        printed = intervals_ms(one, parts, [50, 90])
        again = {"mean": float(two.mean())} | summarise_ms(two, [50, 90])
        for name, (low, high) in printed.items():
            held[name] += low <= again[name] <= high
    assert min(held.values()) >= 194, held


def test_two_runs_of_one_thing_show_no_difference():
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(300):
        _, low, high = compare_estimates(*(estimate_median(*make_parts(rng)) for _ in range(2)))
        held += low <= 1.0 <= high
    assert held >= 291


def test_one_process_knows_nothing_of_the_next():
    """The same samples taken for one process are in far narrower an interval: what the parts are there for."""
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(60):
        one, two = (make_parts(rng, parts=1, count=360, spread=0.1) for _ in range(2))
        _, low, high = compare_estimates(estimate_median(*one), estimate_median(*two))
        held += low <= 1.0 <= high
    assert held < 54


def test_one_process_has_the_interval_of_its_stretches():
    """Taking single samples for independent would hold in about half of the runs."""
    rng = np.random.default_rng(0)
    truth = percentile_statistic(50)(np.concatenate([make_run(rng) for _ in range(100)]))
    held = 0
    for _ in range(60):
        one = make_run(rng)
        found = estimate_median(one, [len(one)])
        _, low, high = compare_estimates(found, Estimate(float(np.log(truth)), 0.0, 1))
        held += low <= 1.0 <= high
    assert held >= 54


@pytest.mark.parametrize(("freedom", "value"), [(1, 63.657), (5, 4.032), (10, 3.169), (30, 2.750)])
def test_students_t_is_that_of_the_tables(freedom, value):
    assert student_t(freedom) == pytest.approx(value, rel=2e-3)


def test_parts_that_agree_to_the_last_bit_have_an_interval_of_no_width():
    assert intervals_ms([2.0] * 96, [16] * 6, [50]) == {
        "mean": pytest.approx([2.0, 2.0]),
        "p50": pytest.approx([2.0, 2.0]),
    }


def test_only_what_the_samples_carry_has_an_interval():
    rng = np.random.default_rng(1)
    found = intervals_ms(make_run(rng, count=100).tolist(), [100], [50, 90, 99])
    assert set(found) == {"mean", "p50", "p90"}
    assert all(low < high for low, high in found.values())
    assert intervals_ms([1.0] * 10, [10], [50]) == {}


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5])
def test_a_ratio_is_found_with_its_interval(factor):
    rng = np.random.default_rng(2)
    one, parts = make_parts(rng)
    two, _ = make_parts(rng)
    ratio, low, high = compare_estimates(estimate_median(one, parts), estimate_median(factor * two, parts))
    assert low <= factor <= high
    assert low < ratio < high
    assert high / low < 1.35

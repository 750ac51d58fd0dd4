"""Percentiles that say when they are not there, and a description of the machine that invents nothing."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidprism_edge import report
from vidprism_edge.report import (
    describe_environment,
    least_samples,
    peak_memory_bytes,
    show_percentile,
    summarise_ms,
)

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
    assert summary == {"count": 0, "insufficient": {"p50": least_samples(50), "p99": least_samples(99)}}
    assert show_percentile(summary, 50) == "insufficient"


@given(a=st.floats(0.1, 99.99), b=st.floats(0.1, 99.99))
def test_a_higher_percentile_never_needs_fewer_samples(a, b):
    low, high = sorted((a, b))
    assert least_samples(low) <= least_samples(high)


def test_the_environment_is_this_machines():
    environment = describe_environment()
    assert environment["python"] == platform.python_version()
    assert environment["machine"] == platform.machine()
    assert environment["cores"] >= 1
    assert environment["tools"]["numpy"] == np.__version__
    assert set(environment["instruction_sets"]) <= set(report._FLAGS)


def test_what_cannot_be_read_is_none(monkeypatch):
    monkeypatch.setattr(
        report.Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "no"))
    )
    monkeypatch.setattr(report.Path, "is_file", lambda _: False)
    environment = describe_environment()
    assert environment["board"] is None
    assert environment["instruction_sets"] == []


def test_peak_memory_grows_with_what_is_held():
    before = peak_memory_bytes()
    held = np.ones(64 << 20, np.uint8)
    assert peak_memory_bytes() > before - 1
    assert peak_memory_bytes() >= held.nbytes

"""Observers: each finds the range that it is named after, on distributions whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from vidprism_edge.calibration.observers import LEVELS, OBSERVERS, Histogram


def histogram(values: np.ndarray) -> Histogram:
    made = Histogram(min(float(values.min()), 0.0), max(float(values.max()), 0.0))
    made.add(values.astype(np.float32))
    return made


def rounding_error(values: np.ndarray, low: float, high: float) -> float:
    step = (high - low) / (LEVELS - 1)
    return float(
        np.mean((values - low - step * np.clip(np.round((values - low) / step), 0, LEVELS - 1)) ** 2)
    )


@pytest.fixture(scope="module")
def outlier():
    """A million normal values and one far away, as one odd channel gives."""
    return np.append(np.random.default_rng(0).standard_normal(1_000_000), 30.0)


def test_minmax_takes_all_and_the_others_give_the_outlier_up(outlier):
    found = {name: observe(histogram(outlier), 99.99) for name, observe in OBSERVERS.items()}
    assert found["minmax"][1] == 30.0
    for name in ("percentile", "mse", "entropy"):
        assert 2.0 < found[name][1] < 15.0, (name, found)


def test_percentile_leaves_its_share_outside():
    values = np.random.default_rng(0).uniform(-1, 1, 100_000)
    low, high = OBSERVERS["percentile"](histogram(values), 90)
    assert (low, high) == pytest.approx((-0.9, 0.9), abs=0.01)
    assert OBSERVERS["percentile"](histogram(values), 100) == pytest.approx(
        (values.min(), values.max()), abs=0.01
    )


def test_mse_is_least_among_the_ranges_around_it(outlier):
    made = histogram(outlier)
    chosen = OBSERVERS["mse"](made, 0)
    best = rounding_error(outlier, *chosen)
    for share in (0.04, 0.2, 0.5, 1.0):
        assert best <= rounding_error(outlier, *made.shrunk(share)) * 1.02


def test_entropy_is_not_minmax_where_a_long_tail_holds_little():
    """The quantiser whose entropy mode gave the minmax range for everything is the reason why this is here."""
    values = np.random.default_rng(1).laplace(size=400_000)
    made = histogram(values)
    assert OBSERVERS["entropy"](made, 0)[1] < 0.9 * made.high
    flat = histogram(np.random.default_rng(2).uniform(0, 1, 100_000))
    assert OBSERVERS["entropy"](flat, 0)[1] > 0.95


def test_a_range_holds_zero_and_survives_constants():
    for observe in OBSERVERS.values():
        low, high = observe(histogram(np.full(100, 3.0)), 99.9)
        assert low <= 0.0 or observe is OBSERVERS["percentile"]
        assert high > 0.0

"""Parity: what passes is within the tolerance, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vidprism_edge.errors import BundleError, UsageError
from vidprism_edge.export.verification import check_tolerance, compare_graph

ATOL = RTOL = 1e-4
VALUES = arrays(np.float32, (1, 5), elements=st.floats(-100, 100, width=32))


def compare(value, reference, atol=ATOL, rtol=RTOL):
    golden = [("case", {}, {"y": reference})]
    (parity,) = compare_graph("g", lambda _: {"y": value}, golden, atol, rtol)
    return parity


@given(value=VALUES, reference=VALUES, atol=st.floats(0, 1), rtol=st.floats(0, 1))
def test_an_output_passes_exactly_when_every_number_is_within_its_tolerance(value, reference, atol, rtol):
    wide, exact = value.astype(np.float64), reference.astype(np.float64)
    within = np.abs(wide - exact) <= (atol + rtol * np.abs(exact)) * (1 + 1e-12)
    parity = compare(value, reference, atol, rtol)
    assert parity.passed == bool(within.all()) or abs(parity.of_tolerance - 1) < 1e-9
    assert parity.max_error == pytest.approx(np.abs(wide - exact).max())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_fails_on_either_side(bad):
    good = np.ones((1, 3), np.float32)
    broken = good.copy()
    broken[0, 1] = bad
    for value, reference in ((broken, good), (good, broken), (broken, broken)):
        assert not compare(value, reference).passed
        assert not compare(value, reference, 0.0, 0.0).passed


def test_zero_tolerance_passes_equal_numbers_only():
    zeros = np.zeros((1, 3), np.float32)
    assert compare(zeros, zeros, 0.0, 0.0).passed
    other = zeros.copy()
    other[0, 2] = 1e-30
    assert not compare(other, zeros, 0.0, 0.0).passed


def test_another_shape_is_not_stretched_to_fit():
    with pytest.raises(BundleError, match=r"the graph gives \[1, 3\]"):
        compare(np.ones((1, 3), np.float32), np.ones((1, 1), np.float32))


def test_another_set_of_outputs_and_no_cases_at_all():
    golden = [("case", {}, {"y": np.ones((1, 1), np.float32)})]
    with pytest.raises(BundleError, match=r"holds \['y'\], the graph gives \['z'\]"):
        compare_graph("g", lambda _: {"z": np.ones((1, 1), np.float32)}, golden, ATOL, RTOL)
    with pytest.raises(BundleError, match="no golden vectors for graph g"):
        compare_graph("g", lambda _: {}, [], ATOL, RTOL)


def test_the_worst_case_is_named():
    reference = np.ones((1, 2), np.float32)
    outputs = iter([reference, reference + 0.5, reference + 0.1])
    golden = [(case, {}, {"y": reference}) for case in ("a", "b", "c")]
    (parity,) = compare_graph("g", lambda _: {"y": next(outputs)}, golden, ATOL, RTOL)
    assert (parity.worst_case, parity.cases, parity.max_error) == ("b", 3, pytest.approx(0.5))


@pytest.mark.parametrize(("atol", "rtol"), [(-1, 0), (0, -1), (float("nan"), 0), (0, float("inf"))])
def test_a_tolerance_that_means_nothing_is_refused(atol, rtol):
    with pytest.raises(UsageError, match="tolerance"):
        check_tolerance(atol, rtol)

"""The choice: the fastest that is right, an INT8 only where it is faster, the more exact within noise."""

from __future__ import annotations

import time

import msgspec
import numpy as np
import pytest

from vidprism_edge.calibration.choice import Candidate, decide, fall_back, time_interleaved
from vidprism_edge.calibration.recipes import GraphRecipe


def candidate(precision: str, ms: float, db: float) -> Candidate:
    return Candidate(
        recipe=GraphRecipe(precision=precision), computes_in=precision, median_ms=ms, sqnr_db=db,
        max_error=0.0, cosine=1.0, size_bytes=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("bf16", "int8", "expected"),
    [
        ((0.5, 40), (0.4, 30), "int8"),
        ((0.5, 40), (0.6, 30), "bf16"),
        ((0.5, 40), (0.49, 30), "bf16"),  # within noise: not worth the error
        ((0.5, 40), (0.1, 10), "bf16"),  # fast and wrong
        ((1.2, 40), (1.1, 30), "fp32"),
        ((0.5, 10), (0.4, 10), "fp32"),
    ],
)
def test_what_is_chosen(bf16, int8, expected):
    made = (candidate("fp32", 1.0, 200), candidate("bf16", *bf16), candidate("int8", *int8))
    choice = decide("spatial", made)
    assert choice.recipe.precision == expected
    assert choice.why.startswith(f"{expected}: ")
    for other in made[1:]:
        if other.recipe.precision != expected:
            assert f"{other.recipe.precision} is " in choice.why


def test_what_the_golden_vectors_refute_is_not_chosen():
    refuted = msgspec.structs.replace(candidate("int8", 0.1, 30), proved=False)
    choice = decide("x", (candidate("fp32", 1.0, 200), candidate("bf16", 0.6, 40), refuted))
    assert choice.recipe.precision == "bf16"
    assert "int8 is wrong (golden vectors)" in choice.why


def test_a_missed_gate_goes_to_the_next_more_exact_one():
    choice = decide(
        "x", (candidate("fp32", 1.0, 200), candidate("bf16", 0.6, 40), candidate("int8", 0.4, 25))
    )
    seen = []
    while choice is not None:
        seen.append(choice.recipe.precision)
        choice = fall_back(choice)
    assert seen == ["int8", "bf16", "fp32"]


def test_engines_take_turns_and_the_slower_one_takes_longer():
    order = []

    class Sleeper:
        def __init__(self, name, seconds):
            self.name, self.seconds = name, seconds

        def infer(self, _):
            order.append(self.name)
            time.sleep(self.seconds)

    slow, fast = time_interleaved(
        [Sleeper("slow", 0.004), Sleeper("fast", 0.0)], [{"x": np.zeros(1)}], rounds=3
    )
    assert order == ["slow", "fast"] * 5
    assert slow > fast

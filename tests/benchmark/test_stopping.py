"""Early stopping equals MLCommons LoadGen's, on latencies that LoadGen itself measured."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidprism_edge.benchmark.stopping import count_discarded, estimate_percentile, least_samples

LEAST = {90.0: 64, 95.0: 130, 99.0: 662, 99.9: 6636}
Request = tuple[float, int, int, bool]


@pytest.fixture
def ask(tmp_path):
    """Ask LoadGen, in a process of its own."""
    if importlib.util.find_spec("mlperf_loadgen") is None:
        pytest.skip("needs the package mlcommons-loadgen: pip install 'vidprism-edge[dev]'")
    program = Path(__file__).with_name("loadgen.py")

    def run(requests: list[Request]) -> list[dict]:
        text = "".join(f"{p} {count} {seed} {int(multi)}\n" for p, count, seed, multi in requests)
        command = [sys.executable, str(program), str(tmp_path)]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def compare(requests: list[Request], answers: list[dict]) -> None:
    assert len(answers) == len(requests)
    for (percentile, count, _, _), answer in zip(requests, answers, strict=True):
        samples = answer["latencies_ns"]
        assert len(samples) == count
        assert estimate_percentile(samples, percentile) == answer["estimate_ns"], (percentile, count)
        if count < least_samples(percentile):
            assert answer["least"] == least_samples(percentile)
        else:
            assert answer["least"] is None


def make_requests(number: int, seed: int) -> list[Request]:
    """Sets at and around the least number of samples, and beyond it."""
    draw = random.Random(seed)
    requests = []
    for i in range(number):
        percentile = (90.0, 95.0, 99.0, 90.0, 95.0, 99.0, 90.0, 95.0, 99.0, 99.9)[i % 10]
        least = LEAST[percentile]
        most = int(least * (1.4 if percentile == 99.9 else 6))
        count = draw.choice((draw.randint(least - 3, least + 3), draw.randint(least, most)))
        requests.append((percentile, count, draw.randrange(1 << 30), i % 4 == 3))
    return requests


def test_the_least_numbers_of_samples_are_mlperfs():
    assert {p: least_samples(p) for p in LEAST} == LEAST


def test_equals_loadgen_around_the_least_numbers(ask):
    requests = [
        (p, least + d, 3 * i + d + 1, False) for i, (p, least) in enumerate(LEAST.items()) for d in (-1, 0)
    ]
    requests += make_requests(32, 7)
    compare(requests, ask(requests))


@pytest.mark.slow
def test_equals_loadgen_on_a_thousand_sets(ask):
    requests = make_requests(1000, 1)
    compare(requests, ask(requests))


@given(count=st.integers(1, 3000), percentile=st.sampled_from([50.0, 75.0, 90.0, 95.0, 97.5, 99.0]))
def test_equals_the_binomial_written_out(count, percentile):
    above = 1 - percentile / 100

    def odds(t: int) -> float:
        logs = [
            math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
            + k * math.log(above) + (count - k) * math.log1p(-above)
            for k in range(t + 1)
        ]  # fmt: skip
        return sum(map(math.exp, logs))

    discarded = count_discarded(count, percentile)
    if discarded is None:
        assert odds(min(1, count)) >= 0.01 * (1 - 1e-9)
    else:
        assert odds(discarded + 1) < 0.01 * (1 + 1e-9)
        assert odds(discarded + 2) >= 0.01 * (1 - 1e-9)


def test_the_estimate_exceeds_the_true_percentile_99_times_in_100():
    rng = np.random.default_rng(5)
    true = -math.log(0.1)  # p90 of an exponential distribution
    above = sum(estimate_percentile(rng.exponential(size=200), 90.0) >= true for _ in range(2000))
    assert 0.985 <= above / 2000 <= 1.0


@given(a=st.floats(0.1, 99.99), b=st.floats(0.1, 99.99))
def test_a_higher_percentile_never_needs_fewer_samples(a, b):
    low, high = sorted((a, b))
    assert least_samples(low) <= least_samples(high)


@pytest.mark.parametrize("percentile", [0.0, 100.0, -1.0, float("nan")])
def test_a_percentile_out_of_range_is_refused(percentile):
    with pytest.raises(ValueError, match="expected more than 0"):
        count_discarded(100, percentile)

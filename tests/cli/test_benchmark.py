"""``vidprism-edge benchmark``: what it reports, and that it calls an unsteady run by its name."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.folders import Place
from vidprism_edge.cli import benchmark
from vidprism_edge.cli.benchmark import STEADY, Samples, judge, parse_percentiles
from vidprism_edge.cli.main import main
from vidprism_edge.errors import UsageError
from vidprism_edge.spec import COMPONENTS

SOURCE = ("--source", "synthetic:3:160x120@15")
STAGES = {"decode", "sample", "python", *COMPONENTS}


@pytest.fixture
def place(cli, tmp_path):
    return Place(cli, tmp_path)


@pytest.mark.parametrize(
    ("code", "arguments", "says"),
    [
        (1, "--source missing.mp4", "does not exist"),
        (2, "--scenario offline", "--scenario is 'offline'"),
        (2, "--profile fast", "--profile is 'fast'"),
        (2, "--percentiles 50,many", "--percentiles"),
        (2, "--percentiles 0", "--percentiles"),
        (2, "--percentiles 50,100", "--percentiles"),
        (2, "--engine nothing", "unknown engine"),
        (2, "--threads -1", "threads is -1"),
        (2, "--warmup-ms nan", "--warmup-ms"),
        (2, "--report nowhere/a.json", "nowhere"),
        (2, "--report .", "."),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(place, tiny_bundle, code, arguments, says):
    source = () if "--source" in arguments else SOURCE
    assert says in place.refuses(
        code, "benchmark", tiny_bundle, *source, "--profile", "rapid", *arguments.split()
    )


def test_the_result_has_stages_percentiles_and_memory(tmp_path, tiny_bundle, monkeypatch, capsys):
    """In this process, with a judge that takes a busy machine for steady."""
    monkeypatch.setattr(benchmark, "judge", lambda _: (True, None))
    monkeypatch.chdir(tmp_path)
    arguments = ["--profile", "quick", "--percentiles", "50,90,99", "--json", "--report", "r.json", *SOURCE]
    monkeypatch.setitem(benchmark.PROFILES, "quick", (70, 0.0))
    assert main(["benchmark", str(tiny_bundle), *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["valid"] is True
    assert result["latency_ms"]["count"] == 70
    assert result["latency_ms"]["p50"] <= result["latency_ms"]["p90"] <= result["latency_ms"]["max"]
    assert result["latency_ms"]["p99"] is None
    assert result["latency_ms"]["insufficient"] == {"p99": 662}
    assert set(result["stages_ms"]) == STAGES
    for stage in result["stages_ms"].values():
        assert stage["count"] == 70
        assert stage["p50"] is not None
        assert stage["p99"] is None
    # the stages are the whole, decoding apart
    whole = sum(s["mean"] for n, s in result["stages_ms"].items() if n != "decode")
    assert whole == pytest.approx(result["latency_ms"]["mean"], rel=1e-6)
    assert result["peak_memory_bytes"] > 50e6
    assert result["energy"]["value"] is None
    assert result["energy"]["reason"]
    assert result["bundle"]["trained"] is False
    assert result["bundle"]["random_weights"] is True
    assert 0 < result["macs_per_query"] <= 2 * result["macs_always_on"]
    assert result["environment"]["tools"]["onnxruntime"]
    assert result["warmup"]["queries"] >= 4, "the first window is warm-up"
    stored = json.loads((tmp_path / "r.json").read_text())
    samples = stored.pop("samples")
    assert stored == result
    assert len(samples["latency_ms"]) == 70
    assert np.mean(samples["latency_ms"]) == pytest.approx(result["latency_ms"]["mean"])


def test_people_see_insufficient_by_name_and_that_weights_are_random(tiny_bundle, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "judge", lambda _: (True, None))
    assert main(["benchmark", str(tiny_bundle), "--profile", "rapid", *SOURCE]) == 0
    out = capsys.readouterr().out
    assert "insufficient" in out
    assert "random weights: for latency only" in out


def test_a_run_that_drifts_exits_5_and_still_reports(tiny_bundle, monkeypatch, capsys):
    real = benchmark.Runner.query
    calls = []

    def slower(self):
        latency, *rest = real(self)
        calls.append(latency)
        # a growth that doubles the median from half to half, however many queries the warm-up takes
        return (latency + 100.0 * 1.1 ** len(calls), *rest)

    monkeypatch.setattr(benchmark.Runner, "query", slower)
    assert main(["benchmark", str(tiny_bundle), "--profile", "rapid", "--json", *SOURCE]) == 5
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["valid"] is False
    assert "the median latency went from" in result["reason"]
    assert err.strip().splitlines()[-1].startswith("error: the run is not valid")


@given(
    middle=st.floats(1.0, 100.0),
    noise=st.lists(st.floats(-0.1, 0.1), min_size=8, max_size=60),
    drift=st.floats(1.6, 10.0),
    up=st.booleans(),
)
def test_a_run_is_judged_by_its_halves(middle, noise, drift, up):
    steady = [middle * (1 + n) for n in noise]
    assert judge(steady) == (True, None)
    half = len(steady) // 2
    drifting = [v * (drift if (i >= half) == up else 1.0) for i, v in enumerate(steady)]
    valid, reason = judge(drifting)
    assert not valid
    assert reason is not None
    assert STEADY < 1.6 * 0.9 / 1.1


def test_a_stage_that_comes_later_cost_nothing_before():
    samples = Samples()
    samples.add(1.0, {"a": 1.0}, 5)
    samples.add(3.0, {"a": 1.0, "b": 2.0}, 6)
    samples.add(2.0, {"b": 2.0}, 7)
    assert samples.stages_ms == {"a": [1.0, 1.0, 0.0], "b": [0.0, 2.0, 2.0]}
    assert samples.macs == 18


def test_percentiles_are_parsed():
    assert parse_percentiles("50, 99.9") == [50.0, 99.9]
    for text in ("", "a", "50,,90", "nan", "-1"):
        with pytest.raises(UsageError):
            parse_percentiles(text)

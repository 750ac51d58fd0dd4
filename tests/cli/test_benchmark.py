"""``vidprism-edge benchmark``: flags, what it reports, and that it calls a bad run by its name."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.cli.folders import Place
from vidprism_edge.benchmark import measure, streams
from vidprism_edge.benchmark.request import PROFILES
from vidprism_edge.benchmark.results import Limit, check_limits, parse_limits
from vidprism_edge.cli.benchmark import parse_percentiles
from vidprism_edge.cli.main import main
from vidprism_edge.errors import UsageError

SOURCE = ("--source", "synthetic:3:160x120@15", "--no-start")


@pytest.fixture
def place(cli, tmp_path):
    return Place(cli, tmp_path)


@pytest.fixture
def undisturbed(monkeypatch):
    """A judge that takes a busy machine for a quiet one."""
    monkeypatch.setattr(measure, "judge", lambda *_: [])


@pytest.mark.parametrize(
    ("code", "arguments", "says"),
    [
        (1, "--source missing.mp4", "does not exist"),
        (2, "--scenario server", "--scenario is 'server'"),
        (2, "--profile fast", "--profile is 'fast'"),
        (2, "--percentiles 50,many", "--percentiles"),
        (2, "--percentiles 0", "--percentiles"),
        (2, "--percentiles 50,100", "--percentiles"),
        (2, "--engine nothing", "unknown engine"),
        (2, "--threads -1", "threads is -1"),
        (2, "--warmup-ms nan", "--warmup-ms"),
        (2, "--deadline-ms -1", "--deadline-ms"),
        (2, "--fail-above p90=30", "--fail-above"),
        (2, "--report nowhere/a.json", "nowhere"),
        (2, "--report full", "not an empty folder"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(place, tiny_bundle, code, arguments, says):
    source = () if "--source" in arguments else SOURCE
    if "full" in arguments:
        (place.work / "full").mkdir()
        (place.work / "full" / "mine.txt").write_text("kept")
    assert says in place.refuses(
        code, "benchmark", tiny_bundle, *source, "--profile", "rapid", *arguments.split()
    )


def test_no_bundle_is_a_usage_error(place):
    assert "no bundle was given" in place.refuses(2, "benchmark")


def test_the_result_has_stages_percentiles_and_memory(
    tmp_path, tiny_bundle, undisturbed, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    arguments = ["--profile", "quick", "--percentiles", "50,90,99", "--json", "--report", "r.json", *SOURCE]
    monkeypatch.setitem(PROFILES, "quick", measure_profile(70))
    assert main(["benchmark", str(tiny_bundle), *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    latency = result["latency_ms"]
    assert result["valid"] is True
    assert latency["count"] == 70
    assert latency["p50"] <= latency["p90"] <= latency["early_stopping"]["p90"] <= latency["max"]
    assert result["headline"] == {
        "name": "p90 by early stopping", "value": latency["early_stopping"]["p90"], "unit": "ms",
    }  # fmt: skip
    assert latency["p99"] is None
    assert latency["insufficient"] == {"p99": 662}
    assert latency["intervals"]["p50"][0] <= latency["p50"] <= latency["intervals"]["p50"][1]
    assert result["bundle"]["trained"] is False
    assert result["bundle"]["random_weights"] is True
    assert 0 < result["macs_per_decision"] <= 2 * result["macs_always_on"]
    assert result["device"]["tools"]["onnxruntime"]
    stored = json.loads((tmp_path / "r.json").read_text())
    samples = stored.pop("samples")
    assert stored == result
    assert len(samples["latency_ms"]) == len(samples["at_s"]) == 70
    assert np.mean(samples["latency_ms"]) == pytest.approx(latency["mean"])


def measure_profile(queries):
    return type(PROFILES["rapid"])(dict.fromkeys(PROFILES["rapid"].queries, queries), 0.0)


def test_people_see_insufficient_by_name_and_that_weights_are_random(tiny_bundle, undisturbed, capsys):
    assert main(["benchmark", str(tiny_bundle), "--profile", "rapid", *SOURCE]) == 0
    out = capsys.readouterr().out
    assert "insufficient, needs 64 queries (profile rapid has 16)" in out
    assert "random weights: for latency only" in out


def test_a_run_that_drifts_exits_5_and_still_reports(tiny_bundle, monkeypatch, capsys):
    real = streams.Pull.query
    calls = []

    def slower(self):
        query = real(self)
        calls.append(query)
        query.latency_ms *= 1.05 ** len(calls)  # however many queries the warm-up takes
        return query

    monkeypatch.setattr(streams.Pull, "query", slower)
    assert main(["benchmark", str(tiny_bundle), "--profile", "rapid", "--json", *SOURCE]) == 5
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["valid"] is False
    assert any("the median latency went from" in reason for reason in result["reasons"])
    assert err.strip().splitlines()[-1].startswith("error: the run is not valid")


def test_a_processor_hog_makes_the_run_invalid_and_is_dated(tiny_bundle, monkeypatch, capsys):
    """Two busy processes beside the run, as real as they come; steadiness is not what gives them away."""
    monkeypatch.setitem(PROFILES, "rapid", type(PROFILES["rapid"])(PROFILES["rapid"].queries, 2.5))
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        code = main(["benchmark", str(tiny_bundle), "--profile", "rapid", "--json", *SOURCE])
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    assert code == 5
    result = json.loads(capsys.readouterr().out)
    assert any(
        reason.startswith("other programs kept") and "s on" in reason for reason in result["reasons"]
    ), result["reasons"]


@pytest.mark.parametrize(("limit", "code"), [("p50=10s", 0), ("max=1us", 1), ("p99=10s", 1)])
def test_a_limit_for_a_users_ci(tiny_bundle, undisturbed, capsys, limit, code):
    arguments = ["--profile", "rapid", "--fail-above", limit, *SOURCE]
    assert main(["benchmark", str(tiny_bundle), *arguments]) == code
    err = capsys.readouterr().err
    assert ("above --fail-above" in err) == bool(code)
    if limit.startswith("p99"):
        assert "p99 is insufficient: 16 samples of 662" in err


def test_limits_are_held_to_the_early_stopping_estimate():
    assert parse_limits("p99.9=1.5s, mean=20us") == [Limit("p99.9", 1500.0), Limit("mean", 0.02)]
    latency = {"count": 64, "p90": 29.0, "mean": 25.0, "early_stopping": {"p90": 31.0}}
    assert check_limits(parse_limits("p90=30ms"), latency) == ["p90 is 31.00 ms, above 30 ms"]
    assert check_limits(parse_limits("p90=32ms,mean=26ms"), latency) == []
    for text in ("p0=1ms", "p100=1ms", "p90", "p90=ms", "q90=1ms", "p90=1m", "p90>1ms"):
        with pytest.raises(UsageError):
            parse_limits(text)


def test_percentiles_are_parsed():
    assert parse_percentiles("50, 99.9") == [50.0, 99.9]
    for text in ("", "a", "50,,90", "nan", "-1"):
        with pytest.raises(UsageError):
            parse_percentiles(text)

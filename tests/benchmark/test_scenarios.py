"""The scenarios on the tiny network: what a query is, and where its time goes."""

from __future__ import annotations

import json
import time
from itertools import count
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from vidprism_edge.benchmark import scenarios
from vidprism_edge.benchmark.camera import PacedCamera
from vidprism_edge.benchmark.device.power import join_energy
from vidprism_edge.benchmark.judge import STEADY, judge_camera, judge_steady
from vidprism_edge.benchmark.measure import clock_cost_s, measure, tell_overhead
from vidprism_edge.benchmark.placement import tell_placement
from vidprism_edge.benchmark.request import PROFILES, SCENARIOS, Profile, Request
from vidprism_edge.benchmark.samples import Query, Samples, join_samples
from vidprism_edge.benchmark.scenarios import RUN, tell_rates, tell_streaming
from vidprism_edge.benchmark.start import forget, measure_starts
from vidprism_edge.benchmark.streams import MemorySource, keep_in_memory
from vidprism_edge.benchmark.tell import tell_fallback
from vidprism_edge.bundle import Bundle
from vidprism_edge.errors import UsageError
from vidprism_edge.runtimes.streaming.source import Frame, open_source
from vidprism_edge.spec import COMPONENTS

SOURCE = "synthetic:3:160x120@15"
STAGES = {"decode", "sample", "gates", "python", *COMPONENTS}


@pytest.fixture(scope="module")
def results(tiny_bundle):
    """Every scenario once, by the profile rapid."""
    bundle, found = Bundle.open(tiny_bundle), {}
    for scenario in SCENARIOS:
        request = Request(
            scenario=scenario, profile="rapid", source=SOURCE, percentiles=(50.0, 90.0), start=False
        )
        found[scenario] = measure(bundle, request, lambda *_: None)
    return found


def test_every_scenario_runs():
    assert set(RUN) == set(SCENARIOS)
    assert all(set(profile.queries) == set(SCENARIOS) for profile in PROFILES.values())


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_result_counts_and_is_json(results, scenario):
    result, samples = results[scenario]
    asked = PROFILES["rapid"].queries[scenario]
    decided = 8 if scenario == "multi-stream" else 1
    # two workers may each be in a query when the last one that counts is done
    assert asked <= result["queries"] <= asked + 64
    assert result["decisions"] == decided * result["queries"]
    assert len(samples.at_s) == result["queries"]
    assert result["latency_ms"]["count"] == result["queries"]
    assert result["state_kept_between_queries"] is True
    assert result["warmup"]["queries"] >= 4, "the first window is warm-up"
    assert result["warmup"]["first_ms"] > 0
    extra = {"before the push"} if scenario == "streaming" else set()
    assert set(result["stages_ms"]) == STAGES | extra
    assert all(stage["count"] == result["queries"] for stage in result["stages_ms"].values())
    assert result["monitor"], "the machine was watched"
    assert set(result["load"]["graphs_ms"]) == set(COMPONENTS)
    assert all(spent > 0 for spent in result["load"]["graphs_ms"].values())
    accelerator = result["accelerator"]
    assert (accelerator["share"], accelerator["fell_back"], accelerator["reason"]) == (1.0, {}, None)
    assert accelerator["nodes"]["head"] == {"CPU": 1}
    assert result["memory"]["peak_bytes"] >= result["memory"]["after_load_bytes"]
    assert result["energy"]["value"] is None or result["energy"]["value"] > 0
    assert json.loads(msgspec.json.encode(result))["request"]["scenario"] == scenario


def test_openvino_runs_a_scenario_and_says_where(tiny_bundle):
    pytest.importorskip("openvino")
    request = Request(
        profile="rapid", engine="openvino", threads=1, source=SOURCE, percentiles=(50.0,), start=False
    )
    result, _ = measure(Bundle.open(tiny_bundle), request, lambda *_: None)
    assert set(result["stages_ms"]) == STAGES
    assert result["accelerator"]["nodes"]["fusion"] == {"CPU": None}
    assert result["accelerator"]["share"] == 1.0
    assert set(result["precisions"].values()) == {"fp32"}


@pytest.mark.parametrize("scenario", ["single-stream", "multi-stream", "offline"])
def test_the_stages_are_the_whole(results, scenario):
    result, _ = results[scenario]
    whole = sum(s["mean"] for name, s in result["stages_ms"].items() if name != "decode")
    assert whole == pytest.approx(result["latency_ms"]["mean"], rel=1e-6)


def test_offline_keeps_every_worker_busy(results):
    extra = results["offline"][0]["offline"]
    assert extra["decisions_per_s"] == pytest.approx(results["offline"][0]["decisions"] / extra["wall_s"])
    assert extra["video_s_per_s"] == pytest.approx(extra["frames_per_s"] / 15, rel=1e-3)
    assert results["offline"][0]["headline"]["value"] == extra["decisions_per_s"]


def test_streaming_accounts_for_every_picture(results):
    result, samples = results["streaming"]
    extra = result["streaming"]
    delivered = result["frames"] + sum(extra["dropped"].values())
    assert abs(extra["captured"] - delivered) <= 2, "one may wait, one may be in hand"
    assert abs(extra["decisions_due"] - result["decisions"]) <= 1
    assert extra["missed"] == sum(age > extra["deadline_ms"] for age in samples.latency_ms)
    # an age holds the wait before the push
    waits = samples.stages_ms["before the push"]
    assert all(age > wait for age, wait in zip(samples.latency_ms, waits, strict=True))


def test_too_few_queries_give_no_headline(results):
    headline = results["single-stream"][0]["headline"]
    assert (headline["value"], headline["needs"]) == (None, 64)


class SlowSource:
    """Takes a while for each picture."""

    name, live, period_ns = "slow", False, 10_000_000

    def __init__(self, spent_s: float) -> None:
        self.spent_s, self.index = spent_s, count()
        self.lost: dict[str, int] = {}
        self.events: dict[str, int] = {}

    def read(self) -> Frame:
        time.sleep(self.spent_s)
        return Frame(np.zeros((4, 4, 3), np.uint8), 0, next(self.index))

    def close(self) -> None:
        """Nothing to release."""


def test_nodes_that_fall_back_are_named():
    engines = {
        "spatial": SimpleNamespace(placement={"CUDA": ("Conv a", "Conv b", "Relu c"), "CPU": ("Resize d",)}),
        "head": SimpleNamespace(placement={"CUDA": None}),
    }
    told = tell_placement(engines, "cuda")
    assert told["nodes"] == {"spatial": {"CUDA": 3, "CPU": 1}, "head": {"CUDA": None}}
    assert told["fell_back"] == {"spatial": {"CPU": ["Resize d"]}}
    assert told["share"] == 0.8
    text = tell_fallback({"accelerator": told})
    assert text == "80% of the nodes ran on cuda; fell back: 1 of spatial on CPU (Resize)"
    engines["fusion"] = SimpleNamespace(placement={"GPU.0": None, "CPU": None})
    told = tell_placement(engines, "AUTO")
    assert (told["share"], told["reason"]) == (
        None,
        "the engine does not say which nodes of fusion run where",
    )


def test_a_live_source_is_refused(monkeypatch):
    source = SlowSource(0.0)
    source.live = True
    monkeypatch.setattr(scenarios, "open_source", lambda *_, **__: source)
    setting = scenarios.Setting(None, {}, Request(source="0"), 1, 0.0, time.perf_counter, print)
    with pytest.raises(UsageError, match="'0' is live and paces itself"):
        setting.open()


def test_a_camera_does_not_wait_for_a_slow_decoder():
    """Captures every 10 ms, decoding takes 35: three of four are lost, and no age grows without end."""
    camera = PacedCamera(SlowSource(0.035))
    frames = [camera.read() for _ in range(12)]
    times = [frame.t_ns for frame in frames]
    steps = np.diff(times) / 1e6
    assert (steps % 10 == 0).all(), "captures lie on the grid of the camera's periods"
    assert camera.lost["decoder"] == sum(steps / 10 - 1)
    assert (steps >= 30).mean() > 0.8
    assert time.monotonic_ns() - times[-1] >= 35e6, "the age counts from the capture, decoding included"
    assert camera.take_decode_ms(times[5]) >= 6 * 35
    assert camera.take_decode_ms(times[5]) == 0.0
    camera.close()
    assert judge_camera({"captured": 36, "dropped": {"decoder": 24}}).startswith(
        "24 of 36 captures were lost"
    )
    assert judge_camera({"captured": 1000, "dropped": {"decoder": 1, "overrun": 500}}) is None


def test_misses_and_drops_are_those_of_the_measured_stretch():
    samples = Samples()
    for age in (10.0, 20.0, 30.0, 40.0):
        samples.add(Query(age, {}), 0.0)
    told = tell_streaming(
        samples, 25.0, {"read": 7, "dropped overrun": 2}, {"read": 107, "dropped overrun": 5}
    )
    assert told == {
        "deadline_ms": 25.0, "missed": 2, "captured": 100, "dropped": {"overrun": 3},
    }  # fmt: skip


def test_pictures_in_memory_go_there_and_back():
    with open_source("synthetic:1:16x16@10") as source:
        frames, period = keep_in_memory(source, 10**9)
    assert (len(frames), period) == (10, 100_000_000)
    memory = MemorySource(frames, period, phase=8)
    read = [memory.read() for _ in range(4)]
    assert [frame.t_ns for frame in read] == [0, period, 2 * period, 3 * period]
    assert [frame.pixels is frames[k].pixels for frame, k in zip(read, (8, 9, 8, 7), strict=True)] == [
        True
    ] * 4


def test_a_stage_that_comes_later_cost_nothing_before():
    samples = Samples()
    for i, (latency, stages) in enumerate(
        [(1.0, {"a": 1.0}), (3.0, {"a": 1.0, "b": 2.0}), (2.0, {"b": 2.0})]
    ):
        samples.add(Query(latency, stages, macs=i + 5), float(i))
    assert samples.stages_ms == {"a": [1.0, 1.0, 0.0], "b": [0.0, 2.0, 2.0]}
    assert samples.macs == 18


def test_a_run_of_several_parts_is_of_several_processes(tiny_bundle, monkeypatch):
    """The clock of the whole goes on, no query is lost between parts, and each loads its engines afresh."""
    monkeypatch.setitem(PROFILES, "rapid", Profile(dict.fromkeys(SCENARIOS, 5), 0.0, parts=2))
    told = []
    request = Request(profile="rapid", source=SOURCE, percentiles=(50.0,), start=False)
    result, samples = measure(Bundle.open(tiny_bundle), request, lambda what, *_: told.append(what))
    assert samples.parts == [3, 3]
    assert [part["queries"] for part in result["parts"]] == samples.parts
    assert result["parts"][0]["start_s"] == 0.0 < result["parts"][1]["start_s"]
    assert samples.at_s == sorted(samples.at_s)
    assert samples.at_s[3] > result["parts"][1]["start_s"] > samples.at_s[2]
    assert result["queries"] == result["decisions"] == 6
    assert told[-1].startswith("part 2 of 2, ")


def test_a_part_that_fails_ends_the_run_with_its_error(tiny_bundle, monkeypatch):
    monkeypatch.setitem(PROFILES, "rapid", Profile(dict.fromkeys(SCENARIOS, 5), 0.0, parts=2))
    with pytest.raises(UsageError, match="unknown engine"):
        measure(
            Bundle.open(tiny_bundle), Request(profile="rapid", engine="none", start=False), lambda *_: None
        )


def test_parts_are_joined_in_order():
    parts = []
    for level in (1.0, 2.0):
        part = Samples(extra={"workers": 2, "wall_s": 4.0, "video_s": level, "dropped": {"overrun": 1}})
        for i in range(4):
            part.add(Query(level, {"a": level} if level == 1.0 else {"b": level}, frames=3), float(i))
        parts.append(part)
    joined = join_samples(parts, [0.0, 10.0])
    assert joined.latency_ms == [1.0] * 4 + [2.0] * 4
    assert joined.at_s == [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0]
    assert joined.stages_ms == {"a": [1.0] * 4 + [0.0] * 4, "b": [0.0] * 4 + [2.0] * 4}
    assert joined.extra == {"workers": 2, "wall_s": 8.0, "video_s": 3.0, "dropped": {"overrun": 2}}
    assert tell_rates(joined)["frames_per_s"] == 24 / 8
    assert tell_rates(joined)["decisions_per_s"] == joined.decisions / 8


def test_energy_is_that_of_all_queries_or_says_what_a_part_lacks():
    one, two = ({"value": v, "average_w": 2 * v, "reason": None, "unit": "J per query"} for v in (1.0, 4.0))
    assert join_energy([one, two], [2, 1]) == one | {"value": 2.0, "average_w": 4.0}
    lacking = {"value": None, "average_w": None, "reason": "no meter"}
    assert join_energy([one, lacking], [1, 1]) == lacking


@pytest.mark.parametrize("up", [True, False])
def test_a_run_is_judged_by_its_halves(up):
    noise = np.random.default_rng(0).uniform(0.9, 1.1, 60)
    assert judge_steady((10 * noise).tolist()) is None
    drift = np.where((np.arange(60) >= 30) == up, 1.6, 1.0)
    assert "the median latency went from" in judge_steady((10 * noise * drift).tolist())
    assert STEADY < 1.6 * 0.9 / 1.1
    assert judge_steady([1.0]) is None


def test_starts_are_measured_in_processes_of_their_own(tiny_bundle):
    starts = measure_starts(tiny_bundle, Request(threads=1))
    assert starts["cache_dropped"] is True
    for name in ("cold", "warm"):
        parts = starts[name]["import_ms"] + starts[name]["load_ms"] + starts[name]["first_ms"]
        assert 0 < parts < starts[name]["process_ms"]


def test_a_start_that_fails_says_why(tmp_path):
    assert forget(tmp_path)
    assert "no-such" in measure_starts(tmp_path / "no-such", Request())["reason"]


def test_a_clocks_cost_is_small_and_counted(monkeypatch):
    assert 0 <= clock_cost_s() < 20e-6
    monkeypatch.setattr("vidprism_edge.benchmark.measure.clock_cost_s", lambda: 1e-6)
    told = tell_overhead(SimpleNamespace(entries=3000), monitor_cpu_s=0.002, cpu_s=1.0)
    assert told["share"] == pytest.approx(0.005)


def test_measuring_takes_less_than_a_hundredth(results):
    """Of the least network there is, over queries that are not published; a larger one's share is smaller."""
    result, samples = results["single-stream"]
    per_query = clock_cost_s() * samples.entries / result["queries"]
    assert per_query * 1e3 < 0.02 * result["latency_ms"]["mean"]

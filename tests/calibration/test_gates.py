"""Calibrating gates: what is measured, what is chosen, and what goes into the bundle."""

from __future__ import annotations

import json
import shutil

import msgspec
import pytest

from tests.cli.folders import Place
from tests.runtimes.display.made_predictions import prediction
from vidprism_edge.bundle import Bundle
from vidprism_edge.calibration.gates import (
    CHOICE_SHARE,
    Calibration,
    Course,
    Measures,
    Remembering,
    Trial,
    calibrate_gates,
    compare,
    count_needed,
    count_unmatched,
    list_candidates,
    store_calibration,
)
from vidprism_edge.cli.calibrate import frontier_notes
from vidprism_edge.errors import BundleError, UsageError
from vidprism_edge.runtimes.engines import load_engines
from vidprism_edge.runtimes.streaming.events import Event
from vidprism_edge.runtimes.streaming.gates import (
    SETTINGS_FILE,
    Gate,
    GateSettings,
    default_settings,
    load_settings,
)
from vidprism_edge.runtimes.streaming.session import Session
from vidprism_edge.runtimes.streaming.source_synthetic import open_synthetic
from vidprism_edge.spec import NONE, STREAMS, load_preset

HOP = 500_000_000
LABELS = ("wave", "clap", "none")


@pytest.fixture(scope="module")
def spec():
    return load_preset("nano", LABELS)


def course(*scores, macs=100):
    """A course of decisions, each (score of wave, score of clap)."""
    made = []
    for k, (wave, clap) in enumerate(scores, 1):
        named = {"wave": wave, "clap": clap, "none": 1 - wave - clap}
        made.append(
            prediction(t_ns=k * HOP, scores=named, label=max(named, key=named.__getitem__), macs=macs)
        )
    return Course(LABELS, made)


IDLE, WAVE, CLAP = (0.0, 0.0), (0.9, 0.05), (0.05, 0.9)


def test_agreement_distance_and_events_are_counted_on_their_half_alone(spec):
    always = course(*[IDLE] * 4, *[WAVE] * 8, *[IDLE] * 8, *[WAVE] * 8, *[IDLE] * 4)
    gated = course(*[IDLE] * 4, *[WAVE] * 8, *[IDLE] * 20, macs=20)
    middle, end = 16 * HOP, 32 * HOP
    first = compare(spec, [(always, gated)], [(0, middle)])
    second = compare(spec, [(always, gated)], [(middle, end)])
    assert (first.agreement, first.distance, first.lost, first.events) == (1.0, 0.0, 0, 1)
    assert first.saving == pytest.approx(5.0)
    assert (second.agreement, second.action_agreement) == (0.5, 0.0)
    assert (second.lost, second.events, second.extra) == (1, 1, 0)
    assert second.distance == pytest.approx(0.95 / 2)
    assert first.agrees(0.99)
    assert not second.agrees(0.5)


def test_a_gate_that_never_opens_is_never_chosen(spec):
    """It agrees on nearly everything, because nearly everything is idle."""
    always = course(*[IDLE] * 2000, *[WAVE] * 6, *[IDLE] * 100)
    shut = course(*[IDLE] * 2106, macs=0)
    measures = compare(spec, [(always, shut)], [(0, 3000 * HOP)])
    assert measures.agreement > 0.99
    assert measures.distance < 0.02
    assert not measures.agrees(0.99)


def test_a_choice_keeps_a_reserve(spec):
    """Four of 1000 labels differ: within 1 %, and within half of it; six are within 1 % alone."""
    always = course(*[IDLE] * 1000)
    for wrong, kept in ((4, True), (6, False)):
        gated = course(*[WAVE] * wrong, *[IDLE] * (1000 - wrong))
        measures = compare(spec, [(always, gated)], [(0, 2000 * HOP)])
        assert measures.agrees(0.99)
        assert measures.agrees(0.99, CHOICE_SHARE) is kept


def test_on_too_little_video_nothing_is_chosen(bundle):
    """A dozen decisions that agree say nothing of 99 %."""
    sparing = GateSettings(busy_interval={**dict.fromkeys(STREAMS, 1), "spatial": 2})
    result = calibrate_gates(
        bundle, [open_synthetic("synthetic:12:96x64@25")], candidates=[GateSettings(), sparing], target=0.99
    )
    assert result.chosen is result.trials[0]
    assert any("times as much video" in note for note in frontier_notes(result))
    assert [count_needed(target) for target in (0.5, 0.99, 1.0)] == [4, 200, 2000]


def test_an_event_of_another_label_or_time_is_no_match():
    def event(label, onset, offset):
        times = {"onset_ns": onset * HOP, "told_ns": onset * HOP, "offset_ns": offset * HOP}
        return Event(state="offset", label=label, score=1.0, peak=1.0, **times)

    mine = [event("wave", 10, 16), event("wave", 40, 46)]
    assert count_unmatched(mine, mine) == 0
    assert count_unmatched(mine, [event("clap", 10, 16), event("wave", 60, 66)]) == 2
    assert count_unmatched(mine, [event("wave", 12, 14)]) == 1


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    shutil.copytree(tiny_bundle, tmp_path / "x.vpbundle")
    return Bundle.open(tmp_path / "x.vpbundle")


def test_the_cheapest_that_agrees_is_chosen_and_the_runtime_takes_it(bundle):
    shut = GateSettings(least_change=250.0, hold_s=dict.fromkeys(STREAMS, 0.0), hold_decisions=True)
    sparing = GateSettings(busy_interval={**dict.fromkeys(STREAMS, 1), "spatial": 2})
    result = calibrate_gates(
        bundle,
        [open_synthetic("synthetic:12:96x64@25")],
        target=0.5,
        candidates=[GateSettings(), sparing, shut],
    )
    by_cost = sorted(result.trials, key=lambda t: t.first.macs_per_s)
    good = [t for t in by_cost if t.first.agrees(0.5, CHOICE_SHARE)]
    assert result.settings == (good[0].settings if good else GateSettings())
    assert result.met == bool(good)
    costs = [t.first.macs_per_s for t in result.trials]
    assert costs[0] > costs[1] > costs[2]
    assert result.trials[0].second.always_on_macs_per_s >= result.trials[0].second.macs_per_s
    opened = store_calibration(bundle, msgspec.structs.replace(result, settings=sparing), None)
    opened.check()
    assert load_settings(opened) == sparing
    assert Session(opened).sampler.policy._settings == sparing
    assert load_settings(Bundle.open(bundle.root)) == sparing
    stored = json.loads((bundle.root / SETTINGS_FILE).read_text())
    assert len(stored["trials"]) == 3


def test_damaged_settings_are_refused(bundle):
    (bundle.root / "calibration").mkdir()
    measures = Measures(
        decisions=1, macs_per_s=1, always_on_macs_per_s=2, agreement=1, action_decisions=0, action_agreement=None,
        distance=0, events=0, lost=0, extra=0,
    )  # fmt: skip
    trial = Trial(settings=GateSettings(), first=measures, second=measures)
    result = Calibration(
        settings=GateSettings(), target_agreement=0.99, streams=("a",), video_s=1, met=True, trials=(trial,)
    )
    opened = store_calibration(bundle, result, None)
    (bundle.root / SETTINGS_FILE).write_text("{}")
    with pytest.raises(BundleError, match="sha256"):
        Session(opened)


def test_a_remembering_engine_answers_as_the_engine_and_runs_it_once(bundle):
    import numpy as np

    plain = load_engines(bundle, "onnxruntime")["spatial"]
    engine, runs = Remembering(plain), []
    original = plain.infer_impl
    plain.infer_impl = lambda inputs: (runs.append(1), original(inputs))[1]
    rng = np.random.default_rng(0)
    frames = [rng.standard_normal((1, 3, 64, 64)).astype(np.float32) for _ in range(3)]
    for frame in [*frames, *frames]:
        assert (engine.infer({"frame": frame})["tokens"] == original({"frame": frame})["tokens"]).all()
    assert len(runs) == 3


def test_candidates_differ_and_start_with_the_defaults(spec):
    candidates = list_candidates(spec)
    assert candidates[0] == default_settings(spec)
    assert len({msgspec.json.encode(c) for c in candidates}) == len(candidates) >= 7


def test_a_target_that_cannot_be_is_refused(bundle):
    with pytest.raises(UsageError, match="target agreement"):
        calibrate_gates(bundle, [], target=1.5)


# ---- the command --------------------------------------------------------------------------------


def test_the_command_stores_the_choice_and_draws_the_frontier(cli, tiny_bundle, tmp_path):
    from tests.runtimes.streaming.made_videos import scene, write_video

    place = Place(cli, tmp_path)
    shutil.copytree(tiny_bundle, place.work / "x.vpbundle")
    (place.work / "videos").mkdir()
    write_video(place.work / "videos/a.mp4", [scene(min(k, 60)) for k in range(200)])
    done = place.run("calibrate", "x.vpbundle", "--gates", "--data", "videos", "--picture", "f.png", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["streams"] == ["videos/a.mp4"]
    assert told["chosen"]["settings"] == told["settings"]
    assert (place.work / "f.png").read_bytes().startswith(b"\x89PNG")
    opened = Bundle.open(place.work / "x.vpbundle")
    opened.check()
    assert {SETTINGS_FILE, "reports/gates.png"} <= set(opened.manifest.files)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--data videos", "give --gates"),
        ("--gates --data missing", "does not exist"),
        ("--gates --data .", "no video"),
        ("--gates --data . --subjects 3", "needs a CSV"),
        ("--gates --data . --seconds 0", "--seconds is 0"),
        ("--gates --data . --max-skip 99", "--max-skip is 99"),
        ("--gates --data . --picture nowhere/f.png", "nowhere"),
    ],
)
def test_bad_input_is_one_line(cli, tiny_bundle, tmp_path, arguments, says):
    place = Place(cli, tmp_path)
    assert says in place.refuses(2, "calibrate", tiny_bundle, *arguments.split())


def test_a_shut_gate_fails_on_a_real_stream(bundle, monkeypatch):
    """The suite's own check that agreement is earned: gates that never open are not chosen."""
    monkeypatch.setattr(Gate, "_judge", lambda self, t_ns, activity, join: (self._always_open, "shut"))
    result = calibrate_gates(
        bundle, [open_synthetic("synthetic:10:96x64@25")], candidates=[GateSettings()], target=0.99
    )
    assert not result.met


def test_a_network_that_knows_none_sees_a_window_come_to_rest(tiny_spec, spec):
    assert NONE not in tiny_spec.labels
    assert default_settings(tiny_spec) == GateSettings()
    settings = default_settings(spec)
    assert settings.hold_decisions
    assert settings.hold_s["temporal"] >= spec.window_s

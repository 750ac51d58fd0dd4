"""Events from decisions over time: hysteresis, labels that flip, and what ends an event."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtimes.display.made_predictions import prediction
from vidprism_edge.errors import UsageError
from vidprism_edge.runtimes.streaming.events import Event, EventDetector, detect_events
from vidprism_edge.spec import EventSpec, ModelSpec, load_preset

LABELS = ("wave", "clap", "throw", "none")
HOP = 500_000_000
PLAIN = EventSpec(smoothing_s=0.0)


def decisions(*rows, labels=LABELS, start=1, ready=True):
    """One prediction a row: (label, its score); the rest is ``none``'s, or shared where there is no such label."""
    made = []
    for k, (label, score) in enumerate(rows, start):
        rest = [name for name in labels if name != label]
        scores = dict.fromkeys(labels, 0.0)
        if label == "none" or "none" not in labels:
            scores |= dict.fromkeys(rest, (1 - score) / len(rest))
        else:
            scores["none"] = 1 - score
        scores[label] = score
        made.append(
            prediction(t_ns=k * HOP, scores=scores, label=max(scores, key=scores.__getitem__), ready=ready)
        )
    return made


def times(event):
    return event.label, event.onset_ns // HOP, event.offset_ns // HOP


def test_an_action_between_idle_is_one_event_with_its_times():
    made = decisions(*[("none", 1.0)] * 4, *[("wave", 0.9)] * 5, *[("none", 1.0)] * 4)
    (event,) = detect_events(made, PLAIN, LABELS)
    assert times(event) == ("wave", 5, 10)
    assert (event.score, event.peak) == (pytest.approx(0.9), pytest.approx(0.9))
    assert event.told_ns == 6 * HOP, "told once it lasted least_s"


def test_what_is_never_sure_at_any_decision_is_not_told():
    like = [("none", 1.0), *[("wave", 0.69)] * 5]
    assert detect_events(decisions(*like, ("none", 1.0)), PLAIN, LABELS) == []
    (event,) = detect_events(decisions(*like, ("wave", 0.71), ("none", 1.0)), PLAIN, LABELS)
    assert times(event) == ("wave", 2, 8)
    assert event.told_ns == 7 * HOP, "told when it became sure, and began when it began"


def test_it_is_told_while_it_goes_on_and_when_it_is_over():
    detector, told = EventDetector(PLAIN, LABELS), []
    for p in decisions(("none", 1.0), *[("clap", 0.8)] * 3, ("none", 1.0), ("none", 1.0)):
        told.append([e.state for e in detector.update(p)])
        assert (detector.current is not None) == (p.t_ns in (3 * HOP, 4 * HOP))
    assert told == [[], [], ["onset"], [], ["offset"], []]
    assert detector.finish() == []


def test_none_is_never_an_event():
    assert detect_events(decisions(*[("none", 0.99)] * 30), PLAIN, LABELS) == []


@pytest.mark.parametrize(("low", "count"), [(0.45, 1), (0.3, 2)])
def test_a_dip_above_leave_does_not_end_an_event_and_one_below_does(low, count):
    made = decisions(*[("wave", 0.9)] * 4, ("wave", low), *[("wave", 0.9)] * 4, ("none", 1.0))
    assert len(detect_events(made, PLAIN, LABELS)) == count


def test_between_leave_and_enter_nothing_begins_and_the_rise_belongs_to_the_event():
    slow = [("wave", 0.5)] * 3
    assert detect_events(decisions(*slow * 5), PLAIN, LABELS) == []
    (event,) = detect_events(decisions(("none", 1.0), *slow, *[("wave", 0.9)] * 6), PLAIN, LABELS)
    assert event.onset_ns == 2 * HOP


def test_a_short_flicker_is_no_event():
    made = decisions(("none", 1.0), ("wave", 0.9), ("none", 1.0), ("none", 1.0), ("clap", 0.9), ("none", 1.0))
    assert detect_events(made, PLAIN, LABELS) == []
    assert len(detect_events(made, msgspec.structs.replace(PLAIN, least_s=0.0), LABELS)) == 2


def test_activity_that_fits_no_label_is_no_event():
    unsure = prediction(scores={"wave": 0.34, "clap": 0.33, "throw": 0.33, "none": 0.0})
    made = [msgspec.structs.replace(unsure, t_ns=k * HOP) for k in range(1, 20)]
    assert detect_events(made, PLAIN, LABELS) == []


def test_a_label_that_flips_at_the_start_is_corrected():
    """Both begin with a raised arm: two decisions say throw, then it is a wave."""
    made = decisions(*[("throw", 0.9)] * 2, *[("wave", 0.95)] * 6, ("none", 1.0))
    detector, told = EventDetector(PLAIN, LABELS), []
    for p in made:
        told += detector.update(p)
    assert [(e.state, e.label) for e in told] == [("onset", "throw"), ("offset", "wave")]
    assert told[0].onset_ns == told[1].onset_ns


def test_two_actions_without_idle_between_are_two_events():
    made = decisions(*[("throw", 0.9)] * 6, *[("wave", 0.9)] * 6, ("none", 1.0))
    found = detect_events(made, PLAIN, LABELS)
    assert [times(e) for e in found] == [("throw", 1, 7), ("wave", 7, 13)]


def test_smoothing_rides_over_one_bad_decision():
    made = decisions(*[("wave", 0.9)] * 4, ("none", 1.0), *[("wave", 0.9)] * 4, *[("none", 1.0)] * 5)
    assert len(detect_events(made, PLAIN, LABELS)) == 2
    assert len(detect_events(made, msgspec.structs.replace(PLAIN, smoothing_s=1.0), LABELS)) == 1


def test_a_reset_ends_an_event_with_its_last_decision():
    for broken in (
        decisions(("wave", 0.9), ("wave", 0.9), start=5, ready=False),
        decisions(("wave", 0.9), ("wave", 0.9), start=2),  # the clock stepped back
    ):
        detector, told = EventDetector(PLAIN, LABELS), []
        for p in decisions(*[("wave", 0.9)] * 4) + broken[:1]:
            told += detector.update(p)
        assert [(e.state, e.offset_ns) for e in told] == [("onset", None), ("offset", 4 * HOP)]


def test_labels_without_none_take_the_best_score():
    labels = ("wave", "clap", "throw")
    made = decisions(("wave", 0.35), *[("wave", 0.9)] * 4, ("wave", 0.35), labels=labels)
    (event,) = detect_events(made, PLAIN, labels)
    assert times(event) == ("wave", 2, 6)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(LABELS), st.floats(0.05, 1.0), st.booleans()), min_size=1, max_size=60
    ),
    smoothing_s=st.sampled_from([0.0, 0.5, 2.0]),
)
def test_every_onset_has_its_offset_and_events_do_not_overlap(rows, smoothing_s):
    spec = EventSpec(smoothing_s=smoothing_s)
    made = [
        p
        for k, (label, score, ready) in enumerate(rows, 1)
        for p in decisions((label, score), start=k, ready=ready)
    ]
    detector, told = EventDetector(spec, LABELS), []
    for p in made:
        told += detector.update(p)
    told += detector.finish()
    assert [e.state for e in told] == ["onset", "offset"] * (len(told) // 2)
    last = 0
    for onset, offset in zip(told[::2], told[1::2], strict=True):
        assert "none" not in (onset.label, offset.label)
        assert (
            last <= onset.onset_ns == offset.onset_ns <= onset.told_ns == offset.told_ns <= offset.offset_ns
        )
        assert 0 < offset.score <= offset.peak <= 1
        last = offset.offset_ns
    assert detect_events(made, spec, LABELS) == [e for e in told if e.state == "offset"]


def test_the_parameters_travel_with_the_spec_and_old_specs_have_the_defaults():
    spec = load_preset("nano")
    assert spec.events == EventSpec()
    changed = msgspec.structs.replace(spec, events=EventSpec(enter=0.7, split_s=1.0))
    assert ModelSpec.from_json(changed.to_json()).events == changed.events
    with pytest.raises(UsageError, match="leave <= enter"):
        EventSpec(enter=0.3, leave=0.5)
    with pytest.raises(UsageError, match="durations"):
        EventSpec(split_s=-1.0)
    with pytest.raises(UsageError, match=r"least_peak 1\.0"):
        EventSpec(least_peak=1.0)


def test_json_has_plain_values():
    event = Event(
        state="onset", label="wave", onset_ns=1, told_ns=2, offset_ns=None, score=0.123456789, peak=0.5
    )
    assert event.as_json() == {
        "state": "onset", "label": "wave", "onset_ns": 1, "told_ns": 2, "offset_ns": None, "score": 0.123457,
        "peak": 0.5,
    }  # fmt: skip

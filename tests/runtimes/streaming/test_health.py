"""Health, metrics, shadow checks, held decisions and the latency budget."""

from __future__ import annotations

import re

import msgspec
import numpy as np
import pytest

from tests.runtimes.display.made_predictions import prediction, summary
from vidprism_edge.bundle import Bundle
from vidprism_edge.errors import UsageError
from vidprism_edge.runtimes.streaming.budget import SETTLE_DECISIONS, Budget
from vidprism_edge.runtimes.streaming.feed import Feed
from vidprism_edge.runtimes.streaming.gates import GateSettings
from vidprism_edge.runtimes.streaming.health import Ages, HealthLog, ShadowHealth
from vidprism_edge.runtimes.streaming.metrics import write_metrics
from vidprism_edge.runtimes.streaming.prediction import StreamCounts
from vidprism_edge.runtimes.streaming.rest import Rest
from vidprism_edge.runtimes.streaming.session import Session, stream
from vidprism_edge.runtimes.streaming.source import Frame
from vidprism_edge.spec import STREAMS

PERIOD = 40_000_000
SECOND = 10**9


def pictures(count, moves=lambda k: True):
    texture = np.random.default_rng(0).integers(0, 256, (80, 200, 3), dtype=np.uint8)
    shift = 0
    for k in range(count):
        shift += moves(k)
        yield Frame(texture[:48, shift % 100 : shift % 100 + 64].copy(), k * PERIOD, k)


def play(session, frames):
    return [p for frame in frames for p in session.push(frame) or []]


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return Bundle.open(tiny_bundle)


# ---- ages and counts ----------------------------------------------------------------------------


def test_percentiles_of_ages_are_at_most_a_bin_too_high():
    rng, ages = np.random.default_rng(0), Ages()
    values = rng.exponential(300.0, 5000) + 1.0
    for value in values:
        ages.add(float(value))
    for share in (0.5, 0.99):
        exact = float(np.quantile(values, share))
        found = ages.percentile(share)
        assert found is not None
        assert exact * 0.99 <= found <= exact * 1.1
    assert ages.most == values.max()
    assert Ages().percentile(0.5) is None
    assert Ages().as_quantiles() == {}


def test_health_adds_up_what_predictions_say():
    log = HealthLog()
    causes = {"temporal": "motion", "hybrid": "change"}
    log.note(prediction(causes=causes, ages_ms={"spatial": 100.0, "hybrid": None, "temporal": 5.0}))
    log.note(prediction(causes={}, held=True, shed={"spatial": "floor"}, ages_ms={"spatial": 900.0}))
    counts = {n: StreamCounts(sampled=3, repeated=1, held={"still picture": 4, "rate": 2}) for n in STREAMS}
    health = log.report(dict.fromkeys(STREAMS, 6), counts, 2.0, ShadowHealth())
    temporal, spatial = health.experts["temporal"], health.experts["spatial"]
    assert (temporal.open_share, temporal.causes) == (0.5, {"motion": 1})
    assert (temporal.computed, temporal.exact, temporal.approximate) == (3, 1, 6)
    assert temporal.runs_hz == 3.0
    assert spatial.age_max_ms == 900.0
    assert (health.decisions_computed, health.decisions_held) == (1, 1)
    assert health.shed == {"spatial": 1}


# ---- the budget ---------------------------------------------------------------------------------


def test_a_budget_sheds_in_order_and_gives_back_when_it_is_calm():
    budget, seen = Budget(100.0, ("spatial", "hybrid", "temporal")), []
    for _ in range(10 * SETTLE_DECISIONS):
        budget.spent(300.0)
        seen.append(budget.shed)
    assert seen[0] == {"spatial": "floor"}
    steps = [s for s, before in zip(seen, [{}, *seen], strict=False) if s != before]
    assert steps == [
        {"spatial": "floor"},
        {"spatial": "closed"},
        {"spatial": "closed", "hybrid": "floor"},
        {"spatial": "closed", "hybrid": "closed"},
        {"spatial": "closed", "hybrid": "closed", "temporal": "floor"},
    ], "the last expert is never closed"
    for _ in range(200):
        budget.spent(10.0)
    assert budget.shed == {}


def test_within_the_budget_nothing_is_shed():
    budget = Budget(100.0, ("spatial", "hybrid", "temporal"))
    for _ in range(50):
        budget.spent(99.0)
    assert budget.shed == {}


def test_a_session_says_what_its_budget_took(bundle):
    session = Session(bundle, period_ns=PERIOD, budget_ms=0.001, max_skip_s=2.0)
    made = play(session, pictures(250))
    last = made[-1]
    assert last.shed["spatial"] == "closed"
    assert {p.skipped.get("spatial") for p in made if p.shed.get("spatial") == "closed"} >= {"budget"}
    assert last.as_json()["shed"] == last.shed
    times = [t for p in made for t in p.fired_ns["spatial"]]
    assert max(np.diff(times)) <= 2.0 * SECOND + SECOND, "max skip holds under any budget"
    session.sampler.check_counts()


# ---- held decisions -----------------------------------------------------------------------------


def test_decisions_are_held_while_nothing_moves_and_made_anew_by_every_look(bundle, tiny_spec):
    hold = {**dict.fromkeys(STREAMS, 0.5), "temporal": tiny_spec.window_s + tiny_spec.hop_s}
    settings = GateSettings(hold_s=hold, look_s=tiny_spec.window_s + tiny_spec.hop_s, hold_decisions=True)
    session = Session(bundle, period_ns=PERIOD, settings=settings, max_skip_s=6.0)
    made = play(session, pictures(600, lambda k: k < 60))
    open_at = [p.gates["temporal"] for p in made]
    closed = open_at.index(False)
    assert not any(p.held for p in made[:closed])
    for before, p in zip(made, made[1:], strict=False):
        if p.held:
            assert p.scores == before.scores
    still = made[closed:]
    computed = [p for p in still if not p.held]
    looks = int((still[-1].t_ns - still[0].t_ns) / 6e9)
    assert looks <= len(computed) <= looks + 3, (
        "after the last step, on a window at rest, and after every look"
    )
    assert computed[0] is still[0], "the temporal expert ran since the decision before"
    assert computed[1].t_ns - still[0].t_ns >= tiny_spec.window_ns - tiny_spec.hop_ns
    session._slots["temporal"].repeat(made[-1].t_ns)
    view, _ = session._slots["temporal"].view(made[-1].t_ns)
    assert view["temporal_mask"].all(), "the last token stands for those that were not computed"
    assert max(p.ages_ms["temporal"] for p in still) > 3000, "and is as old as it is"
    assert session.health().decisions_held == sum(p.held for p in made)
    plain = play(Session(bundle, period_ns=PERIOD), pictures(200, lambda k: k < 60))
    assert not any(p.held for p in plain), "by default every decision is computed"


def test_a_reopened_window_equals_an_open_one_but_for_what_was_still(bundle, tiny_spec):
    """After a rest, the tokens of a window are there again at once, those of the motion exactly."""
    field_s = tiny_spec.receptive_field / tiny_spec.streams["temporal"].rate_hz
    settings = GateSettings(
        hold_s={**dict.fromkeys(STREAMS, 0.5), "temporal": field_s}, look_s=field_s, hold_decisions=True
    )
    gated = Session(bundle, period_ns=PERIOD, settings=settings, shadow_share=0.0)
    always = Session(bundle, period_ns=PERIOD, gates="open")
    moving = list(pictures(330, lambda k: k < 30 or k >= 300))
    views = []
    for frame in moving:
        for session in (gated, always):
            session.push(frame)
    for session in (gated, always):
        view, _ = session._slots["temporal"].view(moving[-1].t_ns)
        views.append(view)
    np.testing.assert_array_equal(views[0]["temporal_mask"], views[1]["temporal_mask"])
    np.testing.assert_allclose(views[0]["temporal_meta"], views[1]["temporal_meta"], atol=1e-6)
    np.testing.assert_allclose(views[0]["temporal_tokens"], views[1]["temporal_tokens"], atol=0.05)


def test_rest_is_decided_on_once_and_after_every_look():
    rest = Rest(2 * SECOND)
    assert not rest.may_hold(0, looking=False), "nothing is known yet"
    rest.moved(10 * SECOND, looking=False)
    rest.decided({"wave": 1.0})
    rest.moved(10 * SECOND, looking=False)
    assert not rest.may_hold(11 * SECOND, looking=False), "the last step is in no decision yet"
    rest.decided({"wave": 1.0})
    assert rest.may_hold(11 * SECOND, looking=False), "the window still sees what moved"
    assert not rest.may_hold(12 * SECOND, looking=False)
    assert rest.may_hold(13 * SECOND, looking=False)
    rest.moved(40 * SECOND, looking=True)
    assert rest.may_hold(40 * SECOND, looking=True), "the look goes on"
    assert not rest.may_hold(41 * SECOND, looking=False)
    assert rest.may_hold(42 * SECOND, looking=False)


# ---- shadow checks ------------------------------------------------------------------------------


def test_shadow_checks_compare_keep_to_their_share_and_are_counted_apart(bundle):
    share = 0.5
    checked = Session(bundle, period_ns=PERIOD, shadow_share=share)
    plain = Session(bundle, period_ns=PERIOD, shadow_share=0.0)
    frames = list(pictures(700))
    with_checks, without = play(checked, frames), play(plain, frames)
    assert [p.scores for p in with_checks] == [p.scores for p in without], "a check changes nothing"
    assert checked.macs_spent == plain.macs_spent
    shadow = checked.health().shadow
    assert shadow.checks >= 2
    assert 0 < shadow.macs <= share * checked.macs_spent * 1.02
    assert shadow.mean_distance is not None
    assert shadow.mean_distance < 0.05, "everything moves: the gated stream is the always-on one"
    assert shadow.agreed >= shadow.checks - 1
    assert plain.health().shadow.checks == 0


def test_gates_that_miss_everything_are_told_as_drift(bundle, monkeypatch):
    from vidprism_edge.runtimes.streaming import shadow

    monkeypatch.setattr(shadow, "MOST_DISTANCE", 1e-4)  # the tiny network's scores hardly move
    session = Session(
        bundle,
        period_ns=PERIOD,
        shadow_share=20.0,
        settings=GateSettings(least_change=200.0),
        max_skip_s=30.0,
    )
    play(session, pictures(1200))
    health = session.health().shadow
    assert health.checks >= shadow.LEAST_CHECKS
    assert "drift" in health.warning


# ---- metrics ------------------------------------------------------------------------------------

SAMPLE = re.compile(r'[a-z_]+\{[a-z_]+="(?:[^"\\\n]|\\.)*"(,[a-z_]+="(?:[^"\\\n]|\\.)*")*\} -?[0-9.e+-]+')


def test_metrics_are_prometheus_text(bundle):
    class Source:
        name, live, period_ns, lost, events = "a", False, PERIOD, {}, {}
        frames = pictures(80)

        def read(self):
            return next(self.frames, None)

        def close(self):
            pass

    session = Session(bundle, period_ns=PERIOD)
    with Feed(Source()) as feed:
        for _ in stream(session, feed):
            pass
    found = session.summarise(feed)
    text = write_metrics({'cam "1"\\': found, "b": msgspec.structs.replace(found, events={"wave": 2})})
    lines = text.splitlines()
    assert text.endswith("\n")
    kinds = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(kinds) == len(set(kinds))
    for line in lines:
        assert line.startswith("# ") or SAMPLE.fullmatch(line), line
    assert 'vidprism_edge_frames_total{source="cam \\"1\\"\\\\",what="read"} 80' in lines
    assert 'vidprism_edge_events_total{source="b",label="wave"} 2' in lines
    runs = found.experts_fired["temporal"]
    assert f'vidprism_edge_expert_runs_total{{source="b",expert="temporal"}} {runs}' in lines


def test_the_summary_table_tells_gates(bundle):
    import io

    from rich.console import Console

    from vidprism_edge.runtimes.display.table import summary_table

    session = Session(bundle, period_ns=PERIOD)
    play(session, pictures(60))
    gates = msgspec.to_builtins(session.health())
    gates["shadow"] |= {
        "checks": 4,
        "agreed": 3,
        "mean_distance": 0.2,
        "macs": 10,
        "warning": "drift: far off",
    }
    console = Console(file=io.StringIO(), width=200, no_color=True)
    console.print(summary_table(summary(gates=gates)))
    told = console.file.getvalue()
    for part in (
        "temporal gate",
        "exact reuse",
        "held (approximate reuse)",
        "3 of 4 agreed",
        "drift: far off",
    ):
        assert part in told


# ---- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"hold_s": {"spatial": 1.0}},
        {"look_s": -1.0},
        {"least_change": 0.0},
        {"least_share": dict.fromkeys(STREAMS, 1.5)},
        {"busy_interval": {**dict.fromkeys(STREAMS, 1), "temporal": 2}},
        {"shed_order": ("spatial",)},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(UsageError):
        GateSettings(**wrong)

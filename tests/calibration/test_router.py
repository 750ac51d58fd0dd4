"""The router: what it learns from a trace, what it may not close, and when it is kept."""

from __future__ import annotations

import shutil

import msgspec
import numpy as np
import pytest

from tests.calibration.test_gates import CLAP, IDLE, WAVE, course
from vidprism_edge.bundle import Bundle
from vidprism_edge.calibration.gates import Trial, calibrate_gates, choose_router, compare
from vidprism_edge.calibration.router import Trace, train_router
from vidprism_edge.errors import UsageError
from vidprism_edge.runtimes.streaming.gates import GateSettings
from vidprism_edge.runtimes.streaming.geometry import Scene
from vidprism_edge.runtimes.streaming.policy import ContentPolicy
from vidprism_edge.runtimes.streaming.router import FEATURES, ROUTED, Router, RouterWeights
from vidprism_edge.runtimes.streaming.source_synthetic import open_synthetic
from vidprism_edge.spec import STREAMS, load_preset

SECOND = 10**9


def make_trace(count=400, seed=0):
    """Actions come when feature 0 is high, in a tenth of the time; the spatial expert changes nothing."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, len(FEATURES)))
    acts = np.repeat(rng.random(count // 4) < 0.1, 4)
    x[:, 0] = 3.0 * acts + 0.1 * rng.standard_normal(count)
    idle, wave = np.array([0.0, 1.0]), np.array([1.0, 0.0])
    always = np.where(acts[:, None], wave, idle)
    return Trace(x, np.tile(idle, (count, 1)), always, always), acts


def test_a_router_runs_what_would_be_missed_and_little_else():
    trace, acts = make_trace()
    worth = trace.labels()
    assert worth["temporal"][acts].all()
    assert not worth["spatial"].any()
    shares = []
    for penalty in (0.02, 0.3):
        router = Router(train_router([trace], penalty))
        kept = [router.unwanted(x, 5 * SECOND * (i + 1)) for i, x in enumerate(trace.features)]
        runs = np.array(["temporal" not in names for names in kept])
        assert runs[acts].mean() > 0.95
        shares.append(runs[~acts].mean())
        assert all({"spatial", "hybrid"} <= set(names) for names in kept)
    assert shares[1] <= shares[0]
    assert shares[1] < 0.2, "compute has its price"


def weights(bias):
    zero = tuple(0.0 for _ in FEATURES)
    return RouterWeights(
        mean=zero,
        scale=(1.0,) * len(FEATURES),
        weights=dict.fromkeys(ROUTED, zero),
        bias=dict.fromkeys(ROUTED, bias),
    )


def test_a_router_that_wants_nothing_leaves_warm_up_and_max_skip():
    spec = load_preset("nano", ("wave", "none"))
    stats, scene = np.zeros((3, 15, 20), np.float32), Scene(320, 240, spec.fit)
    policy = ContentPolicy(spec, settings=GateSettings(router=weights(-1.0)), max_skip_s=8.0)
    policy.reset(scene, scene, 0)
    ran = dict.fromkeys(STREAMS, 0.0)
    for frame in range(900):
        t_ns = frame * SECOND // 15
        stats[0] = 60.0 if frame % 2 else 50.0
        plan = policy.observe(stats, t_ns)
        for name in ROUTED:
            if t_ns < spec.window_ns:
                assert plan.intervals[name], "a router waits for the first window"
            if plan.intervals[name]:
                policy.ran(name, t_ns)
                ran[name] = t_ns / SECOND
            else:
                assert plan.reasons[name] in ("router", "rate")
            assert t_ns / SECOND - ran[name] <= 8.1, f"{name} rests longer than its max skip"
        assert plan.intervals["analyzer"], "what moves is looked at all the same"
    always = ContentPolicy(spec, settings=GateSettings(router=weights(-1.0)), always_open=True)
    always.reset(scene, scene, 0)
    assert all(always.observe(stats, 10 * SECOND).intervals.values())


def test_a_router_is_kept_only_if_it_is_cheaper_at_equal_agreement():
    spec = load_preset("nano", ("wave", "clap", "none"))
    truth = course(*[IDLE] * 8, *[WAVE] * 8, *[IDLE] * 8, *[CLAP] * 8)

    def trial(gated):
        first, second = (
            compare(spec, [(truth, gated)], [half]) for half in ((0, 8 * SECOND), (8 * SECOND, 16 * SECOND))
        )
        return Trial(settings=GateSettings(), first=first, second=second)

    scores = [(p.scores["wave"], p.scores["clap"]) for p in truth.predictions]
    gates, dearer, cheaper = (trial(course(*scores, macs=m)) for m in (50, 60, 40))
    blind = trial(course(*scores[:16], *[IDLE] * 16, macs=1))
    assert choose_router(gates, [dearer], 0.9) is gates
    assert choose_router(gates, [blind], 0.9) is gates
    assert choose_router(gates, [dearer, cheaper], 0.9) is cheaper
    assert choose_router(gates, [], 0.9) is gates


def test_routers_are_trained_and_tried_behind_the_choice(tiny_bundle, tmp_path):
    shutil.copytree(tiny_bundle, tmp_path / "x.vpbundle")
    source = "synthetic:8:96x64@25"
    result = calibrate_gates(
        Bundle.open(tmp_path / "x.vpbundle"), [open_synthetic(source)], target=0.5,
        candidates=[GateSettings()], reopen=lambda: [open_synthetic(source)],
    )  # fmt: skip
    routed = [t for t in result.trials if t.settings.router is not None]
    assert len(routed) == len(result.trials) - 1 == 6
    assert result.settings in [t.settings for t in result.trials]
    again = msgspec.json.decode(msgspec.json.encode(routed[0].settings), type=GateSettings)
    assert again == routed[0].settings


def test_a_router_of_another_kind_is_refused():
    with pytest.raises(UsageError, match="calibrate again"):
        RouterWeights(mean=(0.0,), scale=(1.0,), weights={"spatial": (0.0,)}, bias={"spatial": 0.0})
    with pytest.raises(UsageError, match="longer video"):
        train_router([], 0.1)

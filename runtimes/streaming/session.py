"""One stream through one bundle: frame → sampler → gates → engines → token slots → fusion → prediction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import msgspec
import numpy as np

from vidprism_edge.bundle import Arrays, Bundle
from vidprism_edge.runtimes.engines import Engine, EngineOptions, load_engines
from vidprism_edge.runtimes.streaming.budget import Budget
from vidprism_edge.runtimes.streaming.feed import Feed
from vidprism_edge.runtimes.streaming.gates import GateSettings, load_settings
from vidprism_edge.runtimes.streaming.geometry import SceneBox
from vidprism_edge.runtimes.streaming.health import GateHealth, HealthLog, ShadowHealth
from vidprism_edge.runtimes.streaming.policy import ContentPolicy, Policy
from vidprism_edge.runtimes.streaming.prediction import Prediction, Summary
from vidprism_edge.runtimes.streaming.rest import Rest
from vidprism_edge.runtimes.streaming.sampler import Point, StreamSampler
from vidprism_edge.runtimes.streaming.shadow import Shadow
from vidprism_edge.runtimes.streaming.slots import TokenSlots
from vidprism_edge.runtimes.streaming.source import Frame
from vidprism_edge.runtimes.streaming.temporal import TemporalRunner
from vidprism_edge.spec import NONE, STREAMS, ModelSpec

#: The graph whose run counts as an expert firing.
GRAPH_OF = {"analyzer": "analyzer", "spatial": "spatial", "hybrid": "hybrid_encode", "temporal": "temporal"}
DECISION_GRAPHS = ("hybrid_attend", "fusion", "head")


def always_on_macs(spec: ModelSpec, macs: dict[str, int]) -> float:
    """Multiply-accumulates between two decisions with every gate open: ceilings of all rates, all regions."""
    streams = sum(
        spec.streams[name].rate_hz * spec.streams[name].regions * macs[graph]
        for name, graph in GRAPH_OF.items()
    )
    return streams * spec.hop_s + sum(macs[graph] for graph in DECISION_GRAPHS)


@dataclass(slots=True)
class _Tally:
    """What happened since the decision before, or over the whole run."""

    fired: dict[str, int]
    fired_ns: dict[str, list[int]]
    stages_ms: dict[str, float]
    replayed: int = 0
    macs: int = 0

    @classmethod
    def empty(cls) -> _Tally:
        return cls(dict.fromkeys(STREAMS, 0), {name: [] for name in STREAMS}, {})


class Session:
    """Streams one camera through a bundle's experts. Push frames; predictions come out at every decision.

    ``gates``: ``"auto"`` lets only the needed experts fire, ``"open"`` is the always-on reference.
    ``engine``: an engine's name, or the engines of the bundle's graphs, already loaded: they keep no state, so several
    sessions may use them one after another.
    ``settings``: how sparing the gates are; None takes what calibration stored in the bundle, or the defaults.
    ``budget_ms``: what the work between two decisions may take. ``shadow_share``: of the work, for shadow checks.
    Errors: :class:`EngineError` where the engine is not installed, :class:`BundleError` for a damaged bundle.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        engine: str | Mapping[str, Engine] = "onnxruntime",
        options: EngineOptions | None = None,
        gates: str = "auto",
        max_skip_s: float = 30.0,
        period_ns: int | None = None,
        policy: Policy | None = None,
        settings: GateSettings | None = None,
        budget_ms: float | None = None,
        shadow_share: float = 0.01,
    ) -> None:
        self.bundle = bundle
        self.spec = spec = bundle.spec
        self._engines = load_engines(bundle, engine, options) if isinstance(engine, str) else dict(engine)
        if isinstance(engine, str):
            # they are this stream's alone: nobody else's state comes between two steps
            self._engines["temporal"].keep_state()
        self._macs = bundle.macs
        self.always_on_macs = always_on_macs(spec, self._macs)
        gated = policy is None and gates != "open"
        settings = settings or (load_settings(bundle) if gated else GateSettings())
        policy = policy or ContentPolicy(
            spec, always_open=not gated, max_skip_s=max_skip_s, settings=settings
        )
        self._rest = Rest(spec.window_ns)
        self._budget = None if budget_ms is None else Budget(budget_ms, settings.shed_order)
        self._shadow = Shadow(spec, shadow_share, self.always_on_macs, self._open_shadow) if gated else None
        self._health = HealthLog()
        self._decides = True
        self.sampler = StreamSampler(spec, policy, period_ns=period_ns)
        width, grid = spec.width, spec.temporal.grid
        self._slots = {
            "spatial": TokenSlots(
                spec, "spatial", {"spatial_tokens": (1 + spec.encoder.grid**2, width)}, spec.encoder.grid
            ),
            "hybrid": TokenSlots(spec, "hybrid", {"hybrid_tokens": (spec.hybrid.grid**2, width)}),
            "temporal": TokenSlots(
                spec, "temporal", {"temporal_tokens": (width,), "motion_maps": (grid, grid)}, grid
            ),
        }
        self._temporal = TemporalRunner(spec, self._engines["temporal"])
        self._tally, self._total = _Tally.empty(), _Tally.empty()
        self._origin_ns: int | None = None
        self._decided = 0
        self._analyzed = False
        self._last_ns = 0
        self._first_ns: int | None = None
        self._video_ns = 0
        self._decisions = self._ready = 0
        self._born = time.perf_counter()

    def push(self, frame: Frame) -> list[Prediction] | None:
        """Take a frame → the decisions that it completes, oldest first; None where its timestamp was refused."""
        if frame.reset is not None and self._origin_ns is not None:
            self.sampler.interrupt(frame.reset, frame.t_ns)
        with self._stage("sample"):
            push = self.sampler.push(frame.pixels, frame.t_ns)
        if push.refused:
            return None
        if push.reset is not None:
            self._restart(frame.t_ns)
        else:
            self._video_ns += frame.t_ns - self._last_ns
        self._last_ns = frame.t_ns
        predictions = []
        for point in push.points:
            predictions += self._decide_until(point.t_ns - 1)
            self._run(point)
        if not self.sampler.plan.intervals["temporal"]:
            self._temporal.stop()
            if not self._is_quiet():
                self._rest.broken = True
        # a frame resolves the grid for half a period beyond its own time
        predictions += self._decide_until((2 * frame.t_ns + self.sampler.period_ns - 1) // 2)
        if self._shadow is not None and isinstance(self.sampler.policy, ContentPolicy):
            self._shadow.push(frame, self.sampler.policy, restarted=push.reset is not None)
            for prediction in predictions:
                self._shadow.compare(prediction)
        return predictions

    def _open_shadow(self, policy: Policy) -> Session:
        """An always-on session on the same engines, which decides when it is asked."""
        session = Session(self.bundle, engine=self._engines, policy=policy, period_ns=self.sampler.period_ns)
        session._decides = False
        return session

    def decide_now(self, t_ns: int) -> Prediction:
        """A decision at a time of the caller's, out of turn."""
        return self._decide(t_ns, ready=True)

    @property
    def macs_spent(self) -> int:
        """Multiply-accumulates since the beginning."""
        return self._total.macs

    def _restart(self, t_ns: int) -> None:
        """The stream starts anew: no token and no state of the past may be seen again."""
        self._origin_ns, self._decided, self._analyzed = t_ns, 0, False
        self._temporal.restart()
        self._rest = Rest(self.spec.window_ns)
        for slots in self._slots.values():
            slots.clear()

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter_ns()
        try:
            yield
        finally:
            spent = (time.perf_counter_ns() - start) / 1e6
            for tally in (self._tally, self._total):
                tally.stages_ms[name] = tally.stages_ms.get(name, 0.0) + spent

    def _infer(self, graph: str, inputs: Arrays) -> Arrays:
        with self._stage(graph):
            outputs = self._engines[graph].infer(inputs)
        for tally in (self._tally, self._total):
            tally.macs += self._macs[graph]
        return outputs

    def _fire(self, stream: str, t_ns: int, runs: int) -> None:
        for tally in (self._tally, self._total):
            tally.fired[stream] += runs
        self._tally.fired_ns[stream].append(t_ns)
        self.sampler.policy.ran(stream, t_ns)

    def _run(self, point: Point) -> None:
        """Run the expert of a point that is due."""
        if point.stream == "temporal":
            self._run_temporal(point)
        elif not point.fresh:
            # the same picture gives the same tokens, and the slot already holds them
            return
        elif point.stream == "analyzer":
            self._run_analyzer(point)
        else:
            self._run_encoder(point)

    def _run_temporal(self, point: Point) -> None:
        with self._stage("temporal"):
            steps, looks_back = self._temporal.step(self.sampler, point.k, point.boxes[0])
        scene_box, slots = self.sampler.small.to_scene(point.boxes[0]), self._slots["temporal"]
        rate_mhz, replayed = self.spec.streams["temporal"].rate_mhz, len(steps) - 1
        if looks_back:
            slots.clear()
        elif not self._rest.broken:
            slots.repeat(point.t_ns - 10**12 // (2 * rate_mhz))
        assert self._origin_ns is not None
        for step in steps if looks_back else steps[-1:]:
            tokens = {"temporal_tokens": step.token, "motion_maps": step.motion_map}
            slots.put(self._origin_ns + step.k * 10**12 // rate_mhz, [scene_box], [tokens])
        looking = self._is_quiet()
        if looking:
            slots.settle()
        self._rest.moved(point.t_ns, looking=looking)
        for tally in (self._tally, self._total):
            tally.macs += self._macs["temporal"] * (1 + replayed)
            tally.replayed += replayed
        self._fire("temporal", point.t_ns, 1 + replayed)

    def _run_analyzer(self, point: Point) -> None:
        assert point.pixels is not None
        frame = point.pixels[1]
        previous = point.pixels[0] if self._analyzed else frame
        self._analyzed = True
        maps = self._infer("analyzer", {"frame": frame, "previous": previous})
        self.sampler.policy.read_maps(maps["saliency"][0], maps["motion"][0], point.t_ns)
        self._fire("analyzer", point.t_ns, 1)

    def _run_encoder(self, point: Point) -> None:
        assert point.pixels is not None
        name, boxes = point.stream, list(point.boxes)
        tokens = [
            {
                f"{name}_tokens": self._infer(GRAPH_OF[name], {"frame": point.pixels[-1, i : i + 1]})[
                    "tokens"
                ][0]
            }
            for i in range(len(boxes))
        ]
        scene_boxes: list[SceneBox] = [self.sampler.scene.to_scene(box) for box in boxes]
        self._slots[name].put(point.t_ns, scene_boxes, tokens)
        self._rest.settled = False
        self._fire(name, point.t_ns, len(boxes))

    def _decide_until(self, t_ns: int) -> list[Prediction]:
        """Make the decisions due up to and including a stream time."""
        assert self._origin_ns is not None
        made: list[Prediction] = []
        while self._decides and (due := self._origin_ns + (self._decided + 1) * self.spec.hop_ns) <= t_ns:
            self._decided += 1
            made.append(self._decide(due, ready=due - self._origin_ns >= self.spec.window_ns))
        return made

    def _decide(self, t_ns: int, *, ready: bool, partial: bool = False) -> Prediction:
        quiet = self._is_quiet()
        if quiet and not self._rest.broken:
            self._slots["temporal"].repeat(t_ns)
        views = {name: slots.view(t_ns) for name, slots in self._slots.items()}
        policy = self.sampler.policy
        looking = isinstance(policy, ContentPolicy) and policy.is_looking()
        held = quiet and self._rest.may_hold(t_ns, looking=looking)
        if not held:
            inputs = {name: array for view, _ in views.values() for name, array in view.items()}
            self._rest.decided(self._compute(inputs))
        assert self._rest.scores is not None
        if not held and isinstance(policy, ContentPolicy):
            policy.known.read_scores(self._rest.scores, NONE)
        scores = dict(self._rest.scores)
        self._decisions += 1
        self._ready += ready
        ages_ms = {name: None if age is None else age * 1e3 for name, (_, age) in views.items()}
        return self._report(t_ns, ready, partial, scores, ages_ms, held)

    def _is_quiet(self) -> bool:
        """Whether the policy lets what is known of a still picture be kept."""
        policy = self.sampler.policy
        return isinstance(policy, ContentPolicy) and policy.is_quiet()

    def _compute(self, inputs: Arrays) -> dict[str, float]:
        """Fuse the tokens that a decision sees → the score of each label."""
        attend = {i.name for i in self._engines["hybrid_attend"].graph.inputs}
        attended = self._infer("hybrid_attend", {name: a for name, a in inputs.items() if name in attend})
        fused = self._infer("fusion", {**inputs, "hybrid_tokens": attended["tokens"]})
        logits = self._infer("head", {"vector": fused["vector"]})["logits"][0].astype(np.float64)
        scores = np.exp(logits - logits.max())
        scores /= scores.sum()
        return dict(zip(self.spec.labels, scores.tolist(), strict=True))

    def _report(
        self,
        t_ns: int,
        ready: bool,
        partial: bool,
        scores: dict[str, float],
        ages_ms: dict[str, float | None],
        held: bool,
    ) -> Prediction:
        policy = self.sampler.policy
        shed = dict(policy.shed) if isinstance(policy, ContentPolicy) else {}
        if self._budget is not None and isinstance(policy, ContentPolicy):
            self._budget.spent(sum(self._tally.stages_ms.values()))
            policy.shed = self._budget.shed
        tally, self._tally = self._tally, _Tally.empty()
        plan, spec = self.sampler.plan, self.spec
        followed = {
            name: plan.boxes[name][1] if len(plan.boxes[name]) > 1 else None for name in ("spatial", "hybrid")
        }
        motion_box = plan.boxes["temporal"][0]
        if motion_box != self.sampler.small.whole:
            followed["temporal"] = self.sampler.small.to_other(motion_box, self.sampler.scene)
        prediction = Prediction(
            t_ns=t_ns,
            ready=ready,
            partial=partial,
            label=max(scores, key=scores.__getitem__),
            scores=scores,
            experts_fired=tally.fired,
            replayed=tally.replayed,
            macs=tally.macs,
            ages_ms=ages_ms,
            skipped={name: plan.reasons.get(name, "rate") for name, runs in tally.fired.items() if not runs},
            gates={name: plan.intervals[name] > 0 for name in STREAMS},
            rates_hz={
                name: spec.streams[name].rate_hz / plan.intervals[name] if plan.intervals[name] else 0.0
                for name in STREAMS
            },
            boxes=followed,
            epoch=self._temporal.epoch,
            trained=self.bundle.manifest.trained,
            stages_ms=tally.stages_ms,
            fired_ns={name: tuple(times) for name, times in tally.fired_ns.items()},
            causes=dict(plan.causes),
            held=held,
            shed=shed,
        )
        self._health.note(prediction)
        return prediction

    def finish(self) -> list[Prediction]:
        """The stream has ended: a stream shorter than a window still gets one decision, marked partial."""
        self.sampler.check_counts()
        if self._ready or self._origin_ns is None:
            return []
        return [self._decide(self._last_ns, ready=True, partial=True)]

    def health(self) -> GateHealth:
        """How the gates have done so far."""
        shadow = ShadowHealth() if self._shadow is None else self._shadow.health
        return self._health.report(self._total.fired, self.sampler.counts, self._video_ns / 1e9, shadow)

    def summarise(self, feed: Feed) -> Summary:
        """Add up the whole run. The counts are checked: every frame and grid point is accounted for."""
        self.sampler.check_counts()
        counts, total = feed.counts, self._total
        delivered = {name: c.delivered for name, c in self.sampler.counts.items()}
        assert set(delivered.values()) == {counts.delivered}, (
            f"{counts.delivered} frames delivered, sampled {delivered}"
        )
        return Summary(
            frames=counts.as_dict(),
            streams=self.sampler.counts,
            resets=self.sampler.resets,
            decisions=self._decisions,
            ready=self._ready,
            experts_fired=total.fired,
            replayed=total.replayed,
            macs=total.macs,
            macs_always_on=round(self._decisions * self.always_on_macs),
            video_s=self._video_ns / 1e9,
            wall_s=time.perf_counter() - self._born,
            stages_ms={name: round(ms, 3) for name, ms in total.stages_ms.items()},
            trained=self.bundle.manifest.trained,
            random_weights=self.bundle.manifest.random_weights,
            gates=msgspec.to_builtins(self.health()),
        )


def stream(
    session: Session, feed: Feed, waiting: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Iterator[tuple[Frame, list[Prediction]]]:
    """Push every frame of a feed through a session; yield each delivered frame with the decisions it completed.

    ``waiting`` is entered while the feed is waited for: outside of it, a frame is in work.
    """
    last = None
    while True:
        with waiting():
            frame = next(feed, None)
        if frame is None:
            break
        predictions = session.push(frame)
        if predictions is None:
            feed.counts.drop("timestamp")
            continue
        last = frame
        yield frame, predictions
    final = session.finish()
    if last is not None and final:
        yield last, final

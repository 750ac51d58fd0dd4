"""Gate calibration: always-on and gated side by side on the user's own video, and the cheapest gates that agree.

All candidates see each frame at the same time, beside one always-on session, so that nothing but the gates differs.
Settings are chosen on the first half (in time) of each stream and reported on the second.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from vidprism_edge.bundle import Arrays, Bundle, add_files
from vidprism_edge.calibration.router import PENALTIES, Trace, train_router
from vidprism_edge.errors import UsageError, VidPrismError
from vidprism_edge.runtimes.engines import Engine, EngineOptions, load_engines
from vidprism_edge.runtimes.streaming.events import Event, detect_events
from vidprism_edge.runtimes.streaming.gates import SETTINGS_FILE, GateSettings, default_settings
from vidprism_edge.runtimes.streaming.policy import ContentPolicy
from vidprism_edge.runtimes.streaming.prediction import Prediction
from vidprism_edge.runtimes.streaming.session import Session
from vidprism_edge.runtimes.streaming.source import Source
from vidprism_edge.spec import NONE, STREAMS, ModelSpec

CALIBRATION_SCHEMA = 1
#: Beside top-1: the largest mean total-variation distance of the scores, and the agreement where something happens.
MOST_DISTANCE, LEAST_ACTION_AGREEMENT = 0.02, 0.98
#: A candidate is chosen within this share of what is allowed: the cheapest one of a first half is too cheap by chance,
#: and has to hold on what comes.
CHOICE_SHARE = 0.5
#: A target beyond this cannot be told from it.
FINEST_TARGET = 0.999
#: An event is kept when a gated event of its label meets it, give or take so long.
EVENT_SLACK_NS = 1_000_000_000
_REMEMBERED = 400


class Measures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A gated run beside the always-on one, over one half of every stream."""

    decisions: int
    macs_per_s: float
    always_on_macs_per_s: float
    agreement: float
    #: The same on decisions that the always-on run does not call ``none``; None where there is no such decision.
    action_decisions: int
    action_agreement: float | None
    #: Mean total-variation distance of the score vectors.
    distance: float
    #: Events of the always-on run, those without a gated counterpart, and gated ones without an always-on one.
    events: int
    lost: int
    extra: int

    @property
    def saving(self) -> float:
        """How many times fewer multiply-accumulates."""
        return self.always_on_macs_per_s / self.macs_per_s if self.macs_per_s else float("inf")

    def agrees(self, target: float, share: float = 1.0) -> bool:
        """Whether nothing that matters is lost; ``share``: of the deviation that is allowed."""
        acting = self.action_agreement is None or 1 - self.action_agreement <= share * (
            1 - LEAST_ACTION_AGREEMENT
        )
        same = 1 - self.agreement <= share * (1 - target)
        return same and acting and self.distance <= share * MOST_DISTANCE and not self.lost


class Trial(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One candidate: what it costs and how far it agrees, on the first and on the second half."""

    settings: GateSettings
    first: Measures
    second: Measures


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What :data:`SETTINGS_FILE` holds. ``settings`` are what the runtime takes."""

    schema: int = CALIBRATION_SCHEMA
    settings: GateSettings
    target_agreement: float
    streams: tuple[str, ...]
    video_s: float
    #: Whether the choice met the target on the first half; otherwise it is the defaults.
    met: bool
    trials: tuple[Trial, ...]

    @property
    def chosen(self) -> Trial:
        return next(trial for trial in self.trials if trial.settings == self.settings)


def list_candidates(spec: ModelSpec) -> list[GateSettings]:
    """The settings that are tried, the defaults first: how much must move, crossed with how much is done then.

    The temporal expert goes on until its past is of a picture at rest, so that its last token stands for what comes;
    the others have nothing more to see then. The rarest pace all but leaves them to max skip.
    """
    movements = ((4.0, 0.002), (4.0, 0.012), (7.0, 0.006))
    #: how much rarer the spatial and the hybrid expert run while something happens
    paces = ((2, 1), (4, 5), (60, 25))
    field_s = spec.receptive_field / spec.streams["temporal"].rate_hz
    holds = (field_s, spec.window_s + spec.hop_s)
    made = [default_settings(spec)]
    for (change, share), (spatial, hybrid), hold_s in itertools.product(movements, paces, holds):
        if hold_s == holds[0] and (spatial, hybrid) != paces[-1]:
            continue  # with the rest, the shorter hold is between two others in cost
        rarer = {**dict.fromkeys(STREAMS, 1), "spatial": spatial, "hybrid": hybrid}
        made.append(
            GateSettings(
                hold_s={**dict.fromkeys(STREAMS, 0.5), "temporal": hold_s},
                busy_interval=rarer,
                least_change=change,
                least_share=dict.fromkeys(STREAMS, share),
                look_s=field_s,
                hold_decisions=True,
            )
        )
    return made


class Remembering(Engine):
    """An engine of a pure function that keeps its last answers: candidates ask for the same samples."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.graph)
        self.precision = engine.precision
        self._engine = engine
        self._known: OrderedDict[bytes, Arrays] = OrderedDict()

    def infer_impl(self, inputs: Mapping[str, npt.NDArray[np.float32]]) -> Arrays:
        digest = hashlib.blake2b(digest_size=16)
        for name in sorted(inputs):
            digest.update(np.ascontiguousarray(inputs[name]).data)
        key = digest.digest()
        if key not in self._known:
            self._known[key] = self._engine.infer_impl(inputs)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return dict(self._known[key])


@dataclass(slots=True)
class Course:
    """The decisions of one session on one stream, as arrays."""

    labels: tuple[str, ...]
    predictions: list[Prediction] = field(default_factory=list)
    #: What a router was told at each decision.
    features: list[npt.NDArray[np.float64]] = field(default_factory=list)

    def note(self, session: Session, predictions: list[Prediction] | None) -> None:
        """Take the decisions that a frame completed."""
        if not predictions:
            return
        self.predictions += predictions
        policy = session.sampler.policy
        if isinstance(policy, ContentPolicy):
            self.features += [policy.features] * len(predictions)

    def part(self, from_ns: int, to_ns: int) -> list[Prediction]:
        """The ready decisions of a stretch of time."""
        return [p for p in self.predictions if from_ns < p.t_ns <= to_ns and p.ready]

    def events(self, spec: ModelSpec) -> list[Event]:
        return detect_events(self.predictions, spec.events, spec.labels)


def play_beside(
    bundle: Bundle,
    source: Source,
    candidates: Sequence[GateSettings],
    engines: Mapping[str, Engine],
    max_skip_s: float,
    progress: Callable[[float], None] = lambda _: None,
) -> tuple[Course, list[Course]]:
    """Push every frame of a source through an always-on session and one session a candidate; closes the source."""
    common = {"engine": engines, "period_ns": source.period_ns, "max_skip_s": max_skip_s}
    sessions = [Session(bundle, gates="open", **common)]  # type: ignore[arg-type]
    sessions += [Session(bundle, settings=s, shadow_share=0.0, **common) for s in candidates]  # type: ignore[arg-type]
    courses = [Course(bundle.spec.labels) for _ in sessions]
    try:
        while (frame := source.read()) is not None:
            for session, course in zip(sessions, courses, strict=True):
                course.note(session, session.push(frame))
            progress(frame.t_ns / 1e9)
    finally:
        source.close()
    return courses[0], courses[1:]


def compare(
    spec: ModelSpec, streams: Sequence[tuple[Course, Course]], halves: Sequence[tuple[int, int]]
) -> Measures:
    """Measure (always-on, gated) pairs of courses, each over its own stretch of time (from, to) in ns."""
    distances, same, acting_same = [], [], []
    macs = always_macs = seconds = 0.0
    events = lost = extra = 0
    for (always, gated), (begin, end) in zip(streams, halves, strict=True):
        pairs = list(zip(always.part(begin, end), gated.part(begin, end), strict=True))
        for a, g in pairs:
            distances.append(0.5 * sum(abs(a.scores[n] - g.scores[n]) for n in spec.labels))
            same.append(a.label == g.label)
            if a.label != NONE:
                acting_same.append(a.label == g.label)
        macs += sum(g.macs for _, g in pairs)
        always_macs += sum(a.macs for a, _ in pairs)
        seconds += len(pairs) * spec.hop_s
        mine, theirs = ([e for e in c.events(spec) if begin < e.onset_ns <= end] for c in (always, gated))
        events += len(mine)
        lost += count_unmatched(mine, gated.events(spec))
        extra += count_unmatched(theirs, always.events(spec))
    if not same:
        raise UsageError("the video is too short to calibrate on: no decision in one of its halves")
    return Measures(
        decisions=len(same),
        macs_per_s=macs / seconds,
        always_on_macs_per_s=always_macs / seconds,
        agreement=float(np.mean(same)),
        action_decisions=len(acting_same),
        action_agreement=float(np.mean(acting_same)) if acting_same else None,
        distance=float(np.mean(distances)),
        events=events,
        lost=lost,
        extra=extra,
    )


def count_unmatched(events: Iterable[Event], others: Iterable[Event]) -> int:
    """Events that no other event of the same label meets; each of the others meets one."""
    left, unmatched = list(others), 0
    for event in events:
        assert event.offset_ns is not None
        for other in left:
            assert other.offset_ns is not None
            meets = (
                other.onset_ns < event.offset_ns + EVENT_SLACK_NS
                and other.offset_ns > event.onset_ns - EVENT_SLACK_NS
            )
            if other.label == event.label and meets:
                left.remove(other)
                break
        else:
            unmatched += 1
    return unmatched


Played = list[tuple[Course, list[Course]]]


class Player:
    """Plays streams always-on and through candidates, on the same engines."""

    def __init__(
        self,
        bundle: Bundle,
        engine: str,
        options: EngineOptions | None,
        max_skip_s: float,
        progress: Callable[[str, float], None],
    ) -> None:
        self._bundle, self._max_skip_s, self._progress = bundle, max_skip_s, progress
        self._engines = {
            n: Remembering(e) if n in ("analyzer", "spatial", "hybrid_encode") else e
            for n, e in load_engines(bundle, engine, options).items()
        }

    def play(self, sources: Sequence[Source], tried: Sequence[GateSettings]) -> Played:
        """The always-on course of each source, and one a candidate. Errors: :class:`VidPrismError`."""
        played = []
        for source in sources:

            def tell(t_s: float, name: str = source.name) -> None:
                self._progress(name, t_s)

            both = play_beside(self._bundle, source, tried, self._engines, self._max_skip_s, tell)
            if not both[0].predictions:
                window_s = self._bundle.spec.window_s
                raise VidPrismError(
                    f"{source.name} gave no decision; expected video longer than {window_s:g} s"
                )
            played.append(both)
        return played


def judge(spec: ModelSpec, tried: Sequence[GateSettings], played: Played) -> list[Trial]:
    """Measure every candidate on the first and on the second halves."""
    ends = [always.predictions[-1].t_ns for always, _ in played]
    halves = [(0, end // 2) for end in ends], [(end // 2, end) for end in ends]
    trials = []
    for i, settings in enumerate(tried):
        pairs = [(always, gated[i]) for always, gated in played]
        first, second = (compare(spec, pairs, half) for half in halves)
        trials.append(Trial(settings=settings, first=first, second=second))
    return trials


def calibrate_gates(
    bundle: Bundle,
    sources: Sequence[Source],
    *,
    target: float = 0.99,
    engine: str = "onnxruntime",
    options: EngineOptions | None = None,
    max_skip_s: float = 30.0,
    candidates: Sequence[GateSettings] | None = None,
    reopen: Callable[[], Sequence[Source]] | None = None,
    progress: Callable[[str, float], None] = lambda *_: None,
) -> Calibration:
    """Play every source through all candidates and choose the cheapest that agrees on the first halves, with a reserve.

    ``reopen``: opens the sources once more; routers are then trained on the first halves and tried behind the choice.
    One is kept where it costs less on the second halves and agrees no less there.
    """
    if not 0 < target <= 1:
        raise UsageError(f"the target agreement is {target:g}; expected more than 0 and at most 1")
    spec, tried = bundle.spec, list(candidates or list_candidates(bundle.spec))
    player = Player(bundle, engine, options, max_skip_s, progress)
    played = player.play(sources, tried)
    trials = judge(spec, tried, played)
    enough = trials[0].first.decisions >= count_needed(target)
    good = [t for t in trials if enough and t.first.agrees(target, CHOICE_SHARE)]
    chosen = min(good, key=lambda t: t.first.macs_per_s) if good else trials[0]
    if reopen is not None:
        routed = list_routers(spec, tried, chosen.settings, played)
        more = judge(spec, routed, player.play(reopen(), routed))
        chosen = choose_router(chosen, more, target) if enough else chosen
        trials += more
    return Calibration(
        settings=chosen.settings,
        target_agreement=target,
        streams=tuple(s.name for s in sources),
        video_s=sum(always.predictions[-1].t_ns for always, _ in played) / 1e9,
        met=chosen.first.agrees(target),
        trials=tuple(trials),
    )


def count_needed(target: float) -> int:
    """Decisions of the first halves without which no choice is made: one alone must not use up the reserve."""
    return math.ceil(1 / (CHOICE_SHARE * (1 - min(target, FINEST_TARGET))) - 1e-9)


def list_routers(
    spec: ModelSpec, tried: Sequence[GateSettings], base: GateSettings, played: Played
) -> list[GateSettings]:
    """Routers of several penalties behind ``base``, trained on the first halves: at its rates, and at full ones."""
    rare = max(range(len(tried)), key=lambda i: tried[i].busy_interval["spatial"])
    traces = []
    for always, gated in played:
        half, course = always.predictions[-1].t_ns // 2, gated[tried.index(base)]
        scores = [
            np.array([list(p.scores.values()) for p in c.part(0, half)])
            for c in (course, always, gated[rare])
        ]
        known = [
            f for f, p in zip(course.features, course.predictions, strict=True) if p.ready and p.t_ns <= half
        ]
        if known:
            traces.append(Trace(np.array(known), *scores))
    return [
        msgspec.structs.replace(base, busy_interval=busy, router=train_router(traces, penalty))
        for busy in (base.busy_interval, dict.fromkeys(STREAMS, 1))
        for penalty in PENALTIES
    ]


def choose_router(chosen: Trial, routed: Sequence[Trial], target: float) -> Trial:
    """The cheapest router that agrees on the first halves, if it is better on the second; otherwise the gates alone."""
    good = [t for t in routed if t.first.agrees(target, CHOICE_SHARE)]
    if not good:
        return chosen
    best = min(good, key=lambda t: t.first.macs_per_s)
    gates, router = chosen.second, best.second
    equal = router.agreement >= gates.agreement and router.lost <= gates.lost
    return best if equal and router.macs_per_s < gates.macs_per_s else chosen


def store_calibration(bundle: Bundle, calibration: Calibration, picture: Path | None) -> Bundle:
    """Put the settings and the frontier, and its picture, into the bundle; returns it opened anew."""
    files = {SETTINGS_FILE: msgspec.json.format(msgspec.json.encode(calibration), indent=2) + b"\n"}
    if picture is not None:
        files["reports/gates.png"] = picture.read_bytes()
    return add_files(bundle, files)


def draw_frontier(calibration: Calibration, path: Path, title: str) -> None:
    """Draw compute against agreement: each candidate on both halves, and the one that was chosen."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for trial in calibration.trials:
        x = [m.macs_per_s / 1e6 for m in (trial.first, trial.second)]
        y = [100 * m.agreement for m in (trial.first, trial.second)]
        chosen = trial is calibration.chosen
        colour = "#D55E00" if chosen else "#56B4E9"
        axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.6)
        axes.plot(x[:1], y[:1], "o", color=colour, markersize=9 if chosen else 6)
        axes.plot(x[1:], y[1:], "o", color=colour, markerfacecolor="white", markersize=9 if chosen else 6)
    axes.axhline(100 * calibration.target_agreement, color="#8A8F98", linestyle="--", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel(
        "million multiply-accumulates a second of video (filled: first half, hollow: second half)"
    )
    axes.set_ylabel("agreement with always-on, %")
    always = calibration.chosen.second.always_on_macs_per_s / 1e6
    axes.set_title(f"{title}: always-on costs {always:.0f}; orange: chosen", fontsize=10)
    figure.savefig(path, dpi=120)

"""Naive, always open and gated beside each other on long streams: the tables of docs/results/gates.md.

    python scripts/measure_gates.py BUNDLE --results FOLDER --clips CLIPS --subject 4 --videos a.mp4 b.mp4 --still a.mp4

BUNDLE has not learned from the subject. Its gates are measured as they come by default and, where they are calibrated
(`vidprism-edge calibrate --gates`), as calibrated. Multiply-accumulates are counted; engine time is that of the graphs
alone, all programs in turn in one process. The naive program runs all graphs on the whole window at every decision:
its multiply-accumulates follow from that, its engine time is measured on every tenth decision. Energy is read where the
machine has a counter. What a stream gave is kept in the folder of results: a run that was cut short goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidprism_edge.benchmark.device.power import Meter, find_meters
from vidprism_edge.benchmark.device.tree import Tree
from vidprism_edge.bundle import Bundle
from vidprism_edge.calibration.data import read_dataset
from vidprism_edge.calibration.gates import Course, compare
from vidprism_edge.calibration.streams import SubjectStream, score_events
from vidprism_edge.runtimes.engines import Engine, EngineOptions, load_engines
from vidprism_edge.runtimes.streaming.gates import SETTINGS_FILE, default_settings
from vidprism_edge.runtimes.streaming.health import GateHealth
from vidprism_edge.runtimes.streaming.session import DECISION_GRAPHS, GRAPH_OF, Session
from vidprism_edge.runtimes.streaming.source import Frame, Source, open_source
from vidprism_edge.runtimes.streaming.source_synthetic import open_synthetic
from vidprism_edge.spec import COMPONENTS, EXPERTS

#: The naive program takes one decision in so many, and is taken to need as much for the others.
NAIVE_EVERY = 10


class Still:
    """The first picture of a video with fresh sensor noise: nothing happens at all."""

    live, lost, events = False, dict[str, int](), dict[str, int]()

    def __init__(self, path: Path, seconds: float) -> None:
        source = open_source(str(path))
        first = source.read()
        source.close()
        assert first is not None
        self.name, self.period_ns = f"first picture of {path.name}, noise of sigma 1.5", source.period_ns
        self._image, self._rng = first.image, np.random.default_rng(0)
        self._count, self._index = round(seconds * 1e9 / (self.period_ns or 40_000_000)), 0

    def read(self) -> Frame | None:
        """The next frame; None at the end."""
        if self._index >= self._count:
            return None
        noisy = self._image + self._rng.standard_normal(self._image.shape, np.float32) * 1.5
        self._index += 1
        pixels = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        return Frame(pixels, (self._index - 1) * (self.period_ns or 40_000_000), self._index - 1)

    def close(self) -> None:
        """Nothing is held."""


@dataclass(slots=True)
class Outcome:
    """One program on one stream."""

    course: Course
    health: GateHealth
    video_s: float
    joules: float | None

    @property
    def macs_per_s(self) -> float:
        return sum(p.macs for p in self.course.predictions) / self.video_s

    @property
    def engine_ms_per_s(self) -> float:
        """Time in the engines a second of video."""
        return (
            sum(p.stages_ms.get(g, 0.0) for p in self.course.predictions for g in COMPONENTS) / self.video_s
        )


def naive_runs(bundle: Bundle) -> dict[str, int]:
    """Runs of each graph at a decision: every slot of the window encoded anew, every step of it run."""
    spec = bundle.spec
    encoded = {GRAPH_OF[n]: spec.slots(n) * spec.streams[n].regions for n in EXPERTS}
    return {**encoded, **dict.fromkeys(DECISION_GRAPHS, 1)}


class NaiveEngines:
    """The naive program's engines at one decision after the other, each graph's runs in succession."""

    def __init__(self, bundle: Bundle, engines: Mapping[str, Engine]) -> None:
        rng = np.random.default_rng(0)
        self._work = [
            (engines[g], {i.name: rng.random(i.shape, np.float32) for i in engines[g].graph.inputs}, n)
            for g, n in naive_runs(bundle).items()
        ]
        self._hop_s = bundle.spec.hop_s
        self._spent_s, self.decisions = 0.0, 0

    def decide(self) -> None:
        """All graphs on the whole window."""
        start = time.perf_counter()
        for engine, inputs, runs in self._work:
            for _ in range(runs):
                engine.infer(inputs)
        self._spent_s += time.perf_counter() - start
        self.decisions += 1

    def a_second(self, spent: float | None = None) -> float:
        """Milliseconds in the engines a second of video; or what else was spent on all decisions, a second."""
        return (self._spent_s * 1e3 if spent is None else spent) / self.decisions / self._hop_s


class Energy:
    """Joules by program, from a counter; None where the machine has none."""

    def __init__(self) -> None:
        meters, self.reason = find_meters(Tree())
        self._meter: Meter | None = next((m for m in meters if m.joules() is not None), None)
        self.spent: dict[str, float | None] = {}

    @contextmanager
    def of(self, program: str) -> Iterator[None]:
        """What is drawn meanwhile is the program's."""
        before = None if self._meter is None else self._meter.joules()
        yield
        after = None if self._meter is None else self._meter.joules()
        known = self.spent.get(program, 0.0)
        if before is None or after is None or known is None:
            self.spent[program] = None
        else:
            self.spent[program] = known + after - before


def play(
    bundle: Bundle, source: Source, threads: int, energy: Energy
) -> tuple[NaiveEngines, Outcome, dict[str, Outcome]]:
    """Naive, always open and every kind of gates, frame by frame in turn."""
    engines = load_engines(bundle, "onnxruntime", EngineOptions(threads))
    common = {"engine": engines, "period_ns": source.period_ns, "shadow_share": 0.0}
    sessions = {"open": Session(bundle, gates="open", **common)}  # type: ignore[arg-type]
    sessions["default"] = Session(bundle, settings=default_settings(bundle.spec), **common)  # type: ignore[arg-type]
    if SETTINGS_FILE in bundle.manifest.files:
        sessions["calibrated"] = Session(bundle, **common)  # type: ignore[arg-type]
    courses = {name: Course(bundle.spec.labels) for name in sessions}
    naive, last_ns = NaiveEngines(bundle, engines), 0
    while (frame := source.read()) is not None:
        last_ns = frame.t_ns
        for name, session in sessions.items():
            with energy.of(name):
                courses[name].predictions += session.push(frame) or []
        if len(courses["open"].predictions) >= NAIVE_EVERY * (naive.decisions + 1):
            with energy.of("naive"):
                naive.decide()
    source.close()
    outcomes = {
        n: Outcome(courses[n], s.health(), last_ns / 1e9, energy.spent[n]) for n, s in sessions.items()
    }
    return naive, outcomes.pop("open"), outcomes


def describe(
    bundle: Bundle, name: str, gates: str, engines: NaiveEngines, always: Outcome, gated: Outcome, joules: str
) -> str:
    """A row of the table of costs and agreement."""
    spec = bundle.spec
    naive = sum(bundle.macs[graph] * runs for graph, runs in naive_runs(bundle).items()) / spec.hop_s
    m = compare(spec, [(always.course, gated.course)], [(0, always.course.predictions[-1].t_ns)])
    acting = "–" if m.action_agreement is None else f"{m.action_agreement:.1%} of {m.action_decisions}"
    saved = always.macs_per_s / gated.macs_per_s
    faster = always.engine_ms_per_s / gated.engine_ms_per_s
    return (
        f"| {name} ({always.video_s:.0f} s) | {gates} | {naive / 1e6:.0f} | {always.macs_per_s / 1e6:.0f} | "
        f"{gated.macs_per_s / 1e6:.0f} | {naive / always.macs_per_s:.1f} × | {saved:.1f} × | "
        f"{engines.a_second():.0f} | {always.engine_ms_per_s:.0f} | {gated.engine_ms_per_s:.0f} | {faster:.1f} × | "
        f"{joules} | {m.agreement:.2%} of {m.decisions} | {acting} | {m.distance:.4f} | {m.events} | {m.lost} | "
        f"{m.extra} |"
    )


def reuse(name: str, gates: str, gated: Outcome) -> list[str]:
    """What was computed, what was reused exactly and what approximately."""
    rows = []
    for expert, h in gated.health.experts.items():
        causes = ", ".join(f"{cause} {n}" for cause, n in h.causes.items())
        rows.append(
            f"| {name} | {gates} | {expert} | {h.runs} | {h.computed} | {h.exact} | {h.approximate} | "
            f"{h.open_share:.0%} | {causes} |"
        )
    held = gated.health.decisions_held
    computed = gated.health.decisions_computed
    rows.append(f"| {name} | {gates} | decisions | – | {computed} | 0 | {held} | – | – |")
    return rows


def describe_events(bundle: Bundle, source: SubjectStream, program: str, outcome: Outcome) -> str:
    """A row on how the stream's actions were told."""
    score = score_events(source.truth, outcome.course.events(bundle.spec), outcome.video_s)
    recall = "–" if score.recall is None else f"{score.recall:.1%}"
    return (
        f"| {source.name} | {program} | {score.actions} | {recall} | {score.false_alarms_a_minute:.2f} | "
        f"{np.median(score.delays_ms or [float('nan')]):.0f} |"
    )


Rows = dict[str, list[str]]


def measure_stream(bundle: Bundle, source: Source, threads: int) -> Rows:
    """The rows of one stream in each table."""
    name = Path(source.name).name
    energy = Energy()
    naive, always, kinds = play(bundle, source, threads, energy)
    rows: Rows = {"costs": [], "reuse": [], "events": [], "notes": []}
    for gates, gated in kinds.items():
        spent = [energy.spent["naive"], always.joules, gated.joules]
        if None in spent:
            joules, rows["notes"] = "null", [f"Energy is null: {energy.reason}."]
        else:
            first, *rest = (j or 0.0 for j in spent)
            joules = ", ".join(
                f"{j:.2f}" for j in (naive.a_second(first), *(j / always.video_s for j in rest))
            )
        rows["costs"].append(describe(bundle, name, gates, naive, always, gated, joules))
        rows["reuse"] += reuse(name, gates, gated)
    if isinstance(source, SubjectStream):
        for program, outcome in {"always open": always, **kinds}.items():
            rows["events"].append(describe_events(bundle, source, program, outcome))
    return rows


HEADINGS = {
    "costs": "| stream | gates | naive, MMAC/s | always open | gated | naive / open | open / gated | "
    "engine ms a second, naive | open | gated | open / gated | J a second, naive, open, gated | "
    "labels equal | where open is not `none` | distance | "
    "events of open | lost | extra |",
    "reuse": "| stream | gates | expert | runs | points computed | exact reuse | approximate | gate open | "
    "opened by |",
    "events": "| stream | program | actions | event recall | false alarms a minute | median delay, ms |",
}


def measure(
    bundle: Bundle, streams: Mapping[str, Callable[[], Source]], threads: int, results: Path | None
) -> str:
    """Markdown of all tables; what lies in ``results`` of the same bundle and stream is not played again."""
    tables: Rows = {table: [] for table in (*HEADINGS, "notes")}
    manifest = (bundle.root / "manifest.json").read_bytes()
    for key, open_stream in streams.items():
        name = hashlib.sha256(manifest + key.encode()).hexdigest()[:16]
        path = None if results is None else results / f"{name}.json"
        if path is not None and path.exists():
            rows: Rows = json.loads(path.read_bytes())
        else:
            rows = measure_stream(bundle, open_stream(), threads)
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(rows))
        for table in tables:
            tables[table] += rows[table]
    parts = []
    for table, heading in HEADINGS.items():
        parts += [heading, "|" + "---|" * (heading.count("|") - 1), *tables[table], ""]
    return "\n".join([*parts, *dict.fromkeys(tables["notes"])])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--results", type=Path, help="folder in which each stream's rows are kept")
    parser.add_argument("--clips", type=Path, help="folder with a CSV of clips with subjects")
    parser.add_argument("--subject", help="whose clips become a stream; left out of the bundle's training")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1, help="of the stream; calibration takes 0")
    parser.add_argument("--videos", type=Path, nargs="*", default=[])
    parser.add_argument("--still", type=Path, help="a video whose first picture becomes an idle scene")
    parser.add_argument("--still-seconds", type=float, default=120.0)
    parser.add_argument("--synthetic", help="a synthetic source, to try this script")
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    streams: dict[str, Callable[[], Source]] = {}
    if a.still is not None:
        streams[f"still {a.still} {a.still_seconds}"] = lambda: Still(a.still, a.still_seconds)
    for video in a.videos:
        streams[str(video)] = lambda video=video: open_source(str(video))  # type: ignore[misc]
    if a.clips is not None:
        entries = [e for e in read_dataset(a.clips).entries if e.subject == a.subject]
        streams[f"subject {a.clips} {a.subject} {a.seconds} {a.seed}"] = lambda: SubjectStream(
            entries, seconds=a.seconds, seed=a.seed
        )
    if a.synthetic is not None:
        streams[a.synthetic] = lambda: open_synthetic(a.synthetic)
    print(measure(Bundle.open(a.bundle), streams, a.threads, a.results))


if __name__ == "__main__":
    main()

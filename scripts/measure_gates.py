"""Naive, always open and gated beside each other on long streams: the tables of docs/results/gates.md.

    python scripts/measure_gates.py BUNDLE --clips CLIPS --subject 4 --seconds 300 --videos a.mp4 b.mp4

BUNDLE is calibrated (`vidprism-edge calibrate --gates`) and has not learned from the subject. Multiply-accumulates are
counted; engine time is that of the graphs alone, always-on and gated in turn in one process. The naive program's cost
follows from what it is: all graphs on the whole window at every decision.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidprism_edge.bundle import Bundle
from vidprism_edge.calibration.data import read_dataset
from vidprism_edge.calibration.gates import Course, compare
from vidprism_edge.calibration.streams import SubjectStream, score_events
from vidprism_edge.runtimes.engines import EngineOptions, load_engines
from vidprism_edge.runtimes.streaming.health import GateHealth
from vidprism_edge.runtimes.streaming.session import DECISION_GRAPHS, GRAPH_OF, Session
from vidprism_edge.runtimes.streaming.source import Frame, Source, open_source
from vidprism_edge.runtimes.streaming.source_synthetic import open_synthetic
from vidprism_edge.spec import COMPONENTS, EXPERTS


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

    @property
    def macs_per_s(self) -> float:
        return sum(p.macs for p in self.course.predictions) / self.video_s

    @property
    def engine_ms_per_s(self) -> float:
        """Time in the engines a second of video."""
        return (
            sum(p.stages_ms.get(g, 0.0) for p in self.course.predictions for g in COMPONENTS) / self.video_s
        )


def naive_macs_per_s(bundle: Bundle) -> float:
    """Every slot of the window encoded anew, every step of it run, at every decision."""
    spec, macs = bundle.spec, bundle.macs
    encoded = sum(spec.slots(n) * spec.streams[n].regions * macs[GRAPH_OF[n]] for n in EXPERTS)
    return (encoded + sum(macs[g] for g in DECISION_GRAPHS)) / spec.hop_s


def play(bundle: Bundle, source: Source, threads: int) -> tuple[Outcome, Outcome]:
    """Always open and gated, frame by frame in turn."""
    engines = load_engines(bundle, "onnxruntime", EngineOptions(threads))
    sessions = [
        Session(bundle, engine=engines, gates=gates, period_ns=source.period_ns, shadow_share=0.0)
        for gates in ("open", "auto")
    ]
    courses = [Course(bundle.spec.labels) for _ in sessions]
    last_ns = 0
    while (frame := source.read()) is not None:
        last_ns = frame.t_ns
        for session, course in zip(sessions, courses, strict=True):
            course.predictions += session.push(frame) or []
    source.close()
    always, gated = (Outcome(c, s.health(), last_ns / 1e9) for c, s in zip(courses, sessions, strict=True))
    return always, gated


def describe(bundle: Bundle, name: str, always: Outcome, gated: Outcome) -> list[str]:
    """Three rows of the table of costs, and one of the table of agreement."""
    spec, naive = bundle.spec, naive_macs_per_s(bundle)
    m = compare(spec, [(always.course, gated.course)], [(0, always.course.predictions[-1].t_ns)])
    acting = "–" if m.action_agreement is None else f"{m.action_agreement:.1%} of {m.action_decisions}"
    saved = always.macs_per_s / gated.macs_per_s
    faster = always.engine_ms_per_s / gated.engine_ms_per_s
    return [
        f"| {name} ({always.video_s:.0f} s) | {naive / 1e6:.0f} | {always.macs_per_s / 1e6:.0f} | "
        f"{gated.macs_per_s / 1e6:.0f} | {naive / always.macs_per_s:.1f} × | {saved:.1f} × | {faster:.1f} × | "
        f"{m.agreement:.2%} of {m.decisions} | {acting} | {m.distance:.4f} | {m.events} | {m.lost} | {m.extra} |"
    ]


def reuse(name: str, gated: Outcome) -> list[str]:
    """What was computed, what was reused exactly and what approximately."""
    rows = []
    for expert, h in gated.health.experts.items():
        causes = ", ".join(f"{cause} {n}" for cause, n in h.causes.items())
        rows.append(
            f"| {name} | {expert} | {h.runs} | {h.computed} | {h.exact} | {h.approximate} | {h.open_share:.0%} | "
            f"{causes} |"
        )
    held = gated.health.decisions_held
    total = held + gated.health.decisions_computed
    rows.append(f"| {name} | decisions | – | {total - held} | 0 | {held} | – | – |")
    return rows


def measure(bundle: Bundle, sources: Sequence[Source], threads: int) -> str:
    """Markdown of all tables."""
    costs, reused, events = [], [], []
    for source in sources:
        always, gated = play(bundle, source, threads)
        costs += describe(bundle, source.name, always, gated)
        reused += reuse(source.name, gated)
        if isinstance(source, SubjectStream):
            for what, outcome in (("always open", always), ("gated", gated)):
                score = score_events(source.truth, outcome.course.events(bundle.spec), outcome.video_s)
                recall = "–" if score.recall is None else f"{score.recall:.1%}"
                events.append(
                    f"| {source.name} | {what} | {score.actions} | {recall} | {score.false_alarms_a_minute:.2f} | "
                    f"{np.median(score.delays_ms or [float('nan')]):.0f} |"
                )
    return "\n".join(
        [
            "| stream | naive, MMAC/s | always open | gated | naive / open | open / gated | engine time open / gated | "
            "labels equal | where open is not `none` | distance | events of open | lost | extra |",
            "|" + "---|" * 13,
            *costs,
            "",
            "| stream | expert | runs | points computed | exact reuse | approximate | gate open | opened by |",
            "|" + "---|" * 8,
            *reused,
            "",
            "| stream | program | actions | event recall | false alarms a minute | median delay, ms |",
            "|" + "---|" * 6,
            *events,
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
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
    sources: list[Source] = [open_source(str(v)) for v in a.videos]
    if a.still is not None:
        sources.append(Still(a.still, a.still_seconds))
    if a.clips is not None:
        entries = [e for e in read_dataset(a.clips).entries if e.subject == a.subject]
        sources.append(SubjectStream(entries, seconds=a.seconds, seed=a.seed))
    if a.synthetic is not None:
        sources.append(open_synthetic(a.synthetic))
    print(measure(Bundle.open(a.bundle), sources, a.threads))


if __name__ == "__main__":
    main()

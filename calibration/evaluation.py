"""How often a bundle is right: labelled clips, played as a device would, on the engine that will run.

A clip's label is the argmax of the mean logits over its ready decisions; ``none`` is wrong for a clip of an action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidprism_edge.bundle import Bundle
from vidprism_edge.calibration.data import Clip, DataSet, Reader
from vidprism_edge.errors import UsageError
from vidprism_edge.runtimes.engines import Engine, EngineOptions, load_engines
from vidprism_edge.runtimes.streaming.gates import GateSettings
from vidprism_edge.runtimes.streaming.prediction import Prediction
from vidprism_edge.runtimes.streaming.session import Session


@dataclass(frozen=True, slots=True)
class Judged:
    """One clip: what it is, what the network said, and the log-scores float64 [decisions, K].

    Log-scores are logits less a constant a decision, so that their mean has the same argmax.
    """

    path: Path
    label: str
    said: str
    scores: np.ndarray
    ready: tuple[bool, ...]
    macs: int
    video_s: float


@dataclass(slots=True)
class Evaluation:
    """All clips of a data set."""

    labels: tuple[str, ...]
    clips: list[Judged] = field(default_factory=list)
    skipped: dict[Path, str] = field(default_factory=dict)

    @property
    def top1(self) -> float:
        return float(np.mean([c.label == c.said for c in self.clips]))

    def confusion(self) -> np.ndarray:
        """int64 [K, K]: rows are what a clip is, columns what was said."""
        found = np.zeros((len(self.labels), len(self.labels)), np.int64)
        for clip in self.clips:
            found[self.labels.index(clip.label), self.labels.index(clip.said)] += 1
        return found

    def per_class(self) -> dict[str, float | None]:
        """Share of each class's clips that were right; None for a class without a clip."""
        confusion = self.confusion()
        totals = confusion.sum(axis=1)
        return {
            name: float(confusion[i, i] / totals[i]) if totals[i] else None
            for i, name in enumerate(self.labels)
        }

    def as_json(self) -> dict[str, Any]:
        """What ``eval --json`` prints."""
        video_s = sum(c.video_s for c in self.clips)
        return {
            "top1": self.top1,
            "clips": len(self.clips),
            "per_class": self.per_class(),
            "labels": self.labels,
            "confusion": self.confusion().tolist(),
            "macs_per_second": round(sum(c.macs for c in self.clips) / video_s) if video_s else None,
            "video_s": video_s,
            "skipped": {path.name: reason for path, reason in self.skipped.items()},
        }


def log_scores(predictions: Sequence[Prediction], labels: Sequence[str]) -> np.ndarray:
    """Log-scores of decisions, float64 [decisions, K]; a score of 0 stays finite."""
    return np.asarray(np.log(np.array([[p.scores[name] for name in labels] for p in predictions]) + 1e-300))


def label_clip(predictions: Sequence[Prediction], labels: Sequence[str]) -> str:
    """The label of a clip: the argmax of the mean logits over its ready decisions."""
    ready = [p for p in predictions if p.ready]
    return labels[int(log_scores(ready, labels).mean(axis=0).argmax())]


def judge(
    bundle: Bundle,
    clip: Clip,
    *,
    engines: Mapping[str, Engine],
    gates: str = "auto",
    settings: GateSettings | None = None,
) -> Judged:
    """Play one clip through a fresh session."""
    session = Session(bundle, engine=engines, gates=gates, settings=settings, period_ns=clip.period_ns)
    made = []
    for frame in clip.frames:
        made += session.push(frame) or []
    made += session.finish()
    ready = tuple(p.ready for p in made)
    scores, said = log_scores(made, bundle.spec.labels), label_clip(made, bundle.spec.labels)
    video_s = (clip.frames[-1].t_ns - clip.frames[0].t_ns) / 1e9
    return Judged(clip.entry.path, clip.entry.label, said, scores, ready, sum(p.macs for p in made), video_s)


def check_labels(bundle: Bundle, data: DataSet) -> None:
    """Raise :class:`UsageError` where the data have a class that the bundle does not know."""
    if unknown := [name for name in data.labels if name not in bundle.spec.labels]:
        raise UsageError(
            f"the data have the class {', '.join(unknown)}, which the bundle does not know; "
            f"its labels: {', '.join(bundle.spec.labels)}"
        )


def evaluate(
    bundle: Bundle,
    data: DataSet,
    *,
    engine: str = "onnxruntime",
    options: EngineOptions | None = None,
    gates: str = "auto",
    subjects: Sequence[str] | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Evaluation:
    """Judge every clip of a data set, or of some of its subjects; what does not decode is skipped and named."""
    check_labels(bundle, data)
    part = data if subjects is None else data.pick(subjects)
    result = Evaluation(bundle.spec.labels)
    reader, engines = Reader(), load_engines(bundle, engine, options)
    for clip in reader.read(part.entries, progress):
        result.clips.append(judge(bundle, clip, engines=engines, gates=gates))
    result.skipped = dict(reader.skipped)
    if not result.clips:
        raise UsageError(f"no clip in {data.root} could be read; give videos that decode")
    return result


def draw_confusion(result: Evaluation, path: Path, title: str) -> None:
    """Draw what was said of each class as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    confusion, labels = result.confusion(), result.labels
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = 2.0 + 0.55 * len(labels)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("said")
    axes.set_ylabel("is")
    axes.set_title(f"{title}: top-1 {result.top1:.1%} of {len(result.clips)} clips", fontsize=10)
    for row, column in np.ndindex(*confusion.shape):
        if confusion[row, column]:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(confusion[row, column]), ha="center", va="center", color=colour)
    figure.savefig(path, dpi=120)

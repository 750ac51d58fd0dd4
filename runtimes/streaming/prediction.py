"""What the runtime says at each decision, and what it adds up at the end."""

from __future__ import annotations

from typing import Any

import msgspec

UNTRAINED = "untrained"


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """One decision.

    ``t_ns`` is the decision's time on the stream's own clock. ``experts_fired``, ``macs``, ``skipped`` and
    ``stages_ms`` cover the time since the decision before. ``skipped`` names, for every expert that did not run, why.
    """

    t_ns: int
    #: False until a full window has been seen; ``partial`` where the stream ended before that.
    ready: bool
    partial: bool
    #: The label with the highest score; the network's own label even where ``trained`` is false.
    label: str
    scores: dict[str, float]
    #: Runs per expert (``analyzer``, ``spatial``, ``hybrid``, ``temporal``); replayed steps are among them.
    experts_fired: dict[str, int]
    replayed: int
    macs: int
    #: Age of the newest visible token per expert; None where the expert is absent.
    ages_ms: dict[str, float | None]
    skipped: dict[str, str]
    gates: dict[str, bool]
    rates_hz: dict[str, float]
    #: The followed box per expert in pixels of the source frame; None: the whole frame only.
    boxes: dict[str, tuple[int, int, int, int] | None]
    epoch: int
    trained: bool
    stages_ms: dict[str, float]
    #: Stream times at which each expert ran since the decision before (replayed steps not among them).
    fired_ns: dict[str, tuple[int, ...]]
    #: Why each open gate is open.
    causes: dict[str, str] = {}
    #: The scores are those of the decision before: the temporal gate was closed (approximate).
    held: bool = False
    #: What the latency budget took: expert → ``floor`` (rate) or ``closed``.
    shed: dict[str, str] = {}

    @property
    def shown_label(self) -> str:
        """The label as people see it: marked where the network is untrained or the window not yet full."""
        label = self.label if self.trained else f"{self.label} ({UNTRAINED})"
        return label if self.ready else f"{label} …"

    def as_json(self) -> dict[str, Any]:
        """The object that ``run --json`` prints."""
        return {
            "t_ns": self.t_ns,
            "ready": self.ready,
            "partial": self.partial,
            "label": self.label if self.trained else UNTRAINED,
            "scores": {name: round(score, 6) for name, score in self.scores.items()},
            "trained": self.trained,
            "experts_fired": self.experts_fired,
            "replayed": self.replayed,
            "macs": self.macs,
            "ages_ms": self.ages_ms,
            "skipped": self.skipped,
            "rates_hz": self.rates_hz,
            "epoch": self.epoch,
            "causes": self.causes,
            "held": self.held,
            "shed": self.shed,
        }


class StreamCounts(msgspec.Struct):
    """What became of the frames and the grid points of one stream.

    ``delivered = sampled + sum(skipped)`` counts frames; ``points = sampled + repeated + reset`` counts the grid
    points that were due. Points that were not due are in ``held``, by reason.
    """

    delivered: int = 0
    sampled: int = 0
    repeated: int = 0
    reset: int = 0
    skipped: dict[str, int] = {}
    held: dict[str, int] = {}

    @property
    def points(self) -> int:
        """Grid points that were due."""
        return self.sampled + self.repeated + self.reset


class Summary(msgspec.Struct, kw_only=True):
    """The whole run: the last JSON object of ``run --json``."""

    frames: dict[str, Any]
    streams: dict[str, StreamCounts]
    resets: dict[str, int]
    decisions: int
    ready: int
    experts_fired: dict[str, int]
    replayed: int
    macs: int
    macs_always_on: int
    video_s: float
    wall_s: float
    stages_ms: dict[str, float]
    trained: bool
    random_weights: bool
    #: Age of decisions when they were made, by quantile: since capture (live, or files in real time) or reading.
    latency_ms: dict[str, float] = {}
    #: A :class:`~.health.GateHealth`, as plain values.
    gates: dict[str, Any] = {}
    #: Events that ended, by label; nothing where the network is untrained.
    events: dict[str, int] = {}

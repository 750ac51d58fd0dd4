"""The raw samples of a run: nothing is clipped, averaged or left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Query:
    """What one query took. ``ready``: the window was full; ``entries``: how often a stage's clock was read."""

    latency_ms: float
    stages_ms: dict[str, float]
    macs: int = 0
    frames: int = 0
    decisions: int = 1
    ready: bool = True
    entries: int = 0
    runs: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Samples:
    """Milliseconds a query: the whole and each stage; ``at_s``: when each ended, on the monitor's clock.

    ``parts``: how many of the queries each part of a run made, in order; empty until the parts are joined.
    """

    latency_ms: list[float] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    stages_ms: dict[str, list[float]] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)
    macs: int = 0
    frames: int = 0
    decisions: int = 0
    entries: int = 0
    #: What a scenario alone has: drops, deadline misses, throughput.
    extra: dict[str, Any] = field(default_factory=dict)
    parts: list[int] = field(default_factory=list)

    def add(self, query: Query, at_s: float) -> None:
        """Keep one query."""
        for name, spent in query.stages_ms.items():
            # a stage that did not run in the queries before cost nothing there
            self.stages_ms.setdefault(name, [0.0] * len(self.latency_ms)).append(spent)
        self.latency_ms.append(query.latency_ms)
        self.at_s.append(at_s)
        for values in self.stages_ms.values():
            if len(values) < len(self.latency_ms):
                values.append(0.0)
        for name, runs in query.runs.items():
            self.runs[name] = self.runs.get(name, 0) + runs
        self.macs += query.macs
        self.frames += query.frames
        self.decisions += query.decisions
        self.entries += query.entries

    @property
    def pace_s(self) -> float | None:
        """Seconds from one query's end to the next one's, on average; None of fewer than two."""
        return (self.at_s[-1] - self.at_s[0]) / (len(self.at_s) - 1) if len(self.at_s) > 1 else None

    def raw(self) -> dict[str, Any]:
        """What a file keeps, from which every number of the report can be made again."""
        return {
            "latency_ms": self.latency_ms,
            "at_s": self.at_s,
            "stages_ms": self.stages_ms,
            "parts": self.parts,
        }


#: What every part of a run has alike of a scenario's own; all else adds up.
_ALIKE = ("workers", "threads_a_graph", "deadline_ms")


def join_samples(parts: Sequence[Samples], starts_s: Sequence[float]) -> Samples:
    """The samples of a run from those of its parts; ``starts_s``: when each part's clock began, on the run's."""
    joined = Samples(parts=[len(part.latency_ms) for part in parts])
    names = dict.fromkeys(name for part in parts for name in part.stages_ms)
    for part, start_s in zip(parts, starts_s, strict=True):
        joined.latency_ms += part.latency_ms
        joined.at_s += [start_s + at for at in part.at_s]
        for name in names:
            spent = part.stages_ms.get(name, [0.0] * len(part.latency_ms))
            joined.stages_ms.setdefault(name, []).extend(spent)
        for name, runs in part.runs.items():
            joined.runs[name] = joined.runs.get(name, 0) + runs
        joined.macs += part.macs
        joined.frames += part.frames
        joined.decisions += part.decisions
        joined.entries += part.entries
        _add_extra(joined.extra, part.extra)
    return joined


def _add_extra(total: dict[str, Any], extra: dict[str, Any]) -> None:
    for name, value in extra.items():
        if isinstance(value, dict):
            _add_extra(total.setdefault(name, {}), value)
        else:
            total[name] = value if name in _ALIKE else total.get(name, 0) + value

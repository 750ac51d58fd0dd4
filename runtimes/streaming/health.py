"""Whether gates can be trusted: who fired how often and why, who did not and why, and what was reused how."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np

from vidprism_edge.runtimes.streaming.prediction import Prediction, StreamCounts
from vidprism_edge.spec import STREAMS

#: Upper ends of the bins in which ages are counted, ms: an eighth of an octave apart, up to two minutes.
_AGE_BINS_MS = 2.0 ** (np.arange(136) / 8.0)


class Ages:
    """Ages in milliseconds, counted in bins: percentiles in constant memory, at most 9 % too high."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(_AGE_BINS_MS), np.int64)
        self.most: float | None = None

    def add(self, age_ms: float) -> None:
        """Count one age."""
        self._counts[min(int(np.searchsorted(_AGE_BINS_MS, age_ms)), len(_AGE_BINS_MS) - 1)] += 1
        self.most = age_ms if self.most is None else max(self.most, age_ms)

    def percentile(self, share: float) -> float | None:
        """The upper end of the bin in which this share of the ages ends; None without any."""
        total = int(self._counts.sum())
        if self.most is None or not total:
            return None
        place = int(np.searchsorted(np.cumsum(self._counts), share * total))
        return min(float(_AGE_BINS_MS[place]), self.most)

    def as_quantiles(self) -> dict[str, float]:
        """Median, 99th percentile and maximum, by quantile; empty without any age."""
        if self.most is None:
            return {}
        named = {"0.5": self.percentile(0.5), "0.99": self.percentile(0.99), "1": self.most}
        return {name: round(age, 3) for name, age in named.items() if age is not None}


class ExpertHealth(msgspec.Struct, kw_only=True):
    """One expert over a run. Grid points: ``computed``, ``exact`` (the same picture), ``approximate`` (skipped)."""

    runs: int
    runs_hz: float
    #: Share of the decisions at which the gate was open, and how often each reason held it open.
    open_share: float
    causes: dict[str, int]
    #: Grid points that were not sampled, by reason.
    skipped: dict[str, int]
    computed: int
    exact: int
    approximate: int
    #: Age of the newest token at decisions that saw one.
    age_p50_ms: float | None
    age_p99_ms: float | None
    age_max_ms: float | None


class ShadowHealth(msgspec.Struct, kw_only=True):
    """Windows that were run always-on beside the gated stream, and how far its answers were from theirs."""

    checks: int = 0
    #: Checks that a reset cut short.
    broken: int = 0
    #: Cost of the checks; it is in no other count.
    macs: int = 0
    agreed: int = 0
    mean_distance: float | None = None
    #: What to think of it, where it is not well; else empty.
    warning: str = ""


class GateHealth(msgspec.Struct, kw_only=True):
    """The gates of one stream over a run: in the summary, in ``run --json`` and in the metrics."""

    experts: dict[str, ExpertHealth]
    #: Decisions that were computed, and those that repeat the one before because nothing moved (approximate).
    decisions_computed: int
    decisions_held: int
    shadow: ShadowHealth
    #: Experts that the latency budget took something from, with the number of decisions.
    shed: dict[str, int]


class HealthLog:
    """Adds up one session's predictions in constant memory."""

    def __init__(self) -> None:
        self._decisions = self._held = 0
        self._open: Counter[str] = Counter()
        self._causes: dict[str, Counter[str]] = {name: Counter() for name in STREAMS}
        self._shed: Counter[str] = Counter()
        self._ages = {name: Ages() for name in STREAMS}

    def note(self, prediction: Prediction) -> None:
        """Count one decision."""
        self._decisions += 1
        self._held += prediction.held
        self._shed.update(prediction.shed.keys())
        for name, cause in prediction.causes.items():
            self._open[name] += 1
            self._causes[name][cause] += 1
        for name, age in prediction.ages_ms.items():
            if age is not None:
                self._ages[name].add(age)

    def report(
        self,
        runs: dict[str, int],
        counts: dict[str, StreamCounts],
        video_s: float,
        shadow: ShadowHealth,
    ) -> GateHealth:
        """The health of everything noted so far, with the runs per expert and the sampler's counts."""
        experts = {
            name: ExpertHealth(
                runs=runs[name],
                runs_hz=round(runs[name] / video_s, 4) if video_s else 0.0,
                open_share=round(self._open[name] / self._decisions, 4) if self._decisions else 0.0,
                causes=dict(self._causes[name]),
                skipped=dict(counts[name].held),
                computed=counts[name].sampled,
                exact=counts[name].repeated,
                approximate=sum(counts[name].held.values()),
                age_p50_ms=self._ages[name].percentile(0.5),
                age_p99_ms=self._ages[name].percentile(0.99),
                age_max_ms=self._ages[name].most,
            )
            for name in STREAMS
        }
        return GateHealth(
            experts=experts,
            decisions_computed=self._decisions - self._held,
            decisions_held=self._held,
            shadow=shadow,
            shed=dict(self._shed),
        )

"""From decisions over time to events: when something began, when it ended, and what it was.

Pure bookkeeping on predictions, without pictures or engines: the same predictions always give the same events.
How long and how sure an event must be is data, :class:`~vidprism_edge.spec.EventSpec`, in the bundle's spec.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from vidprism_edge.runtimes.streaming.prediction import Prediction
from vidprism_edge.spec import NONE, EventSpec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened. An event is told twice: at ``onset``, while it goes on, and at ``offset``, for good.

    Times are decision times on the stream's clock: ``onset_ns`` is the first decision at which it had begun,
    ``told_ns`` the one at which it was sure enough to be told, ``offset_ns`` the first at which it was over.
    The label may be another one at the offset: it is what the whole event says.
    """

    state: Literal["onset", "offset"]
    label: str
    onset_ns: int
    told_ns: int
    offset_ns: int | None
    #: Mean score of the label over the event so far, and its highest score at one decision.
    score: float
    peak: float

    def as_json(self) -> dict[str, Any]:
        """The value of ``event`` in the object that ``run --json`` prints."""
        return {**msgspec.to_builtins(self), "score": round(self.score, 6), "peak": round(self.peak, 6)}


class _Part:
    """A stretch of decisions and what they say together: scores by label, ``none`` not among them."""

    def __init__(self, start_ns: int) -> None:
        self.start_ns = start_ns
        self.count = 0
        self.sums: dict[str, float] = {}
        self.peaks: dict[str, float] = {}

    def add(self, scores: Mapping[str, float]) -> None:
        """Take one decision."""
        self._merge(1, scores, scores)

    def absorb(self, later: _Part) -> None:
        """Take a stretch that follows this one."""
        self._merge(later.count, later.sums, later.peaks)

    def _merge(self, count: int, sums: Mapping[str, float], peaks: Mapping[str, float]) -> None:
        self.count += count
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.peaks[name] = max(self.peaks.get(name, 0.0), peaks[name])


class EventDetector:
    """Give it every prediction in turn; it returns the events that began or ended with it.

    Something happens while the smoothed activity, 1 − score of ``none`` (the best score where the labels lack
    ``none``), stays above ``leave`` and has been above ``enter``. Its label is the one with the highest mean score;
    a label that was best for ``split_s`` after another was best for as long is an event of its own, a shorter flip
    is none. A prediction that is not ready, or a clock that steps back, ends what goes on.
    """

    def __init__(self, spec: EventSpec, labels: Sequence[str]) -> None:
        self._spec = spec
        self._labels = tuple(name for name in labels if name != NONE)
        self._has_none = NONE in labels
        self._clear()

    def _clear(self) -> None:
        self._smooth: dict[str, float] = {}
        self._last_ns: int | None = None
        self._rise_ns: int | None = None
        self._forget()

    def _forget(self) -> None:
        #: the event's earlier decisions, and its last ones, for which one label was the best
        self._earlier: _Part | None = None
        self._run: _Part | None = None
        self._run_label = ""
        self._settled = ""
        self._told_ns: int | None = None

    @property
    def current(self) -> Event | None:
        """The event that goes on, once it was told."""
        return None if self._told_ns is None else self._describe(self._joined(), None)

    def update(self, prediction: Prediction) -> list[Event]:
        """Take the next decision → what it began or ended, in order."""
        t_ns = prediction.t_ns
        stepped_back = self._last_ns is not None and t_ns <= self._last_ns
        told = self.finish() if stepped_back or not prediction.ready else []
        if not prediction.ready:
            return told
        activity = self._follow(prediction.scores, t_ns)
        self._last_ns = t_ns
        if activity < self._spec.leave:
            told += self._end(t_ns)
            self._rise_ns = None
            return told
        if self._rise_ns is None:
            self._rise_ns = t_ns
        if self._run is None and activity < self._spec.enter:
            return told
        return told + self._go_on(t_ns, prediction.scores)

    def finish(self) -> list[Event]:
        """The stream ended, or starts anew: what goes on ends with the last decision."""
        told = [] if self._last_ns is None else self._end(self._last_ns)
        self._clear()
        return told

    def _follow(self, scores: Mapping[str, float], t_ns: int) -> float:
        """Smooth the scores → the activity."""
        if self._last_ns is None or not self._spec.smoothing_s:
            self._smooth = dict(scores)
        else:
            keep = math.exp(-(t_ns - self._last_ns) / (self._spec.smoothing_s * 1e9))
            self._smooth = {n: keep * self._smooth[n] + (1 - keep) * s for n, s in scores.items()}
        if self._has_none:
            return 1.0 - self._smooth[NONE]
        return max(self._smooth[name] for name in self._labels)

    def _go_on(self, t_ns: int, scores: Mapping[str, float]) -> list[Event]:
        """Count a decision of an event; tell what it began, and what a new label ended."""
        best = max(self._labels, key=self._smooth.__getitem__)
        if self._earlier is None:
            assert self._rise_ns is not None
            self._earlier = _Part(self._rise_ns)
        if self._run is None or best != self._run_label:
            if self._run is not None:
                self._earlier.absorb(self._run)
            self._run, self._run_label = _Part(t_ns), best
        self._run.add({name: scores[name] for name in self._labels})
        told: list[Event] = []
        if best != self._settled and t_ns - self._run.start_ns >= self._spec.split_s * 1e9:
            if self._settled:
                told = self._tell_offset(self._earlier, self._run.start_ns)
                self._earlier, self._told_ns = _Part(self._run.start_ns), None
            self._settled = best
        event = self._describe(self._joined(), None)
        lasting = t_ns - event.onset_ns >= self._spec.least_s * 1e9
        sure = event.score >= self._spec.least_score and event.peak >= self._spec.least_peak
        if self._told_ns is None and lasting and sure:
            self._told_ns = t_ns
            told.append(self._describe(self._joined(), None))
        return told

    def _joined(self) -> _Part:
        """All decisions of the event."""
        assert self._earlier is not None
        assert self._run is not None
        joined = _Part(self._earlier.start_ns)
        joined.absorb(self._earlier)
        joined.absorb(self._run)
        return joined

    def _end(self, t_ns: int) -> list[Event]:
        told = [] if self._run is None else self._tell_offset(self._joined(), t_ns)
        self._forget()
        return told

    def _tell_offset(self, part: _Part, t_ns: int) -> list[Event]:
        """The end of an event whose beginning was told."""
        return [] if self._told_ns is None else [self._describe(part, t_ns)]

    def _describe(self, part: _Part, offset_ns: int | None) -> Event:
        label = max(part.sums, key=part.sums.__getitem__)
        return Event(
            state="onset" if offset_ns is None else "offset",
            label=label,
            onset_ns=part.start_ns,
            told_ns=self._last_ns if self._told_ns is None else self._told_ns,  # type: ignore[arg-type]
            offset_ns=offset_ns,
            score=part.sums[label] / part.count,
            peak=part.peaks[label],
        )


def detect_events(predictions: Iterable[Prediction], spec: EventSpec, labels: Sequence[str]) -> list[Event]:
    """All events of a stream that has ended, each once, as it was at its offset."""
    detector = EventDetector(spec, labels)
    told = [event for prediction in predictions for event in detector.update(prediction)]
    return [event for event in told + detector.finish() if event.state == "offset"]

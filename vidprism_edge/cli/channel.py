"""One source on its way through a bundle: feed, session, events and what they add up to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from vidprism_edge.bundle import Bundle
from vidprism_edge.runtimes.engines import Engine, EngineOptions
from vidprism_edge.runtimes.streaming.events import Event, EventDetector
from vidprism_edge.runtimes.streaming.feed import DropPolicy, Feed, Pace
from vidprism_edge.runtimes.streaming.health import Ages
from vidprism_edge.runtimes.streaming.prediction import Prediction, Summary
from vidprism_edge.runtimes.streaming.session import Session
from vidprism_edge.runtimes.streaming.source import Source


@dataclass(frozen=True, slots=True)
class PlayOptions:
    """How a source is played. Files are written only where a path is given."""

    engine: str = "onnxruntime"
    engine_options: EngineOptions = field(default_factory=EngineOptions)
    gates: Literal["auto", "open"] = "auto"
    max_skip_s: float = 30.0
    budget_ms: float | None = None
    drop_policy: DropPolicy | None = None
    pace: Pace = "fast"
    max_frame_age_s: float = 2.0
    duration_s: float | None = None
    #: Highest score that an event's label must have reached; None: as the model says.
    event_confidence: float | None = None
    window: bool | None = None
    video: Path | None = None
    timeline: Path | None = None
    metrics: str | None = None
    as_json: bool = False
    title: str = "VidPrism Edge"


class Channel:
    """One source of a run."""

    def __init__(
        self,
        bundle: Bundle,
        source: Source,
        options: PlayOptions,
        *,
        engines: Mapping[str, Engine] | None = None,
        on_change: Callable[[], None] = lambda: None,
        delay_s: float = 0.0,
    ) -> None:
        """``engines``: already loaded ones, which sources share. ``delay_s``: how much later a file begins."""
        self.live, self.name = source.live, source.name
        self.session = Session(
            bundle,
            engine=options.engine if engines is None else engines,
            options=options.engine_options,
            gates=options.gates,
            max_skip_s=options.max_skip_s,
            period_ns=None if source.live else source.period_ns,
            budget_ms=options.budget_ms,
        )
        self.feed = Feed(
            source,
            drop_policy=options.drop_policy,
            pace=options.pace,
            max_frame_age_s=options.max_frame_age_s,
            on_change=on_change,
            delay_s=0.0 if source.live else delay_s,
        )
        rule = bundle.spec.events
        if options.event_confidence is not None:
            rule = msgspec.structs.replace(rule, least_peak=options.event_confidence)
        # the labels of an untrained network are no events
        self._events = EventDetector(rule, bundle.spec.labels) if bundle.manifest.trained else None
        self._event_counts: dict[str, int] = {}
        self._latency = Ages()

    @property
    def event(self) -> Event | None:
        """The event that goes on now."""
        return None if self._events is None else self._events.current

    def latency_ms(self, arrived_ns: int) -> float:
        """Age of a decision: since its frame was new (live, and files in real time), or since it was asked for.

        ``arrived_ns``: when the frame was asked for, on the clock of :func:`time.monotonic_ns`.
        """
        due_ns = self.feed.due_ns
        age_ms = (time.monotonic_ns() - (arrived_ns if due_ns is None else due_ns)) / 1e6
        self._latency.add(age_ms)
        return age_ms

    def take(self, prediction: Prediction) -> list[Event]:
        """The events that a decision began or ended."""
        return self._count([] if self._events is None else self._events.update(prediction))

    def finish(self) -> list[Event]:
        """The events that end with the stream."""
        return self._count([] if self._events is None else self._events.finish())

    def _count(self, events: list[Event]) -> list[Event]:
        for event in events:
            if event.state == "offset":
                self._event_counts[event.label] = self._event_counts.get(event.label, 0) + 1
        return events

    def interrupt(self) -> None:
        """The user stopped the run; the feed may have handed a frame over that the session never got."""
        if self.feed.counts.delivered > self.session.sampler.counts["analyzer"].delivered:
            self.feed.counts.drop("interrupted")

    def snapshot(self) -> Summary:
        """The counts as they are now, between two frames or at the end."""
        summary = self.session.summarise(self.feed)
        summary.events = dict(self._event_counts)
        summary.latency_ms = self._latency.as_quantiles()
        return summary

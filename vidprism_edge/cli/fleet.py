"""Plays several sources through one bundle in one process: one set of engines, one thread, a session each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from vidprism_edge.bundle import Bundle
from vidprism_edge.cli.channel import Channel, PlayOptions
from vidprism_edge.cli.console import print_json, say
from vidprism_edge.cli.interrupts import Interrupts
from vidprism_edge.cli.metrics import MetricsOutput
from vidprism_edge.errors import UsageError
from vidprism_edge.runtimes.display.palette import macs_text, percent_text
from vidprism_edge.runtimes.engines import load_engines
from vidprism_edge.runtimes.streaming.events import Event
from vidprism_edge.runtimes.streaming.fleet import Fleet, Member
from vidprism_edge.runtimes.streaming.metrics import write_metrics
from vidprism_edge.runtimes.streaming.prediction import Prediction, Summary
from vidprism_edge.runtimes.streaming.source import Source


def check_together(options: PlayOptions) -> None:
    """Refuse what shows one picture only."""
    for flag, value in (("video", options.video), ("timeline", options.timeline), ("window", options.window)):
        if value:
            raise UsageError(f"--{flag} shows one source; leave it out, or run each source by itself")


class FleetPlayer:
    """Several sources of one run. Every line and JSON object says which source it is of."""

    def __init__(self, bundle: Bundle, sources: Sequence[Source], options: PlayOptions) -> None:
        self._options = options
        self._fleet = Fleet()
        engines = load_engines(bundle, options.engine, options.engine_options)
        self.channels: list[Channel] = []
        # files that begin together would want all their decisions, and their rarest samples, at the same moments
        step_s = bundle.spec.hop_s / len(sources)
        for number, source in enumerate(sources):
            self.channels.append(
                Channel(
                    bundle,
                    source,
                    options,
                    engines=engines,
                    on_change=self._fleet.wake,
                    delay_s=number * step_s,
                )
            )
        self.names = name_apart([c.name for c in self.channels])
        self._metrics: MetricsOutput | None = None

    def play(self) -> tuple[dict[str, Summary], bool]:
        """Play until all have ended, to ``duration_s`` or to Ctrl-C → summaries, and whether it was interrupted."""
        interrupted = False
        with ExitStack() as stack:
            for channel in self.channels:
                stack.enter_context(channel.feed)
            if self._options.metrics is not None:
                self._metrics = stack.enter_context(MetricsOutput(self._options.metrics))
            interrupts = stack.enter_context(Interrupts())
            try:
                self._loop(interrupts)
            except KeyboardInterrupt:
                interrupted = True
                for channel in self.channels:
                    channel.interrupt()
            for number, channel in enumerate(self.channels):
                self._tell_events(number, channel.finish())
            self._publish(last=True)
        return self._snapshots(), interrupted

    def _loop(self, interrupts: Interrupts) -> None:
        members = [Member(channel.feed, channel.session) for channel in self.channels]
        start = arrived = time.monotonic_ns()
        for number, _, predictions in self._fleet.run(members, interrupts.allowed):
            channel = self.channels[number]
            for prediction in predictions:
                latency_ms = channel.latency_ms(arrived)
                self._tell(number, prediction, latency_ms)
                self._tell_events(number, channel.take(prediction))
            self._publish()
            arrived = time.monotonic_ns()
            if self._options.duration_s is not None and arrived - start >= self._options.duration_s * 1e9:
                return

    def _tell(self, number: int, prediction: Prediction, latency_ms: float) -> None:
        if self._options.as_json:
            print_json({"source": self.names[number], **prediction.as_json()})
            return
        score = percent_text(prediction.scores[prediction.label])
        runs = ", ".join(f"{name} {count}" for name, count in prediction.experts_fired.items())
        say(
            f"{self.names[number]} | {prediction.t_ns / 1e9:8.2f} s | {prediction.shown_label} {score} | {runs} | "
            f"{macs_text(prediction.macs)} | latency {latency_ms:.0f} ms"
        )

    def _tell_events(self, number: int, events: list[Event]) -> None:
        for event in events:
            if self._options.as_json:
                print_json({"source": self.names[number], "event": event.as_json()})
            else:
                say(f"{self.names[number]} | event {event.label}, {event.state}")

    def _snapshots(self) -> dict[str, Summary]:
        return {name: c.snapshot() for name, c in zip(self.names, self.channels, strict=True)}

    def _publish(self, *, last: bool = False) -> None:
        if self._metrics is not None:
            self._metrics.update(lambda: write_metrics(self._snapshots()), last=last)


def name_apart(names: Sequence[str]) -> list[str]:
    """Number the names that occur more than once."""
    seen: dict[str, int] = {}
    made = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        made.append(name if names.count(name) == 1 else f"{name}#{seen[name]}")
    return made

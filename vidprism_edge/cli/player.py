"""Plays a source through a bundle and shows it: what ``run`` and ``demo`` share."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from vidprism_edge.bundle import Bundle
from vidprism_edge.cli.channel import Channel, PlayOptions
from vidprism_edge.cli.console import check_file, print_json, say
from vidprism_edge.cli.interrupts import Interrupts
from vidprism_edge.cli.metrics import MetricsOutput
from vidprism_edge.errors import UsageError
from vidprism_edge.runtimes.streaming.events import Event
from vidprism_edge.runtimes.streaming.metrics import write_metrics
from vidprism_edge.runtimes.streaming.prediction import Prediction, Summary
from vidprism_edge.runtimes.streaming.session import stream
from vidprism_edge.runtimes.streaming.source import Source

#: Decisions that are kept for a timeline: ten minutes of the default hop.
KEPT = 1200


@dataclass(slots=True)
class Playback:
    """What a run gave: the last decisions and the summary; ``interrupted`` by the user, not by the stream's end."""

    summary: Summary
    predictions: list[Prediction]
    interrupted: bool


@dataclass(slots=True)
class _Meter:
    """Frames a second over the last two seconds."""

    times: deque[float] = field(default_factory=lambda: deque(maxlen=60))

    def tick(self) -> float:
        self.times.append(time.perf_counter())
        spent = self.times[-1] - self.times[0]
        return (len(self.times) - 1) / spent if spent > 0 else 0.0


def check_outputs(options: PlayOptions) -> None:
    """Refuse a video or timeline that cannot be written, before anything is opened."""
    check_file(options.video)
    if options.timeline is not None:
        from vidprism_edge.runtimes.display.timeline import check_timeline

        check_file(options.timeline)
        check_timeline(options.timeline)


class Player:
    """One source, one bundle, and everything that shows them."""

    def __init__(self, bundle: Bundle, source: Source, options: PlayOptions) -> None:
        self._options = options
        self._channel = Channel(bundle, source, options)
        self.session, self.feed = self._channel.session, self._channel.feed
        self._kept: deque[Prediction] = deque(maxlen=KEPT)
        self._always_on = round(self.session.always_on_macs)
        self._metrics: MetricsOutput | None = None

    def play(self) -> Playback:
        """Play to the end, to ``duration_s`` or to Ctrl-C; the summary is made in every case."""
        from vidprism_edge.runtimes.display.table import LiveTable
        from vidprism_edge.runtimes.display.video import VideoWriter
        from vidprism_edge.runtimes.display.window import Window

        options, interrupted = self._options, False
        with ExitStack() as stack:
            stack.enter_context(self.feed)
            period = self.feed.source.period_ns
            fps = 1e9 / period if period else 30.0
            video = stack.enter_context(VideoWriter(options.video, fps)) if options.video else None
            window = None
            if self._wants_window():
                window = stack.enter_context(Window(options.title))
            table = None
            if not options.as_json:
                table = stack.enter_context(LiveTable(self._channel.name, always_on_macs=self._always_on))
            if options.metrics is not None:
                self._metrics = stack.enter_context(MetricsOutput(options.metrics))
            interrupts = stack.enter_context(Interrupts())
            try:
                self._loop(table, video, window, interrupts)
            except KeyboardInterrupt:
                interrupted = True
                self._channel.interrupt()
            self._tell_events(self._channel.finish())
            self._publish(last=True)
        if options.timeline is not None:
            from vidprism_edge.runtimes.display.timeline import draw_timeline

            draw_timeline(
                list(self._kept), options.timeline, title=options.title, subtitle=self._channel.name,
                always_on_macs=self._always_on,
            )  # fmt: skip
        return Playback(self._channel.snapshot(), list(self._kept), interrupted)

    def _wants_window(self) -> bool:
        from vidprism_edge.runtimes.display.window import Window

        if self._options.window is False:
            return False
        there, reason = Window.available()
        if not there and self._options.window:
            raise UsageError(f"no window can be shown: {reason}; leave --window out, or give --video FILE")
        if not there and not self._options.as_json and self._options.video is None:
            say(f"no window ({reason}); --video FILE keeps an annotated video")
        return there

    def _loop(self, table: object, video: object, window: object, interrupts: Interrupts) -> None:
        from vidprism_edge.runtimes.display.overlay import draw

        options, meter = self._options, _Meter()
        latest: Prediction | None = None
        latency_ms: float | None = None
        start = time.perf_counter()
        first_ns: int | None = None
        arrived = time.monotonic_ns()
        for frame, predictions in stream(self.session, self.feed, interrupts.allowed):
            fps = meter.tick()
            first_ns = frame.t_ns if first_ns is None else first_ns
            for latest in predictions:
                latency_ms = self._channel.latency_ms(arrived)
                self._tell(latest, table, fps, latency_ms)
            if video is not None or window is not None:
                picture = draw(
                    frame.image, latest, fps=fps, latency_ms=latency_ms, always_on_macs=self._always_on
                )
                if video is not None:
                    video.write(picture, frame.t_ns)  # type: ignore[attr-defined]
                if window is not None and not window.show(picture):  # type: ignore[attr-defined]
                    return
            if options.duration_s is not None:
                spent = time.perf_counter() - start if self._channel.live else (frame.t_ns - first_ns) / 1e9
                if spent >= options.duration_s:
                    return
            self._publish()
            arrived = time.monotonic_ns()

    def _tell(self, prediction: Prediction, table: object, fps: float, latency_ms: float) -> None:
        self._kept.append(prediction)
        if table is None:
            print_json(prediction.as_json())
        self._tell_events(self._channel.take(prediction))
        if table is not None:
            counts = self.feed.counts
            table.update(  # type: ignore[attr-defined]
                prediction, fps=fps, read=counts.read, dropped=counts.dropped, latency_ms=latency_ms,
                event=self._channel.event,
            )  # fmt: skip

    def _tell_events(self, events: list[Event]) -> None:
        if self._options.as_json:
            for event in events:
                print_json({"event": event.as_json()})

    def _publish(self, *, last: bool = False) -> None:
        """Hand the counts over to whoever watches."""
        if self._metrics is not None:
            self._metrics.update(
                lambda: write_metrics({self._channel.name: self._channel.snapshot()}), last=last
            )


def tell_summary(playback: Playback, *, as_json: bool) -> None:
    """Print the summary: the last JSON object, or a table for people."""
    if as_json:
        print_json({"summary": playback.summary})
        return
    from rich.console import Console

    from vidprism_edge.runtimes.display.table import summary_table

    Console(stderr=True).print(summary_table(playback.summary))


def tell_summaries(summaries: Mapping[str, Summary], *, as_json: bool) -> None:
    """Print the summary of each of several sources."""
    for name, summary in summaries.items():
        if as_json:
            print_json({"source": name, "summary": summary})
        else:
            say(f"\n{name}")
            tell_summary(Playback(summary, [], False), as_json=False)

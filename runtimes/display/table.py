"""The run in a terminal: a table that changes in place, plain lines elsewhere, and the summary at the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from vidprism_edge.runtimes.display.palette import (
    COLOURS,
    colour_of,
    duration_text,
    macs_text,
    percent_text,
    rate_text,
    reason_text,
)
from vidprism_edge.runtimes.streaming.events import Event
from vidprism_edge.runtimes.streaming.prediction import UNTRAINED, Prediction, StreamCounts, Summary

TOP = 3
_BAR = 24
_SECOND_NS = 1_000_000_000


class LiveTable:
    """Shows a run on stderr while it goes on: in place in a terminal, one plain line a decision elsewhere.

    A context manager. ``source`` is the source's name, ``always_on_macs`` what a decision costs with all gates open.
    """

    def __init__(
        self, source: str, *, always_on_macs: float | None = None, console: Console | None = None
    ) -> None:
        self._source = source
        self._always_on = always_on_macs
        self._console = console or Console(stderr=True, highlight=False)
        self._in_place = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = (
            Live(console=self._console, refresh_per_second=8, transient=True) if self._in_place else None
        )
        self._recent: deque[tuple[int, dict[str, int]]] = deque()

    def __enter__(self) -> LiveTable:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(
        self,
        prediction: Prediction,
        *,
        fps: float,
        read: int,
        dropped: int | Mapping[str, int],
        latency_ms: float | None = None,
        event: Event | None = None,
    ) -> None:
        """Show one decision. ``dropped``: the number of lost frames, or by reason; ``event``: what goes on now."""
        if self._live is None:
            line = self._line(prediction, fps, read, dropped, latency_ms)
            if event is not None:
                line += f" | event {_since(event, prediction)}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            self._live.update(self._picture(prediction, fps, read, dropped, latency_ms, event))

    def _last_second(self, prediction: Prediction) -> dict[str, int]:
        """Return the runs per expert within the last second of the stream."""
        now = prediction.t_ns
        self._recent.append((now, prediction.experts_fired))
        while self._recent and not now - _SECOND_NS < self._recent[0][0] <= now:
            self._recent.popleft()
        return {name: sum(fired.get(name, 0) for _, fired in self._recent) for name in COLOURS}

    def _cost(self, prediction: Prediction) -> str:
        cost = macs_text(prediction.macs)
        return cost + (
            f" ({percent_text(prediction.macs / self._always_on)} of always-on)" if self._always_on else ""
        )

    def _line(
        self,
        prediction: Prediction,
        fps: float,
        read: int,
        dropped: int | Mapping[str, int],
        latency_ms: float | None,
    ) -> str:
        """Return a decision as one line of plain text."""
        score = prediction.scores.get(prediction.label)
        label = prediction.label + ("" if score is None else f" {percent_text(score)}")
        notes = [note for note, on in _notes(prediction) if on]
        experts = [
            f"{name} {runs}" if runs else f"{name} 0 ({reason_text(prediction.skipped.get(name, ''))})"
            for name, runs in ((name, prediction.experts_fired.get(name, 0)) for name in COLOURS)
        ]
        parts = [
            f"{prediction.t_ns / 1e9:8.2f} s",
            label + (f" ({', '.join(notes)})" if notes else ""),
            ", ".join(experts),
            self._cost(prediction),
            f"{fps:.1f} fps",
            f"read {read}, dropped {_number(dropped)}",
        ]
        if latency_ms is not None:
            parts.append(f"latency {duration_text(latency_ms)}")
        return " | ".join(parts)

    def _picture(
        self,
        prediction: Prediction,
        fps: float,
        read: int,
        dropped: int | Mapping[str, int],
        latency_ms: float | None,
        event: Event | None = None,
    ) -> RenderableType:
        """Return a decision as a panel of two tables."""
        head = Text.assemble(
            (f"{fps:.1f} fps", "bold"), f"   read {read}   dropped {_number(dropped)}{_reasons(dropped)}",
            f"   {self._cost(prediction)}",
            "" if latency_ms is None else f"   latency {duration_text(latency_ms)}",
        )  # fmt: skip
        labels = Table.grid(padding=(0, 1))
        labels.add_column(min_width=14)
        best = sorted(prediction.scores.items(), key=lambda item: -item[1])[:TOP]
        for rank, (label, score) in enumerate(best):
            filled = round(_BAR * min(1.0, max(0.0, score)))
            bar = Text("━" * filled, "bold" if rank == 0 else "dim").append(
                "━" * (_BAR - filled), "bright_black"
            )
            labels.add_row(
                Text(label, "bold" if rank == 0 else ""), bar, Text(percent_text(score), justify="right")
            )
        notes = Text("  ").join(Text(f" {note} ", "black on yellow") for note, on in _notes(prediction) if on)
        if event is not None:
            notes = Text.assemble(notes, (f" event {_since(event, prediction)} ", "black on green"))
        experts = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for heading in ("expert", "runs", "in 1 s", "rate", "gate", "newest", "why not"):
            experts.add_column(
                heading, justify="right" if heading in ("runs", "in 1 s", "rate", "newest") else "left"
            )
        second = self._last_second(prediction)
        for name in COLOURS:
            runs, gate = prediction.experts_fired.get(name, 0), prediction.gates.get(name)
            rate, age = prediction.rates_hz.get(name), prediction.ages_ms.get(name)
            experts.add_row(
                Text(("● " if runs else "○ ") + name, colour_of(name)),
                str(runs),
                str(second[name]),
                "" if rate is None else rate_text(rate),
                "" if gate is None else ("open" if gate else "closed"),
                "" if age is None else duration_text(age),
                Text("" if runs else reason_text(prediction.skipped.get(name, "")), "dim"),
            )
        title = Text(f" {self._source}  {prediction.t_ns / 1e9:.1f} s ")
        return Panel(
            Group(head, "", notes, labels, "", experts), title=title, title_align="left", expand=False
        )


def _since(event: Event, prediction: Prediction) -> str:
    return f"{event.label} for {duration_text((prediction.t_ns - event.onset_ns) / 1e6)}"


def _notes(prediction: Prediction) -> tuple[tuple[str, bool], ...]:
    return (
        (UNTRAINED, not prediction.trained),
        ("short clip", prediction.partial),
        ("warming up", not prediction.ready and not prediction.partial),
    )


def _number(dropped: int | Mapping[str, int]) -> int:
    return dropped if isinstance(dropped, int) else sum(dropped.values())


def _reasons(counts: int | Mapping[str, int]) -> str:
    """Return counts by reason in brackets, empty where there are none."""
    if isinstance(counts, int):
        return ""
    told = ", ".join(f"{reason_text(reason)} {count}" for reason, count in counts.items() if count)
    return f" ({told})" if told else ""


def _identity(total_name: str, total: int, parts: Mapping[str, int]) -> Text:
    """Return ``total = part + part`` in words, in red where the sum is another."""
    told = " + ".join(f"{count} {name}" for name, count in parts.items())
    line = Text(f"{total} {total_name} = {told}")
    if total != sum(parts.values()):
        line.append(f"  does not add up: {sum(parts.values())}", "bold red")
    return line


def _stream_lines(counts: StreamCounts) -> Text:
    skipped = sum(counts.skipped.values())
    frames = _identity("delivered", counts.delivered, {"sampled": counts.sampled, "skipped": skipped})
    frames.append(_reasons(counts.skipped), "dim")
    points = {"sampled": counts.sampled, "repeated": counts.repeated, "reset": counts.reset}
    lines = Text("\n").join([frames, _identity("grid points", counts.points, points)])
    if any(counts.held.values()):
        lines.append(f"\n{sum(counts.held.values())} points not due").append(_reasons(counts.held), "dim")
    return lines


def _add_gates(table: Table, gates: Mapping[str, Any]) -> None:
    """Rows that say how the gates did: who was open and why, how decisions were made, what checks found."""
    for name, expert in gates["experts"].items():
        causes = ", ".join(f"{reason_text(cause)} {count}" for cause, count in expert["causes"].items())
        ages = [expert[f"age_{q}_ms"] for q in ("p50", "p99", "max")]
        told = "" if ages[0] is None else ", newest token " + " / ".join(duration_text(a) for a in ages)
        line = f"open at {percent_text(expert['open_share'])} of the decisions, {rate_text(expert['runs_hz'])}{told}"
        points = f"points: {expert['computed']} computed, {expert['exact']} exact reuse, "
        points += f"{expert['approximate']} approximate"
        table.add_row(
            Text(f"{name} gate", colour_of(name)), Text(f"{line}\n{points}").append(f" ({causes})", "dim")
        )
    held = f"{gates['decisions_computed']} computed, {gates['decisions_held']} held (approximate reuse)"
    table.add_row("[dim]fused[/dim]", Text(held))
    if gates["shed"]:
        shed = ", ".join(f"{name} at {count} decisions" for name, count in gates["shed"].items())
        table.add_row("[dim]budget[/dim]", Text(f"shed {shed}", "yellow"))
    shadow = gates["shadow"]
    if shadow["checks"]:
        found = f"{shadow['agreed']} of {shadow['checks']} agreed, distance {shadow['mean_distance']:.3f}"
        table.add_row("[dim]shadow checks[/dim]", Text(f"{found}, {macs_text(shadow['macs'])} apart"))


def summary_table(summary: Summary) -> RenderableType:
    """Return what a run added up to, as something that rich prints: every count with the sum that it belongs to."""
    table = Table.grid(padding=(0, 2))
    dropped: Mapping[str, int] = summary.frames.get("dropped", {})
    read, delivered = summary.frames.get("read", 0), summary.frames.get("delivered", 0)
    frames = _identity("read", read, {"delivered": delivered, "dropped": sum(dropped.values())})
    frames.append(_reasons(dropped), "dim")
    speed = f", {summary.video_s / summary.wall_s:.1f} times real time" if summary.wall_s > 0 else ""
    table.add_row("[dim]video[/dim]", Text(f"{summary.video_s:.1f} s in {summary.wall_s:.1f} s{speed}"))
    table.add_row("[dim]frames[/dim]", frames)
    for name, counts in summary.streams.items():
        table.add_row(Text(name, colour_of(name)), _stream_lines(counts))
    resets = Text(str(sum(summary.resets.values()))).append(_reasons(summary.resets), "dim")
    table.add_row("[dim]resets[/dim]", resets)
    table.add_row(
        "[dim]decisions[/dim]", Text(f"{summary.decisions}, of them {summary.ready} on a full window")
    )
    if summary.events:
        told = ", ".join(f"{name} {count}" for name, count in summary.events.items())
        table.add_row("[dim]events[/dim]", Text(told))
    fired = Text("  ").join(
        Text(f"{name} {count}", colour_of(name)) for name, count in summary.experts_fired.items()
    )
    if summary.replayed:
        fired.append(f"  ({summary.replayed} of the temporal runs are replayed steps)", "dim")
    table.add_row("[dim]expert runs[/dim]", fired)
    if summary.gates:
        _add_gates(table, summary.gates)
    cost = macs_text(summary.macs)
    if summary.macs_always_on > 0:
        share = percent_text(summary.macs / summary.macs_always_on)
        cost += f", {share} of the {macs_text(summary.macs_always_on)} of always-on"
    table.add_row("[dim]cost[/dim]", Text(cost))
    stages = sorted(summary.stages_ms.items(), key=lambda item: -item[1])
    table.add_row(
        "[dim]time spent[/dim]", Text(", ".join(f"{name} {duration_text(ms)}" for name, ms in stages) or "–")
    )
    warnings = []
    if drift := summary.gates.get("shadow", {}).get("warning"):
        warnings.append(f"Gates: {drift}.")
    if not summary.trained:
        warnings.append(f"The network is {UNTRAINED}: its labels mean nothing yet.")
    if summary.random_weights:
        warnings.append("The weights are random: good for measuring time alone.")
    if not warnings:
        return table
    return Group(table, "", Text("\n".join(warnings), "bold yellow"))

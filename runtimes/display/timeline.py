"""One picture of a whole run: labels, runs, gates with their reasons, rates and cost over time.

matplotlib is of the extra ``demo`` and imported inside the functions.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vidprism_edge.errors import UsageError, VidPrismError
from vidprism_edge.runtimes.display.palette import (
    COLOURS,
    macs_text,
    percent_text,
    reason_text,
)
from vidprism_edge.runtimes.streaming.prediction import UNTRAINED, Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: More labels than this are summed up in one row.
MOST_LABELS = 9
_FORMATS = (".png", ".svg", ".pdf")
_DEFAULT_HOP_NS = 500_000_000
# inches
_WIDTH, _LEFT, _RIGHT = 14.0, 1.75, 2.75
_TOP, _HEADING, _HEADING_GAP, _ROW, _ROW_GAP, _PANEL, _BOTTOM = 0.85, 0.42, 0.12, 0.46, 0.09, 1.25, 1.5
_DPI = 110
_INK, _SOFT, _LINE, _CLOSED, _BEST = "#1B1E24", "#5B626D", "#D9DCE1", "#E4E6EA", "#D55E00"
_HEAT = ("#FFFFFF", "#C9CFE3", "#7683B4", "#262F5E")
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": _INK,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _SOFT,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "hatch.linewidth": 0.6,
    "svg.fonttype": "path",
}


class Span(NamedTuple):
    """One decision's share of the time axis, in seconds from the start."""

    start: float
    end: float


class Closed(NamedTuple):
    """A stretch of time for which a gate was closed for one reason."""

    start: float
    end: float
    reason: str


class Course(NamedTuple):
    """The predictions laid on one time axis that only goes forward."""

    predictions: Sequence[Prediction]
    spans: list[Span]
    #: Seconds that are taken from a prediction's own times to get the axis.
    offsets: list[float]
    hop: float
    #: Where the stream's clock went back or paused.
    breaks: list[float]

    @property
    def end(self) -> float:
        return self.spans[-1].end


def course(predictions: Sequence[Prediction]) -> Course:
    """Lay ``predictions`` (one or more) on an axis; where the clock goes back, time goes on one hop later."""
    times = [prediction.t_ns for prediction in predictions]
    steps = sorted(b - a for a, b in zip(times, times[1:], strict=False) if b > a)
    hop = (steps[len(steps) // 2] if steps else _DEFAULT_HOP_NS) / 1e9
    first = predictions[0]
    ran = [t for fired in first.fired_ns.values() for t in fired]
    # a stream that ended before its first decision is due has no hop before it
    origin = min(ran if first.partial and ran else [times[0] - round(hop * 1e9), *ran]) / 1e9
    spans: list[Span] = []
    offsets: list[float] = []
    breaks: list[float] = []
    for prediction in predictions:
        t = prediction.t_ns / 1e9 - origin
        before = start = spans[-1].end if spans else 0.0
        if prediction.partial:
            # made at the end of the stream, perhaps at the time of the one before: it gets a sliver
            t = max(t, before + hop / 4)
        elif spans and t <= before:
            origin -= before - t + hop
            t = before + hop
            breaks.append(before)
        elif t > before + 2 * hop:
            start = t - 2 * hop
            breaks.append(before)
        spans.append(Span(start, t))
        offsets.append(origin)
    return Course(predictions, spans, offsets, hop, breaks)


def closed_stretches(run: Course, expert: str) -> list[Closed]:
    """Return when the gate of ``expert`` was closed and why, neighbours with the same reason joined."""
    found: list[Closed] = []
    for prediction, span, offset in zip(run.predictions, run.spans, run.offsets, strict=True):
        if prediction.gates.get(expert, True):
            continue
        last = found[-1] if found and abs(found[-1].end - span.start) < 1e-6 else None
        code = prediction.skipped.get(expert)
        if code or last is not None:
            start, reason = span.start, reason_text(code) if code else found[-1].reason
        else:
            # it closed within this span, after the last run; the next decision has the reason
            runs = prediction.fired_ns.get(expert, ())
            start, reason = max(span.start, min(span.end, runs[-1] / 1e9 - offset) if runs else 0.0), ""
        if last is not None and last.reason in ("", reason):
            found[-1] = Closed(last.start, span.end, reason)
        else:
            found.append(Closed(start, span.end, reason))
    return found


def chosen_labels(predictions: Sequence[Prediction]) -> tuple[list[str], list[str]]:
    """Return the labels that get a row, in the network's order, and those that share the last row."""
    names = list(dict.fromkeys(name for prediction in predictions for name in prediction.scores))
    if len(names) <= MOST_LABELS:
        return names, []
    wins = Counter(prediction.label for prediction in predictions)
    peak = {name: max(prediction.scores.get(name, 0.0) for prediction in predictions) for name in names}
    best = sorted(names, key=lambda name: (-wins[name], -peak[name]))[: MOST_LABELS - 1]
    return [name for name in names if name in best], [name for name in names if name not in best]


def check_timeline(path: Path) -> None:
    """Say before a run what would keep :func:`draw_timeline` from drawing to ``path`` after it."""
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(
            f"cannot draw a timeline to {path}: expected a name that ends in one of {', '.join(_FORMATS)}"
        )
    if path.is_dir():
        raise UsageError(f"cannot draw a timeline to {path}: it is a folder; expected the name of a file")
    if importlib.util.find_spec("matplotlib") is None:
        raise VidPrismError(
            "a timeline needs the package matplotlib, which is not installed; "
            "install it with: pip install 'vidprism-edge[demo]'"
        )


def draw_timeline(
    predictions: Sequence[Prediction],
    path: str | os.PathLike[str],
    *,
    title: str,
    subtitle: str,
    always_on_macs: float | None = None,
) -> None:
    """Write a picture of the run to ``path`` (.png, .svg or .pdf); an existing file is replaced.

    ``always_on_macs``: what one decision costs with all gates open. Without predictions the picture says so.

    Raises UsageError for another extension and a path that cannot be written, VidPrismError without matplotlib.
    """
    path = Path(path)
    check_timeline(path)
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure = Figure(dpi=_DPI, facecolor="white")
        FigureCanvasAgg(figure)
        if predictions:
            _Sheet(figure, course(predictions), always_on_macs).draw(title, subtitle)
        else:
            _nothing(figure, title, subtitle)
        try:
            figure.savefig(part, dpi=_DPI)
            part.replace(path)
        except OSError as error:
            raise UsageError(f"cannot draw a timeline to {path}: {error.strerror or error}") from None
        finally:
            with suppress(OSError):
                part.unlink()


def _nothing(figure: Figure, title: str, subtitle: str) -> None:
    """Draw the picture of a run without a decision."""
    figure.set_size_inches(_WIDTH, 3.0)
    figure.text(0.03, 0.84, title, fontsize=16, weight="bold", parse_math=False)
    figure.text(0.03, 0.72, subtitle, color=_SOFT, parse_math=False)
    told = "No decision was made, so there is nothing to draw: the video ended before the first one was due."
    figure.text(0.5, 0.36, told, ha="center", fontsize=12)


class _Sheet:
    """Draws a :class:`Course` as panels from top to bottom. Lengths are in inches."""

    def __init__(self, figure: Figure, run: Course, always_on_macs: float | None) -> None:
        self.figure = figure
        self.run = run
        self.always_on = always_on_macs
        self.names = list(COLOURS)
        self.labels, self.others = chosen_labels(run.predictions)
        self.trained = all(prediction.trained for prediction in run.predictions)
        rows = len(self.labels) + bool(self.others)
        self.label_height = max(0.7, 0.25 * rows)
        experts = len(self.names) * (_ROW + _ROW_GAP) - _ROW_GAP
        panels = (self.label_height, experts, _PANEL, _PANEL)
        self.height = _TOP + sum(_HEADING + _HEADING_GAP + panel for panel in panels) + _BOTTOM
        figure.set_size_inches(_WIDTH, self.height)
        self.y = self.height

    # places

    def axes(self, height: float, gap: float) -> Axes:
        """Return axes of ``height`` below what was drawn last, ``gap`` under it."""
        self.y -= gap + height
        area = (
            _LEFT / _WIDTH,
            self.y / self.height,
            (_WIDTH - _LEFT - _RIGHT) / _WIDTH,
            height / self.height,
        )
        axes = self.figure.add_axes(area)
        axes.set_xlim(0, self.run.end)
        axes.set_xticks([at for at in axes.get_xticks() if 0 <= at <= self.run.end])
        axes.set_xlim(-0.003 * self.run.end, 1.003 * self.run.end)  # ticks at both ends are whole
        axes.tick_params(length=0, labelbottom=False)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.grid(axis="x", color=_LINE, linewidth=0.7, zorder=0)
        axes.set_axisbelow(True)
        for at in self.run.breaks:
            axes.axvline(at, color=_INK, linewidth=1, linestyle=(0, (2, 2)), zorder=5)
        return axes

    def text(self, x: float, y: float, words: str, **style: Any) -> Any:
        """Write ``words`` at ``x``, ``y`` inches from the lower left corner of the sheet."""
        return self.figure.text(x / _WIDTH, y / self.height, words, parse_math=False, **style)

    def width(self, artist: Any) -> float:
        """Return the width of a text in inches."""
        return float(artist.get_window_extent(self.figure.canvas.get_renderer()).width) / _DPI  # type: ignore[attr-defined]

    def shortened(self, artist: Any, limit: float) -> Any:
        """Cut a text with … until it is at most ``limit`` inches wide."""
        words = artist.get_text()
        if self.width(artist) <= limit:
            return artist
        fits, end = 1, len(words)
        while end - fits > 1:
            middle = (fits + end) // 2
            artist.set_text(words[:middle].rstrip() + "…")
            fits, end = (middle, end) if self.width(artist) <= limit else (fits, middle)
        artist.set_text(words[:fits].rstrip() + "…")
        return artist

    def heading(self, words: str, explanation: str) -> None:
        """Write a panel's heading, and what it shows, above the panel that comes next."""
        self.y -= _HEADING
        head = self.text(_LEFT, self.y, words, fontsize=11.5, weight="bold")
        x = _LEFT + self.width(head) + 0.15
        self.shortened(self.text(x, self.y, explanation, color=_SOFT), _WIDTH - x - 0.2)

    def aside(self, axes: Axes, lines: Sequence[tuple[str, str]], samples: Sequence[str] = ()) -> None:
        """Write (text, colour) lines into the right margin beside ``axes``, each after its sample colour if given."""
        box = axes.get_position()
        middle = (box.y0 + box.y1) / 2 * self.height
        for index, (words, colour) in enumerate(lines):
            y = middle + 0.165 * ((len(lines) - 1) / 2 - index)
            x = _WIDTH - _RIGHT + 0.15
            if samples:
                self.patch(x, y - 0.05, 0.22, 0.1, samples[index])
                x += 0.3
            self.shortened(self.text(x, y, words, color=colour, va="center", fontsize=9), _WIDTH - x - 0.15)

    def patch(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Draw a rectangle of ``colour`` on the sheet."""
        from matplotlib.patches import Rectangle

        place = (x / _WIDTH, y / self.height)
        size = (width / _WIDTH, height / self.height)
        transform = self.figure.transFigure
        self.figure.add_artist(Rectangle(place, *size, facecolor=colour, linewidth=0, transform=transform))

    # panels

    def draw(self, title: str, subtitle: str) -> None:
        self.shortened(self.text(0.35, self.height - 0.5, title, fontsize=17, weight="bold"), _WIDTH - 0.7)
        self.shortened(
            self.text(0.35, self.height - 0.79, subtitle, color=_SOFT, fontsize=10.5), _WIDTH - 0.7
        )
        self.y -= _TOP
        self._labels()
        for index, name in enumerate(self.names):
            if index == 0:
                told = "a tick whenever it ran; grey where its gate was closed, with the reason"
                self.heading("Which expert ran, and when", told)
            self._expert(name)
        self._rates()
        axes = self._cost()
        axes.tick_params(axis="x", labelbottom=True, pad=6)
        axes.set_xlabel("time in the video, seconds")
        self._legend()

    def _labels(self) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        run = self.run
        peak = max([0.01, *(score for prediction in run.predictions for score in prediction.scores.values())])
        told = f"score of each label at each decision: the darker, the higher, up to {percent_text(peak)}"
        self.heading("What it recognised", told)
        if not self.trained:
            mark = {"boxstyle": "round,pad=0.35", "facecolor": "#F0E442", "edgecolor": "none"}
            words = f"{UNTRAINED} network: these labels mean nothing yet"
            self.text(_WIDTH - 0.35, self.y, words, ha="right", weight="bold", bbox=mark)
        rows = len(self.labels) + bool(self.others)
        axes = self.axes(self.label_height, _HEADING_GAP)
        axes.set_ylim(max(1, rows), 0)
        axes.set_yticks([])
        heat = LinearSegmentedColormap.from_list("scores", _HEAT)
        for row in range(rows):
            bars, shades = [], []
            best: list[tuple[float, float]] = []
            for prediction, span in zip(run.predictions, run.spans, strict=True):
                group = [self.labels[row]] if row < len(self.labels) else self.others
                bars.append((span.start, span.end - span.start))
                shades.append(heat(max(0.0, *(prediction.scores.get(name, 0.0) for name in group)) / peak))
                if prediction.label in group:
                    best.append((span.start, span.end))
            axes.broken_barh(bars, (row + 0.08, 0.84), facecolors=shades, linewidth=0)
            axes.hlines(
                [row + 0.92] * len(best),
                [a for a, _ in best],
                [b for _, b in best],
                color=_BEST,
                linewidth=2.2,
            )
            y = (self.y + self.label_height) - (row + 0.5) * self.label_height / rows
            words = self.labels[row] if row < len(self.labels) else f"{len(self.others)} other labels"
            style = {"va": "center", "fontsize": 9}
            name = self.text(_LEFT - 0.12, y, words, ha="right", **style)
            self.shortened(name, _LEFT - 0.3)
            share = percent_text(len(best) / len(run.predictions))
            self.text(_WIDTH - _RIGHT + 0.15, y, f"highest in {share} of the decisions", color=_SOFT, **style)
        self._warming(axes, rows)

    def _warming(self, axes: Axes, rows: int) -> None:
        """Hatch the decisions that were made before a window was full."""
        spans = [
            s
            for p, s in zip(self.run.predictions, self.run.spans, strict=True)
            if not p.ready and not p.partial
        ]
        bars = [(span.start, span.end - span.start) for span in spans]
        if bars:
            axes.broken_barh(bars, (0, max(1, rows)), facecolor="white", alpha=0.55, linewidth=0, zorder=3)
            axes.broken_barh(
                bars,
                (0, max(1, rows)),
                facecolor="none",
                edgecolor=_SOFT,
                hatch="////",
                linewidth=0,
                zorder=3,
            )

    def _expert(self, name: str) -> None:
        run = self.run
        colour = COLOURS[name]
        axes = self.axes(_ROW, _HEADING_GAP if name == self.names[0] else _ROW_GAP)
        axes.set_ylim(0, 1)
        axes.set_yticks([])
        closed = closed_stretches(run, name)
        bars = [(stretch.start, stretch.end - stretch.start) for stretch in closed]
        axes.broken_barh(bars, (0, 1), facecolor=_CLOSED, linewidth=0, zorder=1)
        ticks = [
            t / 1e9 - offset
            for prediction, offset in zip(run.predictions, run.offsets, strict=True)
            for t in prediction.fired_ns.get(name, ())
        ]
        room = (_WIDTH - _LEFT - _RIGHT) * 72 / max(1, len(ticks))
        thick = min(2.2, max(0.5, 0.4 * room))
        axes.vlines(ticks, 0.1, 0.9, color=colour, linewidth=thick, zorder=2)
        self._reasons(axes, closed, ticks)
        self.patch(_LEFT - 0.12, self.y, 0.07, _ROW, colour)
        self.text(
            _LEFT - 0.22, self.y + _ROW / 2, name, ha="right", va="center", weight="bold", fontsize=10.5
        )
        runs = sum(prediction.experts_fired.get(name, 0) for prediction in run.predictions)
        replayed = sum(p.replayed for p in run.predictions) if name == "temporal" else 0
        told = "1 run" if runs == 1 else f"{runs} runs"
        if replayed:
            told += f", {replayed} of them replayed"
        elif runs > len(ticks):
            told += f" at {len(ticks)} times (regions)"
        else:
            told += f", {runs / run.end:.2g} a second"
        lines = [(told, _INK)]
        length = sum(stretch.end - stretch.start for stretch in closed)
        if length:
            parts: dict[str, float] = {}
            for stretch in closed:
                parts[stretch.reason] = parts.get(stretch.reason, 0.0) + stretch.end - stretch.start
            reasons = ", ".join(reason for reason in sorted(parts, key=lambda r: -parts[r]) if reason)
            told = f"gate closed {percent_text(length / run.end)}"
            lines.append((told + (f": {reasons}" if reasons else ""), _SOFT))
        else:
            lines.append(("gate always open", _SOFT))
        self.aside(axes, lines)
        if name == "temporal":
            epochs = [
                span.start
                for before, now, span in zip(
                    run.predictions, run.predictions[1:], run.spans[1:], strict=False
                )
                if now.epoch != before.epoch
            ]
            axes.plot(epochs, [0.94] * len(epochs), "v", color=_INK, markersize=5, zorder=4, clip_on=False)

    def _reasons(self, axes: Axes, closed: list[Closed], ticks: list[float]) -> None:
        """Write each closed stretch's reason into its widest gap between runs, where it fits."""
        inches = (_WIDTH - _LEFT - _RIGHT) / self.run.end
        for stretch in closed:
            edges = [stretch.start, *(t for t in ticks if stretch.start < t < stretch.end), stretch.end]
            room, left = max((b - a, a) for a, b in zip(edges, edges[1:], strict=False))
            if room * inches < 0.3:
                continue
            words = axes.text(
                left + room / 2,
                0.5,
                stretch.reason,
                ha="center",
                va="center",
                fontsize=8,
                color=_SOFT,
                zorder=3,
            )
            if self.width(words) > room * inches - 0.1:
                words.remove()

    def _rates(self) -> None:
        run = self.run
        self.heading(
            "How often each expert was sampled",
            "samples a second that the sampler asked for at the moment of the decision; 0: not at all",
        )
        axes = self.axes(_PANEL, _HEADING_GAP)
        rates = {name: [p.rates_hz.get(name, 0.0) for p in run.predictions] for name in self.names}
        top = max([1.0, *(rate for values in rates.values() for rate in values)])
        # square roots: half a hertz and fifteen in one panel
        axes.set_ylim(-0.05 * top**0.5, 1.1 * top**0.5)
        marks: list[float] = []
        for mark in (0.0, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 240.0, 500.0, 1000.0):
            if mark <= top and (not marks or mark**0.5 - marks[-1] ** 0.5 > 0.11 * top**0.5):
                marks.append(mark)
        axes.set_yticks([mark**0.5 for mark in marks], [f"{mark:.0f} Hz" for mark in marks])
        axes.grid(axis="y", color=_LINE, linewidth=0.7)
        # thinner and thinner: lines that coincide stay visible inside each other
        for index, (name, values) in enumerate(rates.items()):
            x, y = self._steps([max(0.0, value) ** 0.5 for value in values])
            axes.plot(
                x,
                y,
                color=COLOURS[name],
                linewidth=max(1.5, 6.5 - 1.7 * index),
                solid_joinstyle="miter",
                zorder=2 + index,
            )
        lines = []
        for name, values in rates.items():
            low, high = min(values), max(values)
            told = f"{high:.3g} Hz" if low == high else f"{low:.3g} to {high:.3g} Hz"
            lines.append((f"{name}  {told}", _INK))
        self.aside(axes, lines, [COLOURS[name] for name in rates])

    def _steps(self, values: Sequence[float]) -> tuple[list[float], list[float]]:
        """Return the corners of a step line, interrupted (NaN) where the time axis has a hole."""
        x: list[float] = []
        y: list[float] = []
        for span, value in zip(self.run.spans, values, strict=True):
            if x and span.start - x[-1] > 1e-6:
                x.append(span.start)
                y.append(float("nan"))
            x += [span.start, span.end]
            y += [value, value]
        return x, y

    def _cost(self) -> Axes:
        run = self.run
        costs = [float(prediction.macs) for prediction in run.predictions]
        told = "multiply-accumulates for each decision"
        self.heading("What it cost", told + ("; dashed: all experts always on" if self.always_on else ""))
        axes = self.axes(_PANEL, _HEADING_GAP)
        x, y = self._steps(costs)
        axes.fill_between(x, y, color="#7683B4", linewidth=0, zorder=2)
        top = max([1.0, *costs, float(self.always_on or 0)])
        axes.set_ylim(0, 1.15 * top)
        axes.grid(axis="y", color=_LINE, linewidth=0.7)
        axes.locator_params(axis="y", nbins=4)
        axes.set_yticks([at for at in axes.get_yticks() if 0 <= at <= 1.15 * top])
        unit, prefix = next(
            (u, p) for u, p in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")) if top >= u
        )
        axes.yaxis.set_major_formatter(lambda value, _at: f"{value / unit:g} {prefix}MAC" if value else "0")
        mean = sum(costs) / len(costs)
        lines = [(f"mean {macs_text(mean)} a decision", _INK)]
        if self.always_on:
            axes.axhline(self.always_on, color=_INK, linewidth=1.3, linestyle=(0, (5, 3)), zorder=3)
            lines.append((f"always on {macs_text(self.always_on)}", _INK))
            lines.append((f"this run: {percent_text(mean / self.always_on)} of always-on", _INK))
        self.aside(axes, lines)
        return axes

    def _legend(self) -> None:
        """Say in words what every sign means."""
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        run = self.run
        signs: list[tuple[Any, str]] = [
            (Line2D([], [], color=_BEST, linewidth=2.2), "the label with the highest score"),
            (
                Line2D([], [], color=_SOFT, marker="|", markersize=11, markeredgewidth=2, linewidth=0),
                "the expert ran, once or on each of its regions",
            ),
            (Patch(facecolor=_CLOSED), "gate closed"),
        ]
        if any(not p.ready and not p.partial for p in run.predictions):
            signs.append(
                (
                    Patch(facecolor="white", edgecolor=_SOFT, hatch="////", linewidth=0),
                    "first window still filling",
                )
            )
        if len({prediction.epoch for prediction in run.predictions}) > 1:
            sign = Line2D([], [], color=_INK, marker="v", linewidth=0)
            signs.append(
                (sign, "new epoch: the temporal expert starts over, on another region or after a pause")
            )
        if run.breaks:
            signs.append(
                (Line2D([], [], color=_INK, linestyle=(0, (2, 2)), linewidth=1), "the stream's time jumped")
            )
        self.figure.legend(
            [sign for sign, _ in signs],
            [words for _, words in signs],
            loc="lower left",
            bbox_to_anchor=(0.35 / _WIDTH, 0.15 / self.height),
            ncol=3,
            frameon=False,
            fontsize=9,
            columnspacing=1.8,
            handlelength=1.6,
            borderpad=0,
        )
        told = (
            f"Each column is one decision, drawn over the {run.hop:.3g} s before it. "
            "A gate keeps its expert from running while the picture has nothing new."
        )
        if any(prediction.replayed for prediction in run.predictions):
            told += " Replayed runs rebuild an expert's past."
        self.shortened(self.text(0.35, 0.7, told, color=_SOFT, fontsize=9), _WIDTH - 0.6)

"""Pictures of a result, each to be understood by someone who sees nothing else."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from vidprism_edge.benchmark.statistics import nearest_rank
from vidprism_edge.benchmark.tell import as_request, tell_device, tell_headline

_BLUE, _ORANGE, _GREY, _RED = "#2b6cb0", "#dd6b20", "#a0aec0", "#c53030"
#: Colours of stages that differ for people who do not tell red from green.
_STAGES = (
    "#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#bbbbbb", "#000000", "#88ccaa", "#ddaa77",
    "#999933", "#771122",
)  # fmt: skip
_TEXT, _WRAP = "#4a5568", 150


def can_draw() -> bool:
    """Whether matplotlib is here: a device seldom has it."""
    import importlib.util

    return importlib.util.find_spec("matplotlib") is not None


def draw_all(result: dict[str, Any], folder: Path) -> dict[str, str]:
    """Draw a result with its raw samples into ``folder`` → file by title, in the order of a report."""
    pictures = {"Distribution": _distribution, "Over time": _over_time, "Where the time goes": _stages}
    if as_request(result).scenario == "streaming":
        pictures["Age of decisions"] = _ages
    drawn = {}
    for title, draw in pictures.items():
        name = f"{title.lower().replace(' ', '-')}.png"
        draw(result, folder / name)
        drawn[title] = name
    return drawn


def _figure(result: dict[str, Any], title: str, how_to_read: str, rows: int = 1) -> tuple[Any, Any]:
    """A figure whose title says what is seen, and whose foot says where it was measured and how to read it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4 + 1.9 * rows), dpi=110, layout="constrained")
    request, bundle = as_request(result), result["bundle"]
    weights = ", random weights" if bundle["random_weights"] else ""
    figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    where = (
        f"{bundle['preset']}{weights}, {request.engine}, gates {request.gates}, scenario {request.scenario}, "
        f"{request.source}; {tell_device(result)}."
    )
    lines = [*textwrap.wrap(how_to_read, _WRAP), *textwrap.wrap(where, _WRAP)]
    figure.supxlabel("\n".join(lines), fontsize=8.5, x=0.01, ha="left", color=_TEXT)
    axes = figure.subplots(rows, 1, sharex=rows > 1, squeeze=False)[:, 0]
    if not result["valid"]:
        reasons = textwrap.fill(f"NOT VALID: {'; '.join(result['reasons'])}", _WRAP)
        axes[0].set_title(reasons, fontsize=8.5, color=_RED, loc="left", pad=4)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#e2e8f0", linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path)


def _marks(result: dict[str, Any]) -> dict[str, float]:
    """The statistics that the samples carry, for lines in a picture."""
    latency = result["latency_ms"]
    marks = {"median": latency.get("p50"), "p90": latency.get("p90"), "p99": latency.get("p99")}
    return {name: value for name, value in marks.items() if value is not None}


def _distribution(result: dict[str, Any], path: Path) -> None:
    latency = np.asarray(result["samples"]["latency_ms"])
    figure, (axis,) = _figure(
        result,
        f"How long a query takes: {tell_headline(result)}",
        f"Each of the {len(latency)} queries is counted once; none is left out. Measured is the {result['measured']}; "
        f"a decision is due every {result['bundle']['hop_s']:g} s of video and takes in all pictures since the one "
        "before. A hump of its own are queries in which an expert runs that rests in the others.",
    )
    axis.hist(latency, bins=min(80, max(10, len(latency) // 6)), color=_BLUE)
    _mark(axis, _marks(result) | {"slowest": float(latency.max())})
    axis.set_xlabel("milliseconds a query")
    axis.set_ylabel("queries")
    axis.yaxis.get_major_locator().set_params(integer=True)
    axis.set_xlim(left=0)
    _save(figure, path)


def _mark(axis: Any, marks: dict[str, float]) -> None:
    """Dashed lines with their values, each name a little lower than the one before."""
    top = axis.get_ylim()[1]
    axis.set_ylim(top=top * 1.25)
    for number, (name, value) in enumerate(marks.items()):
        axis.axvline(value, color=_ORANGE, linestyle="--", linewidth=1)
        axis.text(
            value,
            top * (1.2 - 0.1 * number),
            f" {name} {value:.1f} ms",
            color=_ORANGE,
            fontsize=9,
            va="center",
        )


def _over_time(result: dict[str, Any], path: Path) -> None:
    samples, rows = result["samples"], result["monitor"]
    hot = any(row["temperatures_c"] for row in rows)
    figure, axes = _figure(
        result,
        "Latency over the run, and what the machine did meanwhile",
        "Above: every query at the time it ended; a steady run shows no trend. Dashed: a new process with engines "
        "loaded afresh. Below: cores that other programs kept busy, and the hottest sensor where the machine has one. "
        "Red: the machine throttled.",
        rows=2,
    )
    axes[0].plot(samples["at_s"], samples["latency_ms"], ".", color=_BLUE, markersize=3)
    axes[0].set_ylabel("ms a query")
    axes[0].set_ylim(bottom=0)
    times = [row["t_s"] for row in rows]
    others = [np.nan if row["others_cores"] is None else row["others_cores"] for row in rows]
    axes[1].plot(times, others, color=_GREY, drawstyle="steps-pre")
    axes[1].fill_between(times, others, step="pre", color=_GREY, alpha=0.4)
    axes[1].set_ylabel("cores used\nby others")
    axes[1].set_ylim(0, max(1.0, result["device"]["cores"]))
    if hot:
        warm = axes[1].twinx()
        hottest = [max(row["temperatures_c"].values(), default=np.nan) for row in rows]
        warm.plot(times, hottest, color=_ORANGE)
        warm.set_ylabel("hottest sensor, °C", color=_ORANGE)
        warm.spines[["top"]].set_visible(False)
    else:
        axes[1].text(
            0.995, 0.95, "this machine shows no temperature", transform=axes[1].transAxes, ha="right", va="top",
            fontsize=9, color=_TEXT, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8},
        )  # fmt: skip
    for part in result.get("parts", [])[1:]:
        axes[0].axvline(part["start_s"], color=_GREY, linestyle="--", linewidth=1)
    for row in rows:
        if row["throttled_by"]:
            for axis in axes:
                axis.axvspan(row["t_s"] - 1, row["t_s"], color=_RED, alpha=0.25, linewidth=0)
    axes[1].set_xlabel("seconds since the monitor started (loading and warm-up come before the first query)")
    _save(figure, path)


def _stages(result: dict[str, Any], path: Path) -> None:
    """Stacked bars: the mean query, and the mean of the slowest tenth."""
    samples = result["samples"]
    latency = np.asarray(samples["latency_ms"])
    slow = latency >= nearest_rank(np.sort(latency), 90)
    # a wait is no work, and decoding is in it
    stages = {n: np.asarray(values) for n, values in samples["stages_ms"].items() if n != "before the push"}
    order = sorted(stages, key=lambda name: -stages[name].mean())
    figure, (axis,) = _figure(
        result,
        "Where the time of a query goes",
        "Upper bar: the mean of all queries; lower: of the slowest tenth. decode: making the pictures (outside of the "
        "latency, unless streaming); sample: crops and resizing in the native core; gates: deciding what runs; python: "
        "all else. The rest are the experts' graphs, transfers to and from the engine included.",
    )
    left = np.zeros(2)
    for number, name in enumerate(order):
        widths = np.array([stages[name][slow].mean(), stages[name].mean()])
        apart = ", outside" if name == "decode" and as_request(result).scenario != "streaming" else ""
        label = f"{name.replace('_', ' ')}{apart}: {widths[1]:.1f} ms"
        axis.barh([0, 1], widths, left=left, color=_STAGES[number % len(_STAGES)], label=label, height=0.6)
        left += widths
    axis.set_yticks([0, 1], ["slowest\ntenth", "all\nqueries"])
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("milliseconds a query")
    axis.legend(fontsize=8.5, ncols=4, loc="upper left", bbox_to_anchor=(0, -0.16), frameon=False)
    _save(figure, path)


def _ages(result: dict[str, Any], path: Path) -> None:
    extra = result["streaming"]
    ages = np.asarray(result["samples"]["latency_ms"])
    dropped = sum(extra["dropped"].values())
    figure, (axis,) = _figure(
        result,
        f"How old a decision is when it is made: {extra['missed']} of {len(ages)} miss the deadline",
        "From the capture of the newest picture in a decision to the decision: waiting, decoding and all computing "
        f"between them. The deadline is {extra['deadline_ms']:g} ms. Of {extra['captured']} pictures {dropped} were "
        "dropped because newer ones took their place.",
    )
    axis.hist(ages, bins=min(60, max(10, len(ages) // 4)), color=_BLUE)
    _mark(axis, _marks(result) | {"oldest": float(ages.max())})
    if extra["deadline_ms"] < 2 * ages.max():
        axis.axvline(extra["deadline_ms"], color=_RED)
        axis.text(extra["deadline_ms"], 0, " deadline", color=_RED, rotation=90, va="bottom", fontsize=9)
    axis.set_xlim(left=0)
    axis.set_xlabel("age in milliseconds")
    axis.set_ylabel("decisions")
    axis.yaxis.get_major_locator().set_params(integer=True)
    _save(figure, path)

"""The report of the precision choice: JSON, a text with tables, and a picture of every expert's frontier."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from vidprism_edge.report import describe_environment

if TYPE_CHECKING:
    from vidprism_edge.calibration.choice import Candidate, GraphChoice
    from vidprism_edge.export.precision import TargetReport

REPORT = "reports/precision"


def write_report(folder: Path, reports: Sequence[TargetReport]) -> list[str]:
    """Write ``reports/precision.{json,md,png}``; return the files. The picture needs times and matplotlib."""
    (folder / "reports").mkdir(exist_ok=True)
    timed = any(c.median_ms is not None for r in reports for g in r.graphs for c in g.candidates)
    told: dict[str, object] = {"schema": 1, "targets": list(reports)}
    if timed:
        # a report without times says nothing of this machine, and is the same on every one
        told["environment"] = describe_environment()
    (folder / f"{REPORT}.json").write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n")
    (folder / f"{REPORT}.md").write_text("\n".join(_lines(reports, timed)) + "\n", encoding="utf-8")
    files = [f"{REPORT}.json", f"{REPORT}.md"]
    if timed and importlib.util.find_spec("matplotlib") is not None:
        draw(reports, folder / f"{REPORT}.png")
        files.append(f"{REPORT}.png")
    return files


def name_of(candidate: Candidate) -> str:
    """A candidate's precision, and how many layers it leaves alone."""
    kept = len(candidate.recipe.keep)
    return candidate.recipe.precision + (f", {kept} layers kept" if kept else "")


def _lines(reports: Sequence[TargetReport], timed: bool) -> list[str]:
    lines = ["# Precision of each graph", ""]
    for report in reports:
        lines += [f"## {report.target} ({report.engine}), {report.precision}", ""]
        if report.gate is not None:
            lines += [report.gate.describe() + ".", ""]
        if timed:
            clock = "processor time, one thread" if report.threads == 1 else "elapsed time"
            lines += [
                f"Speeds are of medians ({clock}) of runs that took turns; fp32 of the same engine is 1.0.",
                "",
            ]
        lines += [
            "| graph | precision | speed | signal to error, dB | largest error | kB | |",
            "|---|---|---|---|---|---|---|",
        ]
        for graph in report.graphs:
            lines += [_row(graph, i, c) for i, c in enumerate(graph.candidates)]
        lines += ["", *(f"- {g.graph}: {g.why}" for g in report.graphs), ""]
    if timed and importlib.util.find_spec("matplotlib") is not None:
        lines += [f"![The frontier of every graph]({Path(REPORT).name}.png)"]
    return lines


def _row(graph: GraphChoice, number: int, c: Candidate) -> str:
    first = graph.candidates[0].median_ms
    speed = f"{first / c.median_ms:.2f}" if first and c.median_ms else "–"
    mark = "**chosen**" if number == graph.chosen else ("" if c.right else "wrong")
    kilobytes = c.size_bytes / 1e3
    cells = (
        graph.graph,
        name_of(c),
        speed,
        f"{c.sqnr_db:.0f}",
        f"{c.max_error:.2g}",
        f"{kilobytes:.0f}",
        mark,
    )
    return f"| {' | '.join(cells)} |"


def draw(reports: Sequence[TargetReport], path: Path) -> None:
    """Draw error against time, one panel a graph; the chosen one is ringed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    columns = max(len(r.graphs) for r in reports)
    figure = Figure(figsize=(2.6 * columns, 2.6 * len(reports)), layout="constrained")
    panels = figure.subplots(len(reports), columns, squeeze=False)
    for row, report in zip(panels, reports, strict=True):
        for axes, graph in zip(row, report.graphs, strict=False):
            for number, c in enumerate(graph.candidates):
                if c.median_ms is None:
                    continue
                # decibels beyond those of floats crowd out the rest
                level = min(c.sqnr_db, 100.0)
                axes.plot(c.median_ms, level, "o" if c.right else "x", label=name_of(c))
                if number == graph.chosen:
                    axes.plot(c.median_ms, level, "o", ms=12, mfc="none", mec="black")
            axes.set_title(f"{report.target} {graph.graph}", fontsize=8)
            axes.set_xlim(0, 1.15 * max((c.median_ms or 0.0 for c in graph.candidates), default=1.0))
            axes.margins(y=0.15)
            axes.tick_params(labelsize=6)
            axes.legend(fontsize=5)
        row[0].set_ylabel("signal to error, dB", fontsize=7)
    for axes in panels[-1]:
        axes.set_xlabel("milliseconds a run", fontsize=7)
    # without the date, so that the same report is the same file
    figure.savefig(path, dpi=110, metadata={"Software": None})

"""The report folder: ``result.json`` with every sample, ``report.md``, and pictures where matplotlib is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vidprism_edge.benchmark.plots import can_draw, draw_all
from vidprism_edge.benchmark.request import make_flags
from vidprism_edge.benchmark.statistics import show_percentile
from vidprism_edge.benchmark.tell import as_request, tell_notes

RESULT = "result.json"


def publish(encoded: bytes, folder: Path) -> list[str]:
    """Write the folder from an encoded result (see :func:`.results.encode_result`) → the names of its files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).write_bytes(encoded)
    result = json.loads(encoded)
    drawn = draw_all(result, folder) if can_draw() else {}
    (folder / "report.md").write_text(write_markdown(result, drawn), encoding="utf-8")
    return [RESULT, "report.md", *drawn.values()]


def write_markdown(result: dict[str, Any], drawn: dict[str, str]) -> str:
    """The report for people."""
    request = as_request(result)
    lines = [f"# {result['bundle']['preset']}: {request.scenario}, profile {request.profile}", ""]
    if not result["valid"]:
        lines += ["**This run is not valid.**", *(f"- {reason}" for reason in result["reasons"]), ""]
    headline, *notes = tell_notes(result)
    lines += [f"**{headline}**", "", *(f"- {note}" for note in notes), ""]
    lines += ["## Latency", "", *_latency_table(result), ""]
    for title, name in drawn.items():
        lines += [f"## {title}", "", f"![{title}]({name})", ""]
    if not drawn:
        lines += [
            "No pictures: this machine has no matplotlib. `vidprism-edge benchmark --draw FOLDER` draws them on one "
            "that has.",
            "",
        ]
    lines += ["## The machine", "", "| | |", "|---|---|", *_device_rows(result), ""]
    lines += ["## Again", "", "```", repeat_command(result), "```", "", f"Every sample is in `{RESULT}`."]
    return "\n".join(lines) + "\n"


def _latency_table(result: dict[str, Any]) -> list[str]:
    percentiles = as_request(result).percentiles
    names = [f"p{p:g}" for p in percentiles]
    lines = [f"| milliseconds | {' | '.join(names)} | mean | max |", "|---|" + "---|" * (len(names) + 2)]
    for name, summary in {result["measured"]: result["latency_ms"], **result["stages_ms"]}.items():
        cells = [show_percentile(summary, p) for p in percentiles]
        lines.append(f"| {name} | {' | '.join(cells)} | {summary['mean']:.2f} | {summary['max']:.2f} |")
    estimates = result["latency_ms"]["early_stopping"]
    cells = [f"{estimates[n]:.2f}" if n in estimates else "insufficient" for n in names]
    lines.append(f"| upper estimate by early stopping, 99 % confidence | {' | '.join(cells)} | | |")
    return lines


def _device_rows(result: dict[str, Any]) -> list[str]:
    device = result["device"]
    shown = {name: value for name, value in device.items() if name not in ("tools", "gpu_reads")}
    rows = []
    for name, value in shown.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        rows.append(f"| {name.replace('_', ' ')} | {'not known' if text is None else text} |")
    tools = ", ".join(f"{name} {version}" for name, version in device["tools"].items())
    return [*rows, f"| tools | {tools} |"]


def repeat_command(result: dict[str, Any]) -> str:
    """The command that measures the same again."""
    return f"vidprism-edge benchmark BUNDLE {make_flags(as_request(result))}"

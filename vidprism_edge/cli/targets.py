"""``vidprism-edge targets``: what a model can be exported to, from here, today."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer


def rows() -> list[dict[str, Any]]:
    """Return every target of the table in ``vidprism_edge.export.targets`` as JSON-ready values.

    The table imports nothing heavy: a device without torch or onnx can list its targets.
    """
    from vidprism_edge.export.targets import TARGETS

    return [
        {
            "name": target.name,
            "summary": target.summary,
            "available": target.available,
            "reason": target.reason,
        }
        for target in TARGETS.values()
    ]


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """List what a model can be exported to, and what a target cannot do yet."""
    targets = rows()
    if as_json:
        print(json.dumps({"targets": targets}, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("target", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("what it is")
    for target in targets:
        state = "[green]works[/]" if target["available"] else "[yellow]not yet[/]"
        text = target["summary"] + (f"\n{target['reason']}" if target["reason"] else "")
        table.add_row(target["name"], state, text)
    Console().print(table)

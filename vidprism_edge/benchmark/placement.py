"""Which processor runs the nodes of each graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidprism_edge.runtimes.engines import Engine


def tell_placement(engines: Mapping[str, Engine], asked: str) -> dict[str, Any]:
    """Where the nodes of each graph run, and which fell back from the processor that was asked for.

    ``nodes``: graph → processor → number (None where the engine does not count). ``fell_back``: graph → processor →
    nodes. ``share``: of all nodes, those on the processor asked for; None, with the reason, where it is not known.
    """
    nodes, fell_back, unknown = {}, {}, []
    there = counted = 0
    for graph, engine in engines.items():
        placed = engine.placement
        nodes[graph] = {device: None if found is None else len(found) for device, found in placed.items()}
        if len(placed) != 1 and (not placed or None in placed.values()):
            unknown.append(graph)
        others = {device: list(found) for device, found in placed.items() if found and not _is(device, asked)}
        if others:
            fell_back[graph] = others
        for device, found in placed.items():
            counted += len(found or "1")
            there += len(found or "1") if _is(device, asked) else 0
    reason = f"the engine does not say which nodes of {', '.join(unknown)} run where" if unknown else None
    share = None if reason else there / max(counted, 1)
    return {"asked": asked, "nodes": nodes, "fell_back": fell_back, "share": share, "reason": reason}


def _is(device: str, asked: str) -> bool:
    """Whether a processor is the one that was asked for; AUTO is any."""
    return asked.upper() == "AUTO" or device.upper().partition(".")[0] == asked.upper().partition(".")[0]

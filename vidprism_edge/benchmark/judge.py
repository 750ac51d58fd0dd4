"""Whether a run may be published: steady, alone on the machine, not throttled. Otherwise why not, and since when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

#: The medians of the two halves of a valid run differ by no more than this factor.
STEADY = 1.25
#: Cores that other programs may keep busy, and seconds a second that this one may wait for a core.
OTHERS_CORES, WAITED = 0.25, 0.10
#: So little of a core is a system at rest.
NOBODY = 0.1
#: A run may be disturbed in so many of its seconds: a daemon that wakes up once is no reason to measure again.
DISTURBED_SHARE = 0.1
#: Pictures that a camera may lose because they could not be decoded in time.
LOST_SHARE = 0.01


def judge_steady(latency_ms: Sequence[float]) -> str | None:
    """Why the run drifts: the medians of its halves differ; None where they agree."""
    half = len(latency_ms) // 2
    if half == 0:
        return None
    first, second = float(np.median(latency_ms[:half])), float(np.median(latency_ms[half:]))
    if max(first, second) / max(min(first, second), 1e-9) <= STEADY:
        return None
    return (
        f"the median latency went from {first:.1f} ms in the first half to {second:.1f} ms in the second: "
        "another program or the machine's clock interferes"
    )


def judge_alone(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Who else used the machine, and since when."""
    reasons = []
    busy = [(r["t_s"], r["others_cores"]) for r in rows if r["others_cores"] is not None]
    over = [(t, cores) for t, cores in busy if cores > OTHERS_CORES]
    if len(over) > DISTURBED_SHARE * len(busy):
        cores = float(np.mean([cores for _, cores in over]))
        reasons.append(
            f"other programs kept {cores:.1f} cores busy in {len(over)} of {len(busy)} readings, "
            f"from {over[0][0]:.0f} s on"
        )
    # where nobody else wants a core, the program's own threads wait for one another: that is its own latency
    disturbed = [r for r in rows if r["others_cores"] is None or r["others_cores"] > NOBODY]
    waits = [(r["t_s"], r["waited"]) for r in disturbed if r["waited"] is not None]
    over = [(t, waited) for t, waited in waits if waited > WAITED]
    if len(over) > DISTURBED_SHARE * len(rows):
        waited = float(np.mean([waited for _, waited in over]))
        reasons.append(
            f"the benchmark waited {waited:.2f} s a second for a core in {len(over)} of {len(rows)} readings, "
            f"from {over[0][0]:.0f} s on"
        )
    return reasons


def judge_throttling(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What slowed the machine down, and when it began."""
    first: dict[str, float] = {}
    for row in rows:
        for name in row["throttled_by"]:
            first.setdefault(name, row["t_s"])
    return [f"the machine throttled from {t:.0f} s on: {name}" for name, t in first.items()]


def judge_camera(extra: dict[str, Any]) -> str | None:
    """Whether the pictures came too slowly for a camera: that is a measurement of the decoder."""
    lost, captured = extra.get("dropped", {}).get("decoder", 0), extra.get("captured", 0)
    if lost <= LOST_SHARE * max(captured, 1):
        return None
    return (
        f"{lost} of {captured} captures were lost because the source could not be read in real time; "
        "give a smaller picture or fewer frames a second"
    )


def judge(latency_ms: Sequence[float], rows: Sequence[dict[str, Any]], extra: dict[str, Any]) -> list[str]:
    """Every reason why a run is not valid; empty for one that is."""
    reasons = judge_throttling(rows) + judge_alone(rows)
    for found in (judge_steady(latency_ms), judge_camera(extra)):
        if found:
            reasons.append(found)
    return reasons

"""Two results side by side: ratios with confidence intervals, of runs that may be compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from vidprism_edge.benchmark.device.fingerprint import tell_differences
from vidprism_edge.benchmark.request import SCENARIOS
from vidprism_edge.benchmark.statistics import carried_statistics, compare_estimates, estimate
from vidprism_edge.benchmark.tell import as_request


def tell_incomparable(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """What stands against comparing: another device, bundle, scenario or source, or a run that is not valid."""
    reasons = [f"device, {difference}" for difference in tell_differences(first["device"], second["device"])]
    if first["bundle"]["graphs"] != second["bundle"]["graphs"]:
        presets = f"{first['bundle']['preset']} and {second['bundle']['preset']}"
        reasons.append(f"bundle, the graphs differ: {presets}")
    one, two = as_request(first), as_request(second)
    for name in ("scenario", "source"):
        if getattr(one, name) != getattr(two, name):
            reasons.append(f"{name}: {getattr(one, name)} and {getattr(two, name)}")
    for number, result in (("first", first), ("second", second)):
        if not result["valid"]:
            reasons.append(f"the {number} run is not valid: {'; '.join(result['reasons'])}")
    return reasons


def compare(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Ratios second / first with 99 % intervals: below 1 the second is faster.

    ``ratios``: statistic → ``ratio``, ``low``, ``high``, ``verdict`` (``faster``, ``slower``, ``no difference seen``).
    ``restarts_known``: both runs have several processes, so that the intervals know how these differ.
    """
    runs = [result["samples"] for result in (first, second)]
    scenario = SCENARIOS[as_request(first).scenario]
    fewest = min(len(run["latency_ms"]) for run in runs)
    percentiles = sorted({50.0, 90.0, scenario.percentile or 90.0})
    ratios = {}
    for name, statistic in carried_statistics(fewest, percentiles).items():
        one, two = (estimate(run["latency_ms"], run["parts"], statistic) for run in runs)
        ratios[name] = _ratio(*compare_estimates(one, two))
    stages = {
        name: {
            "first_ms": float(np.mean(first["samples"]["stages_ms"][name])),
            "second_ms": float(np.mean(second["samples"]["stages_ms"][name])),
        }
        for name in first["samples"]["stages_ms"].keys() & second["samples"]["stages_ms"].keys()
    }
    return {
        "different": tell_differing_flags(first, second),
        "measured": scenario.measured,
        "ratios": ratios,
        "restarts_known": all(len(run["parts"]) > 1 for run in runs),
        "stages": dict(sorted(stages.items(), key=lambda item: -item[1]["first_ms"])),
    }


def _ratio(ratio: float, low: float, high: float) -> dict[str, Any]:
    verdict = "faster" if high < 1 else "slower" if low > 1 else "no difference seen"
    return {"ratio": ratio, "low": low, "high": high, "verdict": verdict}


def tell_differing_flags(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """The flags in which the two requests differ: what is compared."""
    one, two = as_request(first), as_request(second)
    return [
        f"{name}: {getattr(one, name)} and {getattr(two, name)}"
        for name in one.__struct_fields__
        if getattr(one, name) != getattr(two, name)
    ]

"""One measurement from a request to its result: run its parts, join them, judge."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from vidprism_edge.benchmark.device.fingerprint import describe_device
from vidprism_edge.benchmark.device.nvml import Nvml
from vidprism_edge.benchmark.device.power import join_energy
from vidprism_edge.benchmark.judge import judge
from vidprism_edge.benchmark.part import Part, run_parts
from vidprism_edge.benchmark.request import SCENARIOS, Request
from vidprism_edge.benchmark.samples import Samples, join_samples
from vidprism_edge.benchmark.scenarios import tell_rates
from vidprism_edge.benchmark.start import measure_starts
from vidprism_edge.benchmark.statistics import (
    intervals_ms,
    name_percentile,
    percentile_statistic,
    summarise_ms,
)
from vidprism_edge.benchmark.streams import TimedPolicy
from vidprism_edge.bundle import Bundle
from vidprism_edge.worker import Progress

SCHEMA = 3


def measure(bundle: Bundle, request: Request, progress: Progress) -> tuple[dict[str, Any], Samples]:
    """Run a request → its result as JSON's types, and the raw samples."""
    nvml = Nvml.open()
    device = describe_device(None, nvml)
    if nvml is not None:
        nvml.close()
    progress("start", 0, 1)
    starts = measure_starts(bundle.root, request) if request.start else None
    parts = run_parts(bundle, request, progress)
    first = parts[0]
    starts_s = [part.born_s - first.born_s for part in parts]
    samples = join_samples([part.samples for part in parts], starts_s)
    samples.extra |= tell_rates(samples)
    rows = [
        row | {"t_s": round(row["t_s"] + start_s, 3)}
        for part, start_s in zip(parts, starts_s, strict=True)
        for row in part.rows
    ]
    reasons = judge(samples.latency_ms, rows, samples.extra)
    result = {
        "schema": SCHEMA,
        "request": request,
        "bundle": describe_bundle(bundle),
        "valid": not reasons,
        "reasons": reasons,
        "measured": SCENARIOS[request.scenario].measured,
        "state_kept_between_queries": True,
        "headline": make_headline(request, samples),
        "parts": tell_parts(parts, starts_s),
        **summarise(bundle, request, samples, [part.warmup for part in parts]),
        "load": {"total_ms": first.load_ms, "graphs_ms": first.graphs_ms, "starts": starts},
        "memory": first.resident | {"peak_bytes": max(part.peak_bytes for part in parts)},
        "accelerator": first.accelerator,
        "precisions": first.precisions,
        "energy": join_energy([part.energy for part in parts], samples.parts),
        "overhead": tell_overhead(
            samples, sum(part.monitor_cpu_s for part in parts), sum(part.cpu_s for part in parts)
        ),
        "device": device,
        "monitor": rows,
    }
    return result, samples


def tell_parts(parts: Sequence[Part], starts_s: Sequence[float]) -> list[dict[str, Any]]:
    """Each part's share of the run: when its clock began, its queries, and their mean and median."""
    return [
        {
            "start_s": round(start_s, 3),
            "queries": len(part.samples.latency_ms),
            "mean": float(np.mean(part.samples.latency_ms)),
            "p50": percentile_statistic(50)(np.asarray(part.samples.latency_ms)),
        }
        for part, start_s in zip(parts, starts_s, strict=True)
    ]


def describe_bundle(bundle: Bundle) -> dict[str, Any]:
    """What ran, by the hashes of its reference graphs: those of a target are made of them."""
    return {
        "preset": bundle.spec.preset,
        "graphs": {name: graph.sha256 for name, graph in bundle.graphs.items()},
        "trained": bundle.manifest.trained,
        "random_weights": bundle.manifest.random_weights,
        "hop_s": bundle.spec.hop_s,
    }


def summarise(
    bundle: Bundle, request: Request, samples: Samples, warmups: Sequence[list[float]]
) -> dict[str, Any]:
    """The samples in numbers; the warm-ups of the parts and the first query of all apart."""
    from vidprism_edge.runtimes.streaming.session import always_on_macs

    percentiles, latency = request.percentiles, samples.latency_ms
    decisions = max(samples.decisions, 1)
    return {
        "warmup": {
            "queries": sum(map(len, warmups)),
            "first_ms": warmups[0][0],
            "total_ms": sum(map(sum, warmups)),
        },
        "latency_ms": {
            **summarise_ms(latency, percentiles),
            "intervals": intervals_ms(latency, samples.parts, percentiles),
        },
        "stages_ms": {name: summarise_ms(values, percentiles) for name, values in samples.stages_ms.items()},
        request.scenario: samples.extra or None,
        "queries": len(latency),
        "decisions": samples.decisions,
        "frames": samples.frames,
        "runs": samples.runs,
        "macs_per_decision": samples.macs / decisions,
        "macs_always_on": always_on_macs(bundle.spec, bundle.macs),
    }


def make_headline(request: Request, samples: Samples) -> dict[str, Any]:
    """The one number that the scenario is named for, None where the samples do not carry it."""
    percentile = SCENARIOS[request.scenario].percentile
    if percentile is None:
        return {"name": "decisions a second", "value": samples.extra["decisions_per_s"], "unit": "1/s"}
    summary = summarise_ms(samples.latency_ms, [percentile])
    name = name_percentile(percentile)
    told = {"name": f"{name} by early stopping", "value": summary["early_stopping"].get(name), "unit": "ms"}
    if told["value"] is None:
        told["needs"] = summary["insufficient"][name]
    return told


def clock_cost_s(times: int = 5_000, repeats: int = 5) -> float:
    """Processor seconds that one timed stage costs beyond its work, measured here and now: the least of repeats."""
    bare = _Nothing()
    timed = TimedPolicy(bare)  # type: ignore[arg-type]

    def spend(policy: Any) -> float:
        start = time.thread_time()
        for _ in range(times):
            policy.read_maps(None, None, 0)
        return time.thread_time() - start

    return (
        max(min(spend(timed) for _ in range(repeats)) - min(spend(bare) for _ in range(repeats)), 0.0) / times
    )


class _Nothing:
    def read_maps(self, saliency: object, motion: object, t_ns: int) -> None:
        """Do nothing."""


def tell_overhead(samples: Samples, monitor_cpu_s: float, cpu_s: float) -> dict[str, Any]:
    """Processor time that measuring took, as a share of the run's: the monitor's thread, and the stages' clocks."""
    clocks = samples.entries * clock_cost_s()
    return {
        "monitor_s": monitor_cpu_s,
        "clocks_s": clocks,
        "cpu_s": cpu_s,
        "share": (monitor_cpu_s + clocks) / max(cpu_s, 1e-9),
        "method": "processor time of the monitor's thread and calibrated cost of each stage's clock, by the run's",
    }

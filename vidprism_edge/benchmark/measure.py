"""One measurement from a request to its result: load, start the monitor, run the scenario, judge."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from vidprism_edge.benchmark.device.fingerprint import describe_device
from vidprism_edge.benchmark.device.monitor import Monitor
from vidprism_edge.benchmark.device.nvml import Nvml
from vidprism_edge.benchmark.device.tegrastats import TegraReader
from vidprism_edge.benchmark.device.tree import Tree
from vidprism_edge.benchmark.judge import judge
from vidprism_edge.benchmark.request import SCENARIOS, Request
from vidprism_edge.benchmark.samples import Samples
from vidprism_edge.benchmark.scenarios import RUN, Progress, Setting
from vidprism_edge.benchmark.start import measure_starts
from vidprism_edge.benchmark.statistics import intervals_ms, name_percentile, summarise_ms
from vidprism_edge.benchmark.streams import TimedPolicy
from vidprism_edge.bundle import Bundle
from vidprism_edge.report import peak_memory_bytes, resident_bytes
from vidprism_edge.runtimes.engines import Engine, load_engines

SCHEMA = 2


def measure(
    bundle: Bundle, request: Request, progress: Progress, *, tree: Tree | None = None
) -> tuple[dict[str, Any], Samples]:
    """Run a request → its result as JSON's types, and the raw samples. ``tree``: the kernel's files, for tests."""
    nvml, tegra = Nvml.open(), TegraReader.start()
    try:
        device = describe_device(tree, nvml)
        progress("start", 0, 1)
        starts = measure_starts(bundle.root, request) if request.start else None
        before = resident_bytes()
        loading = time.perf_counter()
        engines = load_engines(bundle, request.engine, request.options())
        load_ms, loaded = (time.perf_counter() - loading) * 1e3, resident_bytes()
        with Monitor(tree, nvml=nvml, tegra=tegra) as monitor:
            setting = Setting(bundle, engines, request, monitor.now_s, progress)
            cpu = time.process_time()
            began_s = monitor.now_s()
            samples = RUN[request.scenario](setting)
            cpu = time.process_time() - cpu
    finally:
        for open_one in (nvml, tegra):
            if open_one is not None:
                open_one.close()
    rows = [row for row in monitor.rows if row["t_s"] >= began_s]
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
        **summarise(bundle, request, samples, setting.warmup),
        "load": {
            "total_ms": load_ms,
            "graphs_ms": {name: engine.build_ms for name, engine in engines.items()},
            "starts": starts,
        },
        "memory": {
            "before_load_bytes": before,
            "after_load_bytes": loaded,
            "peak_bytes": peak_memory_bytes(),
        },
        "accelerator": tell_placement(engines, request.device),
        "precisions": {name: engine.precision for name, engine in engines.items()},
        "energy": monitor.energy(samples.pace_s),
        "overhead": tell_overhead(samples, monitor.cpu_s, cpu),
        "device": device,
        "monitor": rows,
    }
    return result, samples


def describe_bundle(bundle: Bundle) -> dict[str, Any]:
    """What ran, by the hashes of its reference graphs: those of a target are made of them."""
    return {
        "preset": bundle.spec.preset,
        "graphs": {name: graph.sha256 for name, graph in bundle.graphs.items()},
        "trained": bundle.manifest.trained,
        "random_weights": bundle.manifest.random_weights,
        "hop_s": bundle.spec.hop_s,
    }


def summarise(bundle: Bundle, request: Request, samples: Samples, warmup: list[float]) -> dict[str, Any]:
    """The samples in numbers; the warm-up and its first query apart."""
    from vidprism_edge.runtimes.streaming.session import always_on_macs

    percentiles, latency = request.percentiles, samples.latency_ms
    decisions = max(samples.decisions, 1)
    return {
        "warmup": {"queries": len(warmup), "first_ms": warmup[0], "total_ms": sum(warmup)},
        "latency_ms": {**summarise_ms(latency, percentiles), "intervals": intervals_ms(latency, percentiles)},
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

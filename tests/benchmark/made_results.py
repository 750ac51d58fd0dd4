"""A made result with samples, as a file holds it: of an Orin that heats up, or of whatever a test changes."""

from __future__ import annotations

import copy
import math
from typing import Any

import msgspec
import numpy as np

from vidprism_edge.benchmark.measure import make_headline
from vidprism_edge.benchmark.request import SCENARIOS, Request
from vidprism_edge.benchmark.samples import Query, Samples
from vidprism_edge.benchmark.statistics import intervals_ms, summarise_ms

_DEVICE = {
    "board": "NVIDIA Jetson Orin Nano Developer Kit", "machine": "aarch64", "cpu": None, "cores": 6,
    "instruction_sets": ["asimd"], "os": "Linux", "python": "3.10.12", "load_1min": 0.4, "tools": {"numpy": "2.2.6"},
    "soc": "nvidia,tegra234", "memory_gib": 7.4, "distribution": "Ubuntu 22.04.5 LTS", "kernel": "5.15",
    "l4t": "36.4.3", "jetpack": "6.1 or 6.2", "power_mode": "1 25W", "governor": "schedutil",
    "max_clock_mhz": [1728], "turbo": None, "gpu": None, "gpu_reads": None, "driver": None, "virtual": False,
}  # fmt: skip


def make_result(
    scenario: str = "single-stream",
    *,
    level: float = 20.0,
    count: int = 256,
    seed: int = 0,
    throttled_s: float | None = None,
) -> dict[str, Any]:
    """Two humps of latencies around ``level`` ms, half a second apart, with a temperature that rises."""
    rng = np.random.default_rng(seed)
    request, samples = Request(scenario=scenario, profile="quick", percentiles=(50.0, 90.0, 99.0)), Samples()
    for i in range(count):
        spatial = level * (0.6 if i % 3 == 0 else 0.1)
        stages = {"decode": 2.0, "sample": 1.0, "temporal": 0.5 * level, "spatial": spatial, "python": 0.2}
        noise = float(rng.normal(0, 0.3))
        samples.add(Query(sum(stages.values()) - 2.0 + noise, stages), at_s=2 + i * 0.1)
    seconds = 2 + count // 10
    rows = [
        {
            "t_s": float(t),
            "temperatures_c": {"cpu-thermal": 50 + 45 * (1 - math.exp(-t / 12)), "gpu-thermal": 48.0},
            "clocks_hz": {"cpu 0": 1.344e9},
            "others_cores": 0.02,
            "waited": 0.0,
            "power_w": 6.5,
            "throttled_by": ["cooling by cpufreq-cpu0"]
            if throttled_s is not None and t >= throttled_s
            else [],
        }
        for t in range(1, seconds)
    ]
    samples.extra = {
        "offline": {"workers": 6, "threads_a_graph": 1, "wall_s": 10.0, "decisions_per_s": count / 10,
                    "frames_per_s": 300.0, "video_s_per_s": 10.0},
        "streaming": {"deadline_ms": 30.0, "missed": 5, "missed_share": 0.02, "captured": 1920,
                      "dropped": {"overrun": 12}, "decisions_due": count},
    }.get(scenario, {})  # fmt: skip
    samples.parts = [count]
    reasons = (
        []
        if throttled_s is None
        else [f"the machine throttled from {throttled_s:.0f} s on: cooling by cpufreq-cpu0"]
    )
    latency = summarise_ms(samples.latency_ms, request.percentiles)
    result = {
        "schema": 3,
        "request": request,
        "bundle": {"preset": "nano", "graphs": {"head": "00"}, "trained": False, "random_weights": True, "hop_s": 0.5},
        "valid": not reasons,
        "reasons": reasons,
        "measured": SCENARIOS[scenario].measured,
        "state_kept_between_queries": True,
        "headline": make_headline(request, samples),
        "warmup": {"queries": 5, "first_ms": 80.0, "total_ms": 200.0},
        "latency_ms": {**latency, "intervals": intervals_ms(samples.latency_ms, [count], request.percentiles)},
        "stages_ms": {name: summarise_ms(values, request.percentiles) for name, values in samples.stages_ms.items()},
        scenario: samples.extra or None,
        "queries": count,
        "decisions": count,
        "frames": 15 * count,
        "runs": {"temporal": 8 * count},
        "macs_per_decision": 0.9e9,
        "macs_always_on": 1.2e9,
        "load": {"total_ms": 300.0, "graphs_ms": {"head": 1.0}, "starts": None},
        "memory": {"before_load_bytes": 40e6, "after_load_bytes": 100e6, "peak_bytes": 120e6},
        "accelerator": {"asked": "CPU", "nodes": {"head": {"CPU": 1}}, "fell_back": {}, "share": 1.0, "reason": None},
        "precisions": {"head": "fp32"},
        "energy": {"value": 0.4, "average_w": 6.5, "reason": None, "method": "INA rail VDD_IN", "covers": "whole board",
                   "unit": "J per query"},
        "overhead": {"monitor_s": 0.01, "clocks_s": 0.01, "cpu_s": 20.0, "share": 0.001, "method": "made"},
        "device": copy.deepcopy(_DEVICE),
        "monitor": rows,
        "samples": samples.raw(),
    }  # fmt: skip
    return msgspec.json.decode(msgspec.json.encode(result))

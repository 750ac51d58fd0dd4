"""What every report says of the machine and of the samples: environment, percentiles, peak memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

#: Samples needed before a percentile is said: the early-stopping minimum of MLPerf Inference for the same tail.
LEAST_SAMPLES = {50.0: 10, 90.0: 64, 95.0: 130, 99.0: 662, 99.9: 6636}
_TOOLS = ("vidprism-edge", "numpy", "opencv-python", "av", "onnxruntime", "openvino", "torch", "onnx")
_FLAGS = ("sse4_1", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "neon", "asimd", "asimddp")


def describe_environment() -> dict[str, Any]:
    """Return board, processor, system and versions; what cannot be read is None."""
    cpu, flags = _read_cpu()
    board = Path("/proc/device-tree/model")
    versions = {}
    for name in _TOOLS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "board": board.read_text(errors="replace").strip("\0\n ") if board.is_file() else None,
        "machine": platform.machine(),
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instruction_sets": [flag for flag in _FLAGS if flag in flags],
        "os": platform.platform(),
        "python": platform.python_version(),
        "load_1min": os.getloadavg()[0],
        "tools": versions,
    }


def _read_cpu() -> tuple[str | None, set[str]]:
    """Name and feature flags of the processor, from Linux's description of it."""
    name, flags = None, set()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None, set()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model") and name is None:
            name = value.strip()
        elif key.strip() in ("flags", "Features"):
            flags = set(value.split())
    return name, flags


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def least_samples(percentile: float) -> int:
    """Samples that a percentile needs; those between the known ones need what the next higher one does."""
    return next(
        (n for p, n in sorted(LEAST_SAMPLES.items()) if p >= percentile), 10 * max(LEAST_SAMPLES.values())
    )


def summarise_ms(samples_ms: Sequence[float], percentiles: Sequence[float]) -> dict[str, Any]:
    """Return count, mean, extremes and percentiles (nearest rank, nothing clipped) of latencies in milliseconds.

    A percentile that the sample does not carry is None and named under ``insufficient`` with the count it needs.
    """
    values = np.sort(np.asarray(samples_ms, np.float64))
    if not len(values):
        return {"count": 0, "insufficient": {_name(p): least_samples(p) for p in percentiles}}
    result: dict[str, Any] = {
        "count": len(values),
        "mean": float(values.mean()),
        "min": float(values[0]),
        "max": float(values[-1]),
    }
    insufficient = {}
    for percentile in percentiles:
        rank = int(np.ceil(percentile / 100 * len(values)))
        enough = len(values) >= least_samples(percentile)
        result[_name(percentile)] = float(values[max(rank, 1) - 1]) if enough else None
        if not enough:
            insufficient[_name(percentile)] = least_samples(percentile)
    if insufficient:
        result["insufficient"] = insufficient
    return result


def _name(percentile: float) -> str:
    return f"p{percentile:g}"


def show_percentile(summary: Mapping[str, Any], percentile: float) -> str:
    """A percentile of :func:`summarise_ms` for people."""
    value = summary.get(_name(percentile))
    return "insufficient" if value is None else f"{value:.2f}"

"""What every report says of the machine that it was made on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
from pathlib import Path
from typing import Any

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
        "cores": count_cores(),
        "instruction_sets": [flag for flag in _FLAGS if flag in flags],
        "os": platform.platform(),
        "python": platform.python_version(),
        "load_1min": os.getloadavg()[0],
        "tools": versions,
    }


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def resident_bytes() -> int | None:
    """Resident size of this process now, None where the kernel does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * resource.getpagesize()

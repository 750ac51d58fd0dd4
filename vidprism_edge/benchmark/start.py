"""How long a program takes to its first decision: run as a process of its own, once cold and once warm.

python -m vidprism_edge.benchmark.start BUNDLE REQUEST, which is a Request as JSON
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from vidprism_edge.benchmark.request import Request


def forget(folder: Path) -> bool:
    """Ask the kernel to drop a folder's files from its cache → whether it could be asked.

    Needs no privilege for files that are written out. Libraries stay: other programs use them.
    """
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
    return True


def measure_starts(bundle: Path, request: Request) -> dict[str, Any]:
    """Milliseconds of a start with the bundle dropped from the page cache, and of the next one.

    Each: ``process_ms`` from the program's call to its end, ``import_ms``, ``load_ms`` (files checked, engines built),
    ``first_ms`` (the first decision).
    """
    dropped = forget(bundle)
    results = {}
    for name in ("cold", "warm"):
        start = time.perf_counter()
        command = [sys.executable, "-m", __name__, str(bundle), msgspec.json.encode(request).decode()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        spent = (time.perf_counter() - start) * 1e3
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            return {"reason": f"the process failed: {lines[-1] if lines else done.returncode}"}
        results[name] = {"process_ms": spent, **json.loads(done.stdout)}
    return {**results, "cache_dropped": dropped}


def start(bundle: Path, request: Request) -> dict[str, float]:
    """Start as a program does → the milliseconds of each step."""
    begun = time.perf_counter()
    from vidprism_edge.bundle import Bundle
    from vidprism_edge.runtimes.streaming.session import Session
    from vidprism_edge.runtimes.streaming.source import open_source

    imported = time.perf_counter()
    opened = Bundle.open(bundle)
    session = Session(opened, engine=request.engine, options=request.options(), period_ns=66_666_667)
    loaded = time.perf_counter()
    source = open_source(f"synthetic:{opened.spec.window_s + 1}:320x240@15")
    spent = 0.0
    while (frame := source.read()) is not None:
        pushing = time.perf_counter()
        made = session.push(frame)
        spent += time.perf_counter() - pushing
        if made:
            break
    return {
        "import_ms": (imported - begun) * 1e3,
        "load_ms": (loaded - imported) * 1e3,
        "first_ms": spent * 1e3,
    }


if __name__ == "__main__":
    print(json.dumps(start(Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Request))))

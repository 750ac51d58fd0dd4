"""A part of a run: engines loaded afresh, warmed up, asked queries; a process of its own where a run has several.

Where memory lies is drawn anew with each process and stays with it, so that one process knows nothing of the next one.

``python -m vidprism_edge.benchmark.part JOB``, which is a :class:`Job` as JSON
"""

from __future__ import annotations

import sys
import time
from typing import Any

import msgspec

from vidprism_edge.benchmark.device.monitor import Monitor
from vidprism_edge.benchmark.device.nvml import Nvml
from vidprism_edge.benchmark.device.tegrastats import TegraReader
from vidprism_edge.benchmark.device.throttling import read_limits
from vidprism_edge.benchmark.device.tree import Tree
from vidprism_edge.benchmark.placement import tell_placement
from vidprism_edge.benchmark.request import PROFILES, Request
from vidprism_edge.benchmark.samples import Samples
from vidprism_edge.benchmark.scenarios import RUN, Setting
from vidprism_edge.bundle import Bundle
from vidprism_edge.errors import VidPrismError, find_error
from vidprism_edge.report import peak_memory_bytes, resident_bytes
from vidprism_edge.runtimes.engines import load_engines
from vidprism_edge.worker import Progress, follow_worker, serve, tell_progress

#: Seconds between two lines of progress: a query must not wait for them.
TELL_S = 0.5


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What one part does. ``limits``: those of the machine before the run, see :func:`read_limits`."""

    bundle: str
    request: Request
    queries: int
    seconds: float
    limits: dict[str, float]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one part gives. ``born_s``: when its monitor's clock began, on the clock that all processes share."""

    born_s: float
    samples: Samples
    warmup: list[float]
    load_ms: float
    graphs_ms: dict[str, float]
    #: before and after loading; None where the system does not say
    resident: dict[str, int | None]
    peak_bytes: int
    accelerator: dict[str, Any]
    precisions: dict[str, str]
    energy: dict[str, Any]
    rows: list[dict[str, Any]]
    monitor_cpu_s: float
    cpu_s: float


def measure_part(bundle: Bundle, job: Job, progress: Progress) -> Part:
    """Load, start the monitor, run the scenario."""
    nvml, tegra = Nvml.open(), TegraReader.start()
    try:
        before = resident_bytes()
        loading = time.perf_counter()
        engines = load_engines(bundle, job.request.engine, job.request.options())
        load_ms, loaded = (time.perf_counter() - loading) * 1e3, resident_bytes()
        with Monitor(nvml=nvml, tegra=tegra, limits=job.limits) as monitor:
            setting = Setting(bundle, engines, job.request, job.queries, job.seconds, monitor.now_s, progress)
            cpu = time.process_time()
            began_s = monitor.now_s()
            samples = RUN[job.request.scenario](setting)
            cpu = time.process_time() - cpu
    finally:
        for open_one in (nvml, tegra):
            if open_one is not None:
                open_one.close()
    return Part(
        born_s=monitor.born_s,
        samples=samples,
        warmup=setting.warmup,
        load_ms=load_ms,
        graphs_ms={name: engine.build_ms for name, engine in engines.items()},
        resident={"before_load_bytes": before, "after_load_bytes": loaded},
        # the kernel updates its peak now and then: it is at least what was seen
        peak_bytes=max(peak_memory_bytes(), loaded or 0),
        accelerator=tell_placement(engines, job.request.device),
        precisions={name: engine.precision for name, engine in engines.items()},
        energy=monitor.energy(samples.pace_s),
        rows=[row for row in monitor.rows if row["t_s"] >= began_s],
        monitor_cpu_s=monitor.cpu_s,
        cpu_s=cpu,
    )


def run_parts(bundle: Bundle, request: Request, progress: Progress) -> list[Part]:
    """The parts of a run, one after the other; a profile's only part runs in this process."""
    profile = PROFILES[request.profile]
    job = Job(
        bundle=str(bundle.root.resolve()),
        request=request,
        queries=-(-profile.queries[request.scenario] // profile.parts),
        seconds=profile.seconds / profile.parts,
        limits=read_limits(Tree()),
    )
    if profile.parts == 1:
        return [measure_part(bundle, job, progress)]
    command = [sys.executable, "-m", __name__, msgspec.json.encode(job).decode()]
    parts = []
    for number in range(1, profile.parts + 1):

        def tell(what: str, done: int, total: int, number: int = number) -> None:
            progress(f"part {number} of {profile.parts}, {what}", done, total)

        end = follow_worker(command, tell)
        if end.error:
            raise find_error(end.code)(end.error)
        if end.result is None:
            raise VidPrismError(
                f"part {number} of the run ended with code {end.code} and no result; its messages above say why"
            )
        parts.append(msgspec.convert(end.result, Part))
    return parts


def main() -> int:
    """Do the job given on the command line."""
    job, told_s = msgspec.json.decode(sys.argv[1], type=Job), 0.0

    def tell(what: str, done: int, total: int) -> None:
        nonlocal told_s
        if time.monotonic() - told_s >= TELL_S:
            told_s = time.monotonic()
            tell_progress(what, done, total)

    return serve(lambda: measure_part(Bundle.open(job.bundle), job, tell))


if __name__ == "__main__":
    sys.exit(main())

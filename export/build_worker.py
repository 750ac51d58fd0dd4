"""One engine in a process of its own, which alone ends when memory runs out: build, deserialise, prove, time.

``python -m vidprism_edge.export.build_worker JOB.json`` prints JSON lines: progress, then a result or an error.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import msgspec

from vidprism_edge.bundle import Bundle, GraphInfo
from vidprism_edge.errors import ParityError
from vidprism_edge.export.verification import replay_golden
from vidprism_edge.runtimes.engines import Engine, EngineOptions
from vidprism_edge.worker import serve, tell_progress

WARMUP_RUNS, TIMED_RUNS = 10, 50


class WorkerJob(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker gets: the bundle's folder, one of its graphs, and where the engine goes."""

    bundle: str
    graph: str
    precision: str
    output: str
    timing_cache: str
    workspace_bytes: int
    dla: int | None


class WorkerResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker gives back for an engine that works."""

    build_s: float
    latency_ms: float
    of_tolerance: float
    gpu_fallback: tuple[str, ...] = ()


def prove(engine: Engine, bundle: Bundle, graph: GraphInfo) -> float:
    """Replay the golden vectors; return the largest error as a share of its tolerance. Raises :class:`ParityError`."""
    worst = max(replay_golden(bundle, graph, engine.infer), key=lambda o: o.of_tolerance)
    if not worst.passed:
        raise ParityError(
            f"the engine of graph {graph.name} ({graph.precision}) is off by {worst.max_error:.3g} on output "
            f"{worst.output} (case {worst.worst_case}), {worst.of_tolerance:.3g} times its tolerance"
        )
    return worst.of_tolerance


def time_engine(engine: Engine, bundle: Bundle, graph: GraphInfo) -> float:
    """Median of one run in milliseconds, copies included."""
    inputs = next(bundle.golden(graph.name))[1]
    for _ in range(WARMUP_RUNS):
        engine.infer(inputs)
    times = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        engine.infer(inputs)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def work(job: WorkerJob) -> WorkerResult:
    """Build one engine and prove it."""
    from vidprism_edge.runtimes.engines.tensorrt import DLA, TensorRtEngine, import_tensorrt
    from vidprism_edge.runtimes.engines.tensorrt_builder import BuilderOptions, EngineBuilder

    bundle = Bundle.open(job.bundle)
    graph = bundle.graphs_for("jetson", job.precision)[job.graph]
    options = BuilderOptions(Path(job.timing_cache), job.workspace_bytes, job.dla)
    builder = EngineBuilder(import_tensorrt(), options)
    start = time.perf_counter()
    builder.build(bundle.graph_file(graph), Path(job.output), tell_progress)
    built = time.perf_counter() - start
    device = EngineOptions() if job.dla is None else EngineOptions(device=DLA)
    engine = TensorRtEngine(graph, Path(job.output), device)
    return WorkerResult(
        build_s=built,
        of_tolerance=prove(engine, bundle, graph),
        latency_ms=time_engine(engine, bundle, graph),
        gpu_fallback=tuple(builder.gpu_fallback),
    )


def main() -> int:
    """Do the job of the file named on the command line."""
    job = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=WorkerJob)
    return serve(lambda: work(job))


if __name__ == "__main__":
    sys.exit(main())

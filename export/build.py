"""The device-only step: one engine after the other, each in its own process, kept as soon as it is proved."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from vidprism_edge.bundle import Bundle, GraphInfo, hash_file
from vidprism_edge.errors import EngineError
from vidprism_edge.export.build_worker import WorkerJob, WorkerResult
from vidprism_edge.runtimes.engines.device_key import (
    ENGINES_FOLDER,
    BuildRecord,
    Device,
    EngineRecord,
    find_engine_file,
    read_build,
)
from vidprism_edge.worker import Progress, follow_worker

TARGET = "jetson"
#: What CUDA, TensorRT's libraries and its builder take before the first graph, measured on no board: a lower bound.
BASE_BYTES = 1 << 30
WORKER = (sys.executable, "-m", "vidprism_edge.export.build_worker")


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """``precision``: fp16 or int8 where a component has it, or ``auto``: build both and keep the better one."""

    precision: str = "auto"
    dla: bool = False
    force: bool = False
    workspace_bytes: int = 512 << 20
    #: the command that builds one engine; tests put another in its place
    worker: tuple[str, ...] = WORKER


@dataclass(slots=True)
class Build:
    """What a build gave: the sidecar as it now stands, what was built now, and what failed with its reason."""

    folder: Path
    record: BuildRecord
    built: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def list_candidates(bundle: Bundle, precision: str) -> list[GraphInfo]:
    """The graphs to build, in the order of the components. Raises :class:`EngineError` where there are none."""
    own = [g for g in bundle.manifest.graphs if g.target == TARGET]
    if missing := sorted(bundle.graphs.keys() - {g.name for g in own}):
        raise EngineError(
            f"{bundle.root} has no graphs for TensorRT ({', '.join(missing)}); export it with "
            "`vidprism-edge export --target jetson`"
        )
    if precision == "auto":
        return own
    chosen = bundle.graphs_for(TARGET, precision).values()
    if not any(g.precision == precision for g in chosen):
        raise EngineError(
            f"{bundle.root} has no {precision} graphs; it has {', '.join(sorted({g.precision for g in own}))}"
        )
    return list(chosen)


def check_memory(bundle: Bundle, graphs: Sequence[GraphInfo], options: BuildOptions, free_bytes: int) -> None:
    """Raise :class:`EngineError` unless the largest graph can be built in the memory that is free."""
    largest = max(bundle.locate(g.file).stat().st_size for g in graphs)
    # weights as read, as parsed, in the builder and in the plan
    needed = BASE_BYTES + options.workspace_bytes + 4 * largest
    if free_bytes < needed:
        raise EngineError(
            f"{free_bytes / 2**30:.1f} GiB of memory are free and a build needs about {needed / 2**30:.1f} GiB; stop "
            "the desktop (`sudo systemctl isolate multi-user.target`) and other programs, or give --workspace-mb less"
        )


class DeviceBuild:
    """Builds a bundle's engines for one device into ``engines/<device-key>/`` of the bundle."""

    def __init__(self, bundle: Bundle, device: Device, options: BuildOptions) -> None:
        self.bundle, self.options = bundle, options
        self.folder = bundle.locate(f"{ENGINES_FOLDER}/{device.key(dla=options.dla)}")
        old = None if options.force else read_build(self.folder)
        self.record = old if old and old.device == device else BuildRecord(device=device, dla=options.dla)

    def run(self, free_bytes: int, progress: Progress = lambda *_: None) -> Build:
        """Build what is not there yet. What fails does not stop the rest; the sidecar grows engine by engine."""
        graphs = list_candidates(self.bundle, self.options.precision)
        todo = [graph for graph in graphs if not self._is_there(graph)]
        if todo:
            check_memory(self.bundle, todo, self.options, free_bytes)
        self.folder.mkdir(parents=True, exist_ok=True)
        result = Build(self.folder, self.record, kept=[_label(g) for g in graphs if g not in todo])
        for done, graph in enumerate(todo):
            progress(_label(graph), done, len(todo))

            def tell(phase: str, graph: GraphInfo = graph, done: int = done) -> None:
                progress(f"{_label(graph)}: {phase}", done, len(todo))

            try:
                self._build(graph, tell)
            except EngineError as error:
                result.failed[_label(graph)] = str(error)
            else:
                result.built.append(_label(graph))
        self._choose({g.name: [c for c in graphs if c.name == g.name] for g in graphs}, result.failed)
        result.record = self.record
        progress("done", len(todo), len(todo))
        return result

    def _is_there(self, graph: GraphInfo) -> bool:
        try:
            find_engine_file(self.bundle.root, self.record, graph, self.folder)
        except EngineError:
            return False
        return True

    def _build(self, graph: GraphInfo, tell: Callable[[str], None]) -> None:
        dla = 0 if self.options.dla and graph.name == "spatial" else None
        with tempfile.TemporaryDirectory(prefix=".build.", dir=self.folder) as scratch:
            output = Path(scratch) / "engine"
            job = WorkerJob(
                bundle=str(self.bundle.root.resolve()), graph=graph.name, precision=graph.precision,
                output=str(output), timing_cache=str(self.folder / "timing.cache"),
                workspace_bytes=self.options.workspace_bytes, dla=dla,
            )  # fmt: skip
            file = Path(scratch) / "job.json"
            file.write_bytes(msgspec.json.encode(job))
            result = run_worker([*self.options.worker, str(file)], tell)
            name = f"{graph.name}.{graph.precision}.engine"
            record = EngineRecord(
                graph=graph.name, precision=graph.precision, file=name, sha256=hash_file(output),
                graph_sha256=graph.sha256, shapes={i.name: i.shape for i in graph.inputs}, dla=dla is not None,
                build_s=round(result.build_s, 3), latency_ms=round(result.latency_ms, 4),
                of_tolerance=result.of_tolerance, gpu_fallback=result.gpu_fallback,
            )  # fmt: skip
            output.replace(self.folder / name)
        others = (e for e in self.record.engines if (e.graph, e.precision) != (graph.name, graph.precision))
        self.record = msgspec.structs.replace(self.record, engines=(*others, record))
        self.record.write(self.folder)

    def _choose(self, candidates: dict[str, list[GraphInfo]], failed: dict[str, str]) -> None:
        """Of every component's engines keep the fastest that passed, and say why the others were dropped."""
        chosen, dropped = {}, {}
        for name, graphs in candidates.items():
            there = [record for g in graphs if (record := self.record.find(g)) and self._is_there(g)]
            reasons = [f"{g.precision}: {failed[_label(g)]}" for g in graphs if _label(g) in failed]
            if there:
                best = min(there, key=lambda r: r.latency_ms)
                chosen[name] = best.precision
                reasons += [
                    f"{r.precision}: {r.latency_ms:.3f} ms, not faster than {best.precision} with "
                    f"{best.latency_ms:.3f} ms"
                    for r in there
                    if r is not best
                ]
            if reasons:
                dropped[name] = "; ".join(reasons)
        self.record = msgspec.structs.replace(self.record, chosen=chosen, dropped=dropped)
        self.record.write(self.folder)


def _label(graph: GraphInfo) -> str:
    return f"{graph.name} {graph.precision}"


def run_worker(command: Sequence[str], tell: Callable[[str], None]) -> WorkerResult:
    """Run one worker to its end and return its result. Raises :class:`EngineError` for whatever went wrong there."""
    end = follow_worker(command, lambda phase, done, total: tell(f"{phase} {done}/{total}"))
    if end.code == 0 and end.result is not None:
        return msgspec.convert(end.result, WorkerResult)
    if end.code == -signal.SIGKILL:
        raise EngineError(
            "its process was killed, most likely because memory ran out; stop other programs, add swap, or give "
            "--workspace-mb less, and run the same command again: what is built is kept"
        )
    raise EngineError(end.error or f"its process ended with code {end.code}; its messages above say why")

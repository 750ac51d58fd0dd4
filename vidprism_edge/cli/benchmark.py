"""``vidprism-edge benchmark``: what a decision costs on this machine, stage by stage."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidprism_edge.errors import BenchmarkError, UsageError

if TYPE_CHECKING:
    from vidprism_edge.runtimes.streaming.session import Session
    from vidprism_edge.runtimes.streaming.source import Source

#: Queries and the least time in seconds that a profile measures.
PROFILES = {"rapid": (16, 0.0), "quick": (130, 5.0), "normal": (1024, 60.0)}
#: The medians of the two halves of a valid run differ by no more than this factor.
STEADY = 1.25
#: Moving objects and still stretches, drawn, so that every machine measures the same pictures.
DEFAULT_SOURCE = "synthetic:20:1280x720@30"


@dataclass(slots=True)
class Samples:
    """Raw milliseconds per query: the whole, and each stage."""

    latency_ms: list[float] = field(default_factory=list)
    stages_ms: dict[str, list[float]] = field(default_factory=dict)
    macs: int = 0
    frames: int = 0

    def add(self, latency_ms: float, stages_ms: dict[str, float], macs: int) -> None:
        for name, spent in stages_ms.items():
            # a stage that did not run in the queries before cost nothing there
            self.stages_ms.setdefault(name, [0.0] * len(self.latency_ms)).append(spent)
        self.latency_ms.append(latency_ms)
        for values in self.stages_ms.values():
            if len(values) < len(self.latency_ms):
                values.append(0.0)
        self.macs += macs


class Runner:
    """Single-stream: one query is what a decision takes, all frames since the decision before included."""

    def __init__(self, session: Session, source: Source) -> None:
        self._session, self._source = session, source

    def query(self) -> tuple[float, dict[str, float], int, int, bool]:
        """Run to the next decision → latency (ms, decoding apart), stages (ms), MACs, frames, whether ready."""
        latency, decode, frames = 0.0, 0.0, 0
        while True:
            start = time.perf_counter_ns()
            frame = self._source.read()
            read = time.perf_counter_ns()
            if frame is None:
                raise BenchmarkError(
                    "the source ended during the benchmark; give a longer one, or a file, which is looped"
                )
            made = self._session.push(frame)
            latency += (time.perf_counter_ns() - read) / 1e6
            decode += (read - start) / 1e6
            frames += 1
            if made:
                stages = {"decode": decode}
                for prediction in made:
                    for name, spent in prediction.stages_ms.items():
                        stages[name] = stages.get(name, 0.0) + spent
                stages["python"] = latency - sum(v for n, v in stages.items() if n != "decode")
                return latency, stages, sum(p.macs for p in made), frames, made[-1].ready


def measure(
    runner: Runner, queries: int, seconds: float, warmup_ms: float, progress: Any
) -> tuple[Samples, dict[str, Any]]:
    """Warm up to the first full window and for ``warmup_ms``, then measure; the warm-up is reported apart."""
    warm, start = [], time.perf_counter()
    while True:
        latency, _, _, _, ready = runner.query()
        warm.append(latency)
        if ready and (time.perf_counter() - start) * 1e3 >= warmup_ms:
            break
    samples, start = Samples(), time.perf_counter()
    while len(samples.latency_ms) < queries or time.perf_counter() - start < seconds:
        latency, stages, macs, frames, _ = runner.query()
        samples.add(latency, stages, macs)
        samples.frames += frames
        progress("queries", min(len(samples.latency_ms), queries), queries)
    return samples, {"queries": len(warm), "first_ms": warm[0], "total_ms": sum(warm)}


def judge(latency_ms: list[float]) -> tuple[bool, str | None]:
    """Whether a run is steady: the medians of its halves agree. Otherwise why not."""
    import numpy as np

    half = len(latency_ms) // 2
    first, second = float(np.median(latency_ms[:half])), float(np.median(latency_ms[half:]))
    ratio = max(first, second) / max(min(first, second), 1e-9)
    if ratio <= STEADY:
        return True, None
    return False, (
        f"the median latency went from {first:.1f} ms in the first half to {second:.1f} ms in the second: "
        "another program or the machine's clock interferes"
    )


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    source: Annotated[str, typer.Option(help="Video file (looped) or synthetic:….")] = DEFAULT_SOURCE,
    scenario: Annotated[str, typer.Option(help="single-stream.")] = "single-stream",
    profile: Annotated[str, typer.Option(help="rapid, quick or normal.")] = "normal",
    engine: Annotated[str, typer.Option(help="What executes the graphs.")] = "onnxruntime",
    threads: Annotated[int, typer.Option(help="Threads a graph may use; 0: the engine's choice.")] = 0,
    gates: Annotated[str, typer.Option(help="auto or open.")] = "auto",
    warmup_ms: Annotated[float, typer.Option(help="Shortest warm-up, milliseconds.")] = 200.0,
    percentiles: Annotated[str, typer.Option(help="Comma-separated.")] = "50,90,95,99,99.9",
    report: Annotated[Path | None, typer.Option(help="Write the result and its raw samples as JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Measure decisions one after another: percentiles of each stage, nothing clipped; exit 5 if unsteady."""
    import msgspec

    from vidprism_edge.benchmark.statistics import summarise_ms
    from vidprism_edge.bundle import Bundle
    from vidprism_edge.cli.console import check_file, choose, print_json, progress_bar
    from vidprism_edge.report import describe_environment, peak_memory_bytes
    from vidprism_edge.runtimes.engines import EngineOptions
    from vidprism_edge.runtimes.streaming.session import Session
    from vidprism_edge.runtimes.streaming.source import open_source

    choose("scenario", scenario, ("single-stream",))
    queries, seconds = PROFILES[choose("profile", profile, tuple(PROFILES))]
    choose("gates", gates, ("auto", "open"))
    wanted = parse_percentiles(percentiles)
    check_file(report)
    if not 0 <= warmup_ms < float("inf"):
        raise UsageError(f"--warmup-ms is {warmup_ms:g}; expected a number of milliseconds, 0 or more")
    opened = Bundle.open(bundle)
    loading = time.perf_counter()
    video = open_source(source, loop=True)
    if video.live:
        video.close()
        raise UsageError(f"source {source!r} is live and paces itself; benchmark a file or synthetic:SECONDS")
    session = Session(
        opened, engine=engine, options=EngineOptions(threads), gates=gates, period_ns=video.period_ns
    )
    load_ms = (time.perf_counter() - loading) * 1e3
    try:
        with progress_bar(f"benchmark {opened.spec.preset}") as progress:
            samples, warmup = measure(Runner(session, video), queries, seconds, warmup_ms, progress)
    finally:
        video.close()
    valid, reason = judge(samples.latency_ms)
    result: dict[str, Any] = {
        "schema": 1,
        "bundle": {
            "preset": opened.spec.preset,
            "graphs": {g.name: g.sha256 for g in opened.manifest.graphs},
            "trained": opened.manifest.trained,
            "random_weights": opened.manifest.random_weights,
        },
        "scenario": scenario,
        "profile": profile,
        "source": source,
        "engine": engine,
        "threads": threads,
        "gates": gates,
        "state_kept_between_queries": True,
        "valid": valid,
        "reason": reason,
        "load_ms": load_ms,
        "warmup": warmup,
        "latency_ms": summarise_ms(samples.latency_ms, wanted),
        "stages_ms": {name: summarise_ms(values, wanted) for name, values in samples.stages_ms.items()},
        "frames": samples.frames,
        "macs_per_query": samples.macs / len(samples.latency_ms),
        "macs_always_on": session.always_on_macs,
        "peak_memory_bytes": peak_memory_bytes(),
        "energy": {"value": None, "method": None, "reason": "not read by this version"},
        "environment": describe_environment(),
    }
    if report is not None:
        raw = {"latency_ms": samples.latency_ms, "stages_ms": samples.stages_ms}
        report.write_bytes(
            msgspec.json.format(msgspec.json.encode({**result, "samples": raw}), indent=2) + b"\n"
        )
    if as_json:
        print_json(result)
    else:
        _show(result, wanted)
    if not valid:
        raise BenchmarkError(f"the run is not valid: {reason}; close other programs and run it again")


def parse_percentiles(text: str) -> list[float]:
    """Parse ``--percentiles``; raises :class:`UsageError` for anything but numbers between 0 and 100."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"--percentiles is {text!r}; expected numbers separated by commas, as in 50,90,99"
        ) from None
    if not all(0 < value < 100 for value in values):
        raise UsageError(f"--percentiles is {text!r}; expected each between 0 and 100")
    return values


def _show(result: dict[str, Any], percentiles: list[float]) -> None:
    from rich.table import Table

    from vidprism_edge.benchmark.statistics import show_percentile
    from vidprism_edge.cli.console import print_table

    table = Table(box=None, pad_edge=False)
    table.add_column("milliseconds a decision")
    for percentile in percentiles:
        table.add_column(f"p{percentile:g}", justify="right")
    table.add_column("mean", justify="right")
    for name, summary in {"whole (decoding apart)": result["latency_ms"], **result["stages_ms"]}.items():
        cells = [show_percentile(summary, p) for p in percentiles]
        table.add_row(name, *cells, f"{summary['mean']:.2f}")
    environment = result["environment"]
    notes = [
        f"{result['latency_ms']['count']} decisions, {result['macs_per_query'] / 1e9:.2f} GMAC each "
        f"({result['macs_per_query'] / result['macs_always_on']:.0%} of always-on), peak memory "
        f"{result['peak_memory_bytes'] / 1e6:.0f} MB, loaded in {result['load_ms']:.0f} ms, first decision "
        f"{result['warmup']['first_ms']:.0f} ms",
        f"{result['engine']}, {environment['cpu']}, {environment['cores']} cores; source {result['source']}",
    ]
    if result["bundle"]["random_weights"]:
        notes.append("random weights: for latency only")
    print_table(table, *notes)

"""What is measured and how long: the scenarios and profiles by MLPerf's names, and one request as data."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from vidprism_edge.runtimes.engines import EngineOptions

#: Moving objects and still stretches, drawn, so that every machine measures the same pictures.
DEFAULT_SOURCE = "synthetic:20:1280x720@30"
DEFAULT_PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


@dataclass(frozen=True, slots=True)
class ScenarioInfo:
    """A scenario's rule: what is measured, and the percentile that is its result (None: a throughput)."""

    measured: str
    percentile: float | None
    rule: str


SCENARIOS = {
    "single-stream": ScenarioInfo(
        "latency of a decision",
        90.0,
        "a decision is asked for when the one before is made; p90 by early stopping",
    ),
    "multi-stream": ScenarioInfo(
        "latency of a query of 8 decisions",
        99.0,
        "8 cameras; a query is the next decision of each, asked for when the query before is done; p99 by early "
        "stopping",
    ),
    "offline": ScenarioInfo(
        "decisions a second", None, "all pictures are in memory; one stream a core, as fast as they go"
    ),
    "streaming": ScenarioInfo(
        "capture-to-result age of a decision",
        90.0,
        "a camera paced in real time; the newest frame wins, older ones that wait are dropped and counted",
    ),
}
#: MLPerf's number of samples in a multi-stream query.
STREAMS_A_QUERY = 8


@dataclass(frozen=True, slots=True)
class Profile:
    """The least number of queries by scenario (decisions, when offline), and the least time, over all parts.

    ``parts``: processes that share a run, one after the other, because a process's luck with memory stays with it.
    """

    queries: dict[str, int]
    seconds: float
    parts: int = 1


def _profile(
    single: int, multi: int, offline: int, streaming: int, seconds: float, parts: int = 1
) -> Profile:
    return Profile(dict(zip(SCENARIOS, (single, multi, offline, streaming), strict=True)), seconds, parts)


#: A camera makes two decisions a second at the presets' hop: streaming counts fewer of them in the same time.
PROFILES = {
    "rapid": _profile(16, 16, 32, 10, 0.0),
    "quick": _profile(130, 64, 256, 64, 5.0),
    "normal": _profile(1024, 662, 1024, 130, 60.0, parts=6),
    "mlperf": _profile(1024, 662, 24576, 1024, 600.0, parts=6),
}


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measurement. It travels with its result, and runs again from it."""

    scenario: str = "single-stream"
    profile: str = "normal"
    source: str = DEFAULT_SOURCE
    engine: str = "onnxruntime"
    #: Threads that one graph may use; 0: the engine's choice (offline: one).
    threads: int = 0
    #: What runs the graphs, how many it works on at once, and a folder where the engine keeps what it compiled.
    device: str = "CPU"
    streams: int = 1
    cache: str | None = None
    gates: str = "auto"
    warmup_ms: float = 200.0
    percentiles: tuple[float, ...] = DEFAULT_PERCENTILES
    #: Streaming: a decision that is older than this when it is made misses; 0: the time between two decisions.
    deadline_ms: float = 0.0
    #: Whether cold and warm start are measured, each in a process of its own.
    start: bool = True

    def options(self, threads: int | None = None) -> EngineOptions:
        """How engines are built, with another number of threads where one is given."""
        from vidprism_edge.runtimes.engines import EngineOptions

        cache = None if self.cache is None else Path(self.cache)
        return EngineOptions(self.threads if threads is None else threads, self.device, self.streams, cache)


def make_flags(request: Request) -> str:
    """The flags of a request, quoted for a shell. An engine's cache is the device's own affair."""
    given = {
        "scenario": request.scenario, "profile": request.profile, "source": request.source, "engine": request.engine,
        "threads": request.threads, "device": request.device, "streams": request.streams, "gates": request.gates,
        "warmup-ms": f"{request.warmup_ms:g}", "deadline-ms": f"{request.deadline_ms:g}",
        "percentiles": ",".join(f"{p:g}" for p in request.percentiles),
    }  # fmt: skip
    flags = [f"--{name} {shlex.quote(str(value))}" for name, value in given.items()]
    return " ".join([*flags, "--start" if request.start else "--no-start"])

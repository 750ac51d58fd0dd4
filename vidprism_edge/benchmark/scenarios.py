"""The four scenarios: how queries are issued, and what of each is measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from vidprism_edge.benchmark.camera import PacedCamera
from vidprism_edge.benchmark.request import STREAMS_A_QUERY, Request
from vidprism_edge.benchmark.samples import Query, Samples
from vidprism_edge.benchmark.streams import MemorySource, Pull, Stream, keep_in_memory
from vidprism_edge.bundle import Bundle
from vidprism_edge.errors import UsageError
from vidprism_edge.report import count_cores
from vidprism_edge.runtimes.engines import Engine, load_engines
from vidprism_edge.runtimes.streaming.feed import Feed
from vidprism_edge.runtimes.streaming.source import Source, open_source
from vidprism_edge.worker import Progress


@dataclass(slots=True)
class Setting:
    """What every scenario gets: the bundle, loaded engines, the request, the monitor's clock, a progress bar.

    ``queries`` and ``seconds``: the least that this part of the run has of both.
    """

    bundle: Bundle
    engines: dict[str, Engine]
    request: Request
    queries: int
    seconds: float
    now_s: Callable[[], float]
    progress: Progress
    warmup: list[float] = field(default_factory=list)

    def open(self) -> Source:
        """The source, looped; a camera cannot be asked for decisions on demand."""
        source = open_source(self.request.source, loop=True)
        if source.live:
            source.close()
            raise UsageError(
                f"source {self.request.source!r} is live and paces itself; benchmark a file or synthetic:SECONDS"
            )
        return source

    def stream(self, period_ns: int | None, engines: dict[str, Engine] | None = None) -> Stream:
        """A session on the engines."""
        return Stream(self.bundle, engines or self.engines, self.request, period_ns)


class Budget:
    """Whether the least number of queries and the least time are both reached."""

    def __init__(self, setting: Setting) -> None:
        self._setting, self._start = setting, time.perf_counter()

    def goes_on(self, done: int) -> bool:
        """Whether to issue another query; moves the progress bar."""
        setting = self._setting
        setting.progress("queries", min(done, setting.queries), setting.queries)
        return done < setting.queries or time.perf_counter() - self._start < setting.seconds


def warm_up(query: Callable[[], Query], setting: Setting) -> None:
    """Ask queries up to a full window and for the asked time; their latencies are reported apart."""
    start = time.perf_counter()
    while True:
        done = query()
        setting.warmup.append(done.latency_ms)
        if done.ready and (time.perf_counter() - start) * 1e3 >= setting.request.warmup_ms:
            return


def _ask(query: Callable[[], Query], setting: Setting) -> Samples:
    warm_up(query, setting)
    samples, budget = Samples(), Budget(setting)
    while budget.goes_on(len(samples.latency_ms)):
        samples.add(query(), setting.now_s())
    return samples


def run_single_stream(setting: Setting) -> Samples:
    """One decision after another: each query takes in all frames since the decision before."""
    with closing(setting.open()) as source:
        return _ask(Pull(setting.stream(source.period_ns), source).query, setting)


def run_multi_stream(setting: Setting) -> Samples:
    """Eight cameras on the same engines: a query is done when each has made its next decision."""
    sources = [setting.open() for _ in range(STREAMS_A_QUERY)]
    try:
        pulls = []
        for number, source in enumerate(sources):
            for _ in range(7 * number):  # no two cameras see the same at the same time
                source.read()
            pulls.append(Pull(setting.stream(source.period_ns), source))

        def query() -> Query:
            return add_up([pull.query() for pull in pulls])

        return _ask(query, setting)
    finally:
        for source in sources:
            source.close()


def add_up(queries: list[Query]) -> Query:
    """Several decisions, one after the other, as one query."""
    stages: dict[str, float] = {}
    runs: dict[str, int] = {}
    for query in queries:
        for name, spent in query.stages_ms.items():
            stages[name] = stages.get(name, 0.0) + spent
        for name, times in query.runs.items():
            runs[name] = runs.get(name, 0) + times
    return Query(
        latency_ms=sum(q.latency_ms for q in queries),
        stages_ms=stages,
        macs=sum(q.macs for q in queries),
        frames=sum(q.frames for q in queries),
        decisions=sum(q.decisions for q in queries),
        ready=all(q.ready for q in queries),
        entries=sum(q.entries for q in queries),
        runs=runs,
    )


def run_offline(setting: Setting) -> Samples:
    """Throughput: one stream and one set of engines a core, pictures in memory, as fast as they go."""
    with closing(setting.open()) as source:
        frames, period = keep_in_memory(source, setting.bundle.spec.window_ns)
    workers = count_cores()
    options = setting.request.options(setting.request.threads or 1)
    pulls = []
    for number in range(workers):
        memory = MemorySource(frames, period, phase=number * len(frames) // workers)
        engines = load_engines(setting.bundle, setting.request.engine, options)
        pulls.append(Pull(setting.stream(period, engines), memory))
    for pull in pulls:
        warm_up(pull.query, setting)
    samples, budget, lock = Samples(), Budget(setting), threading.Lock()
    failed: list[BaseException] = []

    def work(pull: Pull) -> None:
        try:
            while not failed:
                with lock:
                    if not budget.goes_on(samples.decisions):
                        return
                query = pull.query()
                with lock:
                    samples.add(query, setting.now_s())
        except BaseException as error:  # handed to the caller, whatever it is
            failed.append(error)

    start = time.perf_counter()
    threads = [threading.Thread(target=work, args=(pull,), name="vidprism-offline") for pull in pulls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - start
    if failed:
        raise failed[0]
    samples.extra = {
        "workers": workers,
        "threads_a_graph": options.threads,
        "wall_s": spent,
        "video_s": samples.frames * period / 1e9,
    }
    return samples


def run_streaming(setting: Setting) -> Samples:
    """A camera in real time; a query is a decision, its latency its age: now minus the newest capture in it."""
    request, spec = setting.request, setting.bundle.spec
    camera = PacedCamera(setting.open())
    stream = setting.stream(camera.period_ns)
    samples, budget = Samples(), None
    deadline_ms = request.deadline_ms or spec.hop_s * 1e3
    before: dict[str, int] = {}
    began_ns = last_ns = 0
    start = time.perf_counter()
    with Feed(camera) as feed:
        for frame in feed:
            waited_ms = (time.monotonic_ns() - frame.t_ns) / 1e6
            query = stream.push(frame, camera.take_decode_ms(frame.t_ns))
            if query is None:
                continue
            query.latency_ms, last_ns = (time.monotonic_ns() - frame.t_ns) / 1e6, frame.t_ns
            query.stages_ms["before the push"] = waited_ms
            if budget is None:
                setting.warmup.append(query.latency_ms)
                if query.ready and (time.perf_counter() - start) * 1e3 >= request.warmup_ms:
                    budget, before, began_ns = Budget(setting), _count(feed), frame.t_ns
                continue
            samples.add(query, setting.now_s())
            if not budget.goes_on(len(samples.latency_ms)):
                break
        counts = _count(feed)
    samples.extra = tell_streaming(samples, deadline_ms, before, counts)
    samples.extra["decisions_due"] = round((last_ns - began_ns) / spec.hop_ns)
    return samples


def _count(feed: Feed) -> dict[str, int]:
    return {"read": feed.counts.read, **{f"dropped {reason}": n for reason, n in feed.counts.dropped.items()}}


def tell_streaming(
    samples: Samples, deadline_ms: float, before: dict[str, int], after: dict[str, int]
) -> dict[str, Any]:
    """Deadline misses and drops of the measured stretch."""
    missed = sum(age > deadline_ms for age in samples.latency_ms)
    changed = {name: number - before.get(name, 0) for name, number in after.items()}
    return {
        "deadline_ms": deadline_ms,
        "missed": missed,
        "captured": changed.pop("read"),
        "dropped": {name.removeprefix("dropped "): n for name, n in changed.items() if n},
    }


def tell_rates(samples: Samples) -> dict[str, float]:
    """What follows from the sums of a scenario's own numbers, for the run as a whole."""
    extra = samples.extra
    if "wall_s" in extra:
        wall_s = extra["wall_s"]
        return {
            "decisions_per_s": samples.decisions / wall_s,
            "frames_per_s": samples.frames / wall_s,
            "video_s_per_s": extra["video_s"] / wall_s,
        }
    if "missed" in extra:
        return {"missed_share": extra["missed"] / max(len(samples.latency_ms), 1)}
    return {}


#: name → what runs it. The names and rules are those of :data:`~vidprism_edge.benchmark.request.SCENARIOS`.
RUN: dict[str, Callable[[Setting], Samples]] = {
    "single-stream": run_single_stream,
    "multi-stream": run_multi_stream,
    "offline": run_offline,
    "streaming": run_streaming,
}

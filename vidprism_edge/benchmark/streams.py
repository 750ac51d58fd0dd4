"""One camera and its session, measured: where the time between two decisions goes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from vidprism_edge.benchmark.request import Request
from vidprism_edge.benchmark.samples import Query
from vidprism_edge.bundle import Bundle
from vidprism_edge.errors import BenchmarkError
from vidprism_edge.runtimes.engines import Engine
from vidprism_edge.runtimes.streaming.geometry import Scene
from vidprism_edge.runtimes.streaming.policy import ContentPolicy, Map, Plan, Policy
from vidprism_edge.runtimes.streaming.prediction import Prediction
from vidprism_edge.runtimes.streaming.session import DECISION_GRAPHS, Session
from vidprism_edge.runtimes.streaming.source import CountedSource, Frame, Source
from vidprism_edge.runtimes.streaming.source_synthetic import DEFAULT_RATE

#: Pictures that the offline scenario keeps in memory; at least a window of them.
MEMORY_BYTES = 256 << 20


class TimedPolicy:
    """A policy with a clock: what the gates and the choice of regions cost."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        #: Nanoseconds inside the sampler's call and outside of it.
        self.inside_ns = self.outside_ns = 0

    def reset(self, scene: Scene, small: Scene, t_ns: int) -> None:
        """See :class:`Policy`."""
        self._policy.reset(scene, small, t_ns)

    def observe(self, stats: Map, t_ns: int) -> Plan:
        """See :class:`Policy`; the sampler calls it."""
        start = time.perf_counter_ns()
        plan = self._policy.observe(stats, t_ns)
        self.inside_ns += time.perf_counter_ns() - start
        return plan

    def read_maps(self, saliency: Map, motion: Map, t_ns: int) -> None:
        """See :class:`Policy`."""
        start = time.perf_counter_ns()
        self._policy.read_maps(saliency, motion, t_ns)
        self.outside_ns += time.perf_counter_ns() - start

    def ran(self, stream: str, t_ns: int) -> None:
        """See :class:`Policy`."""
        self._policy.ran(stream, t_ns)


class Stream:
    """A session whose time is accounted for: frames go in, a :class:`Query` comes out with each decision."""

    def __init__(
        self, bundle: Bundle, engines: Mapping[str, Engine], request: Request, period_ns: int | None
    ) -> None:
        self.policy = TimedPolicy(ContentPolicy(bundle.spec, always_open=request.gates == "open"))
        self.session = Session(bundle, engine=engines, policy=self.policy, period_ns=period_ns)
        self._pushed_ms = self._decode_ms = 0.0
        self._frames = 0

    def push(self, frame: Frame, decode_ms: float) -> Query | None:
        """Push a frame → the query that it completed, whose latency is all pushes since the query before."""
        start = time.perf_counter_ns()
        made = self.session.push(frame)
        self._pushed_ms += (time.perf_counter_ns() - start) / 1e6
        self._decode_ms += decode_ms
        self._frames += 1
        return self.account(made) if made else None

    def account(self, made: Sequence[Prediction]) -> Query:
        """Where the time went since the decisions before."""
        stages = {"decode": self._decode_ms}
        runs: dict[str, int] = {}
        for prediction in made:
            for name, spent in prediction.stages_ms.items():
                stages[name] = stages.get(name, 0.0) + spent
            for name, times in prediction.experts_fired.items():
                runs[name] = runs.get(name, 0) + times
        inside, outside = self.policy.inside_ns / 1e6, self.policy.outside_ns / 1e6
        stages["sample"] = stages.get("sample", 0.0) - inside
        stages["gates"] = inside + outside
        stages["python"] = self._pushed_ms - sum(v for n, v in stages.items() if n != "decode")
        query = Query(
            latency_ms=self._pushed_ms,
            stages_ms=stages,
            macs=sum(p.macs for p in made),
            frames=self._frames,
            decisions=len(made),
            ready=made[-1].ready,
            # a frame's push, sample and gates; an expert's graph and the analyzer's maps; a decision's graphs
            entries=3 * self._frames + 2 * sum(runs.values()) + len(DECISION_GRAPHS) * len(made),
            runs=runs,
        )
        self._pushed_ms = self._decode_ms = 0.0
        self._frames = self.policy.inside_ns = self.policy.outside_ns = 0
        return query


class Pull:
    """A stream that reads its own source: the next decision on demand, decoding apart."""

    def __init__(self, stream: Stream, source: Source) -> None:
        self.stream, self._source = stream, source

    def query(self) -> Query:
        """Read and push frames up to the next decision."""
        while True:
            start = time.perf_counter_ns()
            frame = self._source.read()
            decode_ms = (time.perf_counter_ns() - start) / 1e6
            if frame is None:
                raise BenchmarkError(
                    "the source ended during the benchmark; give a longer one, or a file, which is looped"
                )
            done = self.stream.push(frame, decode_ms)
            if done is not None:
                return done


class MemorySource(CountedSource):
    """Pictures in memory, there and back without end, so that no cut starts a window anew; ``phase`` frames ahead."""

    def __init__(self, frames: Sequence[Frame], period_ns: int, phase: int = 0) -> None:
        super().__init__("memory", period_ns)
        self._pixels = [frame.pixels for frame in frames]
        self._pixels += self._pixels[-2:0:-1]
        self._period, self._phase = period_ns, phase

    def read(self) -> Frame:
        """The next picture."""
        k = self._index
        return self._frame(self._pixels[(k + self._phase) % len(self._pixels)], k * self._period)


def keep_in_memory(source: Source, window_ns: int) -> tuple[list[Frame], int]:
    """Read pictures until they fill the memory set aside for them, and cover a window → them, and their period."""
    period = source.period_ns or round(1e9 / DEFAULT_RATE)
    frames: list[Frame] = []
    held = 0
    while len(frames) * period <= window_ns or held < MEMORY_BYTES:
        frame = source.read()
        if frame is None or (frame.reset is not None and frames):
            break  # the end, or the loop's start
        pixels = frame.pixels
        held += pixels.nbytes if isinstance(pixels, np.ndarray) else sum(p.nbytes for p in pixels.planes)
        frames.append(frame)
    if not frames:
        raise BenchmarkError(f"source {source.name} gave no picture; give one that does")
    return frames, period

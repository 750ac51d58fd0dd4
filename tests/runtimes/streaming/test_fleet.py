"""Several cameras in one process: turns, ends, and the same answers as alone."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from vidprism_edge.bundle import Bundle, GraphInfo
from vidprism_edge.cli.channel import Channel, PlayOptions
from vidprism_edge.cli.fleet import FleetPlayer
from vidprism_edge.runtimes.engines import Engine, load_engines
from vidprism_edge.runtimes.streaming.feed import Feed
from vidprism_edge.runtimes.streaming.fleet import Fleet, Member
from vidprism_edge.runtimes.streaming.session import Session, stream
from vidprism_edge.runtimes.streaming.source import Frame

PERIOD = 40_000_000


class Scripted:
    """Pictures that are there at once, until ``count``, or until it is closed."""

    def __init__(self, seed: int, count: int, *, live: bool = False) -> None:
        self.name, self.live, self.period_ns = f"camera {seed}", live, PERIOD
        self.lost: dict[str, int] = {}
        self.events: dict[str, int] = {}
        self._rng = np.random.default_rng(seed)
        self._count, self._index = count, 0
        self._closed = threading.Event()

    def read(self) -> Frame | None:
        if self._index >= self._count or self._closed.is_set():
            return None
        self._index += 1
        picture = self._rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        return Frame(picture, (self._index - 1) * PERIOD, self._index - 1)

    def close(self) -> None:
        self._closed.set()


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return Bundle.open(tiny_bundle)


def test_together_each_gets_what_it_gets_alone_and_turns_are_taken(bundle):
    counts = (70, 40, 70)
    engines, fleet = load_engines(bundle, "onnxruntime"), Fleet()
    members = [
        Member(
            Feed(Scripted(n, count), on_change=fleet.wake), Session(bundle, engine=engines, period_ns=PERIOD)
        )
        for n, count in enumerate(counts)
    ]
    order, made = [], {n: [] for n in range(len(counts))}
    for number, _, predictions in fleet.run(members):
        order.append(number)
        made[number] += predictions
    assert order[: 3 * 40] == [0, 1, 2] * 40, "whoever was served longest ago is next"
    for number, count in enumerate(counts):
        alone = Session(bundle, period_ns=PERIOD)
        with Feed(Scripted(number, count)) as feed:
            expected = [p for _, found in stream(alone, feed) for p in found]
        assert [p.scores for p in made[number]] == [p.scores for p in expected]
        summary = members[number].session.summarise(members[number].feed)
        assert summary.frames == {"read": count, "delivered": count, "dropped": {}}


class Endless(Scripted):
    """A live camera that always has a picture, thousands a second: each keeps its newest."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, 10**9)
        self._pace = threading.Event()

    def read(self) -> Frame | None:
        self._pace.wait(0.001)
        return super().read()


def test_under_overload_nobody_starves_and_drops_are_counted(bundle):
    engines, fleet = load_engines(bundle, "onnxruntime"), Fleet()
    feeds = [Feed(Endless(n), drop_policy="drop-oldest", on_change=fleet.wake) for n in range(3)]
    members = [Member(feed, Session(bundle, engine=engines, period_ns=PERIOD)) for feed in feeds]
    served = [0, 0, 0]
    for number, _, _ in fleet.run(members):
        served[number] += 1
        if sum(served) >= 150:
            break
    for feed in feeds:
        feed.close()
    assert min(served) >= 40
    for feed in feeds:
        counts = feed.counts.as_dict()
        assert counts["read"] == counts["delivered"] + sum(counts["dropped"].values())


def test_files_begin_a_share_of_a_hop_apart_and_cameras_when_they_do(bundle):
    sources = [Scripted(0, 1), Scripted(1, 1), Scripted(2, 1, live=True), Scripted(3, 1)]
    player = FleetPlayer(bundle, sources, PlayOptions(drop_policy="drop-oldest"))
    hop_s = bundle.spec.hop_s
    assert [c.feed.delay_s for c in player.channels] == pytest.approx([0.0, hop_s / 4, 0.0, hop_s * 3 / 4])
    for channel in player.channels:
        channel.feed.close()


class Restless(Scripted):
    """Still for two seconds, then a square that wanders for two: gates open and close, regions come and go."""

    def read(self) -> Frame | None:
        frame = super().read()
        if frame is None:
            return None
        picture = np.full((48, 64, 3), 90, np.uint8)
        if frame.index // 50 % 2:
            x, y = frame.index * 3 % 48, frame.index * 2 % 32
            picture[y : y + 16, x : x + 16] = 220
        return Frame(picture, frame.t_ns, frame.index)


class Made(Engine):
    """Answers zeros at once; the analyzer's maps point at the four corners in turn."""

    def __init__(self, graph: GraphInfo) -> None:
        super().__init__(graph)
        self._answer = {output.name: np.zeros(output.shape, np.float32) for output in graph.outputs}
        self._runs = 0

    def infer_impl(self, inputs):
        self._runs += 1
        if self.graph.name == "analyzer":
            corner = slice(0, 4) if self._runs // 10 % 2 else slice(-4, None)
            for found in self._answer.values():
                found[:] = 0.0
                found[0, corner, slice(0, 4) if self._runs // 20 % 2 else slice(-4, None)] = 1.0
        return self._answer


def test_memory_is_constant(bundle):
    """What two cameras keep, decide and count: nothing grows with the number of frames.

    Pictures are counted apart, as there are some more or less on their way; so is what numpy keeps of what was freed.
    """
    engines, fleet = {name: Made(graph) for name, graph in bundle.graphs.items()}, Fleet()
    channels = [Channel(bundle, Restless(n, 10**9), PlayOptions(), engines=engines) for n in range(2)]
    served = fleet.run([Member(c.feed, c.session) for c in channels])

    def held_after(frames: int) -> tracemalloc.Snapshot:
        for _ in range(2 * frames):
            number, _, predictions = next(served)
            for prediction in predictions:
                channels[number].latency_ms(0)
                channels[number].take(prediction)
        gc.collect()
        return tracemalloc.take_snapshot()

    tracemalloc.start()
    try:
        # every place that the square comes to has its region by then, and each region its matrices
        before = held_after(1200)
        after = held_after(1200)
    finally:
        tracemalloc.stop()
        for channel in channels:
            channel.feed.close()

    def grown(*apart: str) -> int:
        others = [tracemalloc.Filter(False, pattern) for pattern in (tracemalloc.__file__, *apart)]
        traces = (taken.filter_traces(others) for taken in (after, before))
        now, then = (sum(found.size for found in kept.statistics("filename")) for kept in traces)
        return now - then

    assert grown(__file__, f"{Path(np.__file__).parent}/*") < 4 * 1024
    assert grown() < 1 << 20, "2400 pictures are 22 MB"

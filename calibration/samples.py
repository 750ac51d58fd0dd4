"""Calibration inputs for every graph: the user's own video, played through the very session that runs on the device.

What a graph is given there, tokens, masks, ages and states included, is what is recorded; nothing is random or made up.
Each clip is played twice: as it is, and with experts closed by chance, so that every gate state is met. Of all calls,
``count`` a graph are kept, spread over the gate states.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from vidprism_edge.bundle import Arrays, Bundle, hash_file
from vidprism_edge.calibration.data import VIDEO_SUFFIXES, Entry, play, read_dataset, read_folder
from vidprism_edge.errors import SourceError, UsageError
from vidprism_edge.runtimes.engines import Engine, EngineOptions, load_engines
from vidprism_edge.runtimes.streaming.policy import ContentPolicy, Plan
from vidprism_edge.runtimes.streaming.session import DECISION_GRAPHS, Session
from vidprism_edge.spec import EXPERTS, ModelSpec

SAMPLES_SCHEMA = 1
#: Fewer samples a graph than this are said to be few.
FEW = 300
#: Calls seen for each sample kept before the playing stops; more data would hardly change the choice.
PLENTY = 4


class SampleId(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kept call: ``id`` is ``clip/pass/call``, ``state`` the gate state, ``sha256`` that of its input arrays."""

    id: str
    state: str
    sha256: str


class SamplesRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the bundle keeps of the calibration data: enough to check that a repetition saw the same."""

    schema: int = SAMPLES_SCHEMA
    seed: int
    count: int
    left_out: tuple[str, ...]
    #: sha256 of every video file played, by its name.
    videos: dict[str, str]
    skipped: dict[str, str]
    graphs: dict[str, tuple[SampleId, ...]]

    def warning(self) -> str | None:
        """One line where there are few samples, None where there are enough."""
        fewest = min(self.graphs, key=lambda g: len(self.graphs[g]))
        number = len(self.graphs[fewest])
        if number >= FEW:
            return None
        return (
            f"graph {fewest} has {number} calibration samples, fewer than {FEW}: scales may not cover what a device "
            "sees; give more or longer videos"
        )


@dataclass(slots=True)
class Samples:
    """``arrays``: graph → inputs of its kept calls, in the order of ``record.graphs``."""

    arrays: dict[str, list[Arrays]]
    record: SamplesRecord


def find_videos(data: Path, leave_out: Sequence[str] = ()) -> tuple[Entry, ...]:
    """The clips behind ``--calib-data``: a folder with a CSV, a plain folder of videos, a pattern, or one video.

    ``leave_out``: subjects whose clips are not taken. Errors: :class:`UsageError`.
    """
    if data.is_file() and data.suffix.lower() in VIDEO_SUFFIXES:
        return (Entry(data, ""),)
    if data.suffix == ".csv" or (data.is_dir() and any(data.glob("*.csv"))):
        entries = read_dataset(data).entries
        kept = tuple(e for e in entries if e.subject is None or e.subject not in leave_out)
        if not kept:
            raise UsageError(f"every clip of {data} is of a left-out subject; give clips of others")
        return kept
    return read_folder(data, "")


def hash_arrays(arrays: Mapping[str, npt.NDArray[np.float32]]) -> str:
    """Return the sha256 of named arrays: names, shapes, types and values."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}{value.shape}{value.dtype}".encode())
        digest.update(value.data)
    return digest.hexdigest()


@dataclass(slots=True)
class _Kept:
    """The chosen calls of one graph, in bounded memory.

    Every call draws a key; when there are too many, the state that has the most gives up the one with the lowest. What
    is left is spread over the states as evenly as they allow, and within a state by chance.
    """

    count: int
    seen: int = 0
    states: dict[str, list[tuple[float, int, str, Arrays]]] = field(default_factory=dict)

    def offer(self, key: float, state: str, name: str, inputs: Mapping[str, npt.NDArray[np.float32]]) -> None:
        self.seen += 1
        heap = self.states.setdefault(state, [])
        fullest = max(map(len, self.states.values()))
        if self._full and len(heap) == fullest and key <= heap[0][0]:
            return  # it would be the one to go: not even copied
        heapq.heappush(heap, (key, self.seen, name, {n: v.copy() for n, v in inputs.items()}))
        if sum(map(len, self.states.values())) > self.count:
            heapq.heappop(max(self.states.values(), key=len))

    @property
    def _full(self) -> bool:
        return sum(map(len, self.states.values())) >= self.count

    def chosen(self) -> list[tuple[str, str, Arrays]]:
        """(state, id, inputs) of every kept call, in the order in which they came."""
        kept = [(number, s, name, a) for s, heap in self.states.items() for _, number, name, a in heap]
        return [(state, name, arrays) for _, state, name, arrays in sorted(kept, key=lambda k: k[0])]


class _Listener:
    """Knows where the stream is, and hands every call to the graph's choice."""

    def __init__(self, spec: ModelSpec, count: int, graphs: Sequence[str], rng: np.random.Generator) -> None:
        self._spec, self._rng = spec, rng
        self._numbers = itertools.count()
        self.kept = {name: _Kept(count) for name in graphs}
        self.clip = ""
        self.first = True
        self._state = ""

    def begin(self, clip: str) -> None:
        self.clip, self._numbers = clip, itertools.count()

    def hear(self, graph: str, inputs: Mapping[str, npt.NDArray[np.float32]]) -> None:
        if graph == DECISION_GRAPHS[0]:
            self._state = gate_state(self._spec, inputs, first=self.first)
        if graph in DECISION_GRAPHS:
            state = self._state
        elif graph == "temporal":
            state = "warm" if any(v.any() for n, v in inputs.items() if n != "frame") else "cold"
        else:
            state = "first" if self.first else "steady"
        self.kept[graph].offer(self._rng.random(), state, f"{self.clip}/{next(self._numbers)}", inputs)


def gate_state(spec: ModelSpec, inputs: Mapping[str, npt.NDArray[np.float32]], *, first: bool) -> str:
    """Name the gate state of a decision's inputs: the experts present, the stale ones, first window or steady."""
    present = []
    for expert in EXPERTS:
        mask = inputs[f"{expert}_mask"] > 0
        if mask.any():
            newest = float(inputs[f"{expert}_meta"][..., 0][mask].min())
            present.append(f"{expert}(stale)" if newest >= spec.window_s else expert)
    return f"{'+'.join(present) or 'none'}.{'first' if first else 'steady'}"


class _Recorder(Engine):
    """An engine that lets a listener hear what it is given."""

    def __init__(self, inner: Engine, listener: _Listener) -> None:
        super().__init__(inner.graph)
        self._inner, self._listener = inner, listener

    def infer_impl(self, inputs: Mapping[str, npt.NDArray[np.float32]]) -> Arrays:
        self._listener.hear(self.graph.name, inputs)
        return self._inner.infer_impl(inputs)


class _ClosingPolicy(ContentPolicy):
    """The runtime's policy with some experts closed from some moment on, as if their gates had found nothing."""

    def __init__(self, spec: ModelSpec, closed: Mapping[str, int]) -> None:
        super().__init__(spec)
        self._closed = closed

    def observe(self, stats: npt.NDArray[np.float32], t_ns: int) -> Plan:
        plan = super().observe(stats, t_ns)
        for name, since_ns in self._closed.items():
            if t_ns >= since_ns:
                plan.intervals[name] = 0
        return plan


def _draw_closed(spec: ModelSpec, rng: np.random.Generator) -> Iterator[dict[str, int]]:
    """Endless subsets of experts to close, each as often as the others, from a moment of the first two windows on."""
    subsets = [s for n in range(1, len(EXPERTS) + 1) for s in itertools.combinations(EXPERTS, n)]
    while True:
        for number in rng.permutation(len(subsets)):
            yield {e: int(rng.choice([0.0, rng.uniform(0.5, 2.0)]) * spec.window_ns) for e in subsets[number]}


def collect_samples(
    bundle: Bundle,
    data: Path | Sequence[Entry],
    *,
    count: int = FEW,
    seed: int = 0,
    leave_out: Sequence[str] = (),
    engine: str = "onnxruntime",
    threads: int = 0,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Samples:
    """Play the data through ``bundle``'s graphs on ``engine`` and keep up to ``count`` calls of every graph.

    The same data, bundle and seed give the same samples. Videos that do not decode are skipped and recorded. Errors:
    :class:`UsageError` where there is no video, or none that decodes, or ``count`` is not positive.
    """
    if count < 1:
        raise UsageError(f"--calib-samples is {count}; expected 1 or more")
    entries = list(data) if not isinstance(data, Path) else list(find_videos(data, leave_out))
    rng = np.random.default_rng(seed)
    order = [entries[i] for i in rng.permutation(len(entries))]
    listener = _Listener(bundle.spec, count, list(bundle.graphs), rng)
    draws = _draw_closed(bundle.spec, rng)
    engines = {
        name: _Recorder(inner, listener)
        for name, inner in load_engines(bundle, engine, EngineOptions(threads)).items()
    }
    videos: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for done, entry in enumerate(order):
        progress(done, len(order))
        if all(k.seen >= PLENTY * count for k in listener.kept.values()):
            break
        try:
            for closed in ({}, next(draws)):
                _play(bundle, engines, listener, entry, closed)
        except SourceError as error:
            skipped[entry.path.name] = str(error)
        else:
            videos[entry.path.name] = hash_file(entry.path)
    progress(len(order), len(order))
    if not videos:
        raise UsageError(f"none of the {len(order)} calibration videos decodes; give videos that do")
    return _finish(listener, SamplesRecord(
        seed=seed, count=count, left_out=tuple(leave_out), videos=videos, skipped=skipped, graphs={},
    ))  # fmt: skip


def _play(
    bundle: Bundle,
    engines: Mapping[str, Engine],
    listener: _Listener,
    entry: Entry,
    closed: Mapping[str, int],
) -> None:
    """One pass over one clip."""
    listener.begin(f"{entry.path.name}/{'-'.join(closed) or 'all'}")
    with play(entry) as (frames, period_ns):
        policy = _ClosingPolicy(bundle.spec, closed)
        session = Session(bundle, engine=engines, policy=policy, period_ns=period_ns)
        for frame in frames:
            listener.first = frame.t_ns < bundle.spec.window_ns
            session.push(frame)
        session.finish()


def _finish(listener: _Listener, record: SamplesRecord) -> Samples:
    arrays: dict[str, list[Arrays]] = {}
    graphs: dict[str, tuple[SampleId, ...]] = {}
    for graph, kept in listener.kept.items():
        chosen = kept.chosen()
        arrays[graph] = [inputs for _, _, inputs in chosen]
        graphs[graph] = tuple(SampleId(name, state, hash_arrays(inputs)) for state, name, inputs in chosen)
    return Samples(arrays, msgspec.structs.replace(record, graphs=graphs))

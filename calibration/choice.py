"""Which precision each expert gets: candidates are made, timed side by side, and the fastest that is right wins.

An INT8 that is not faster than floating point is never kept, and a difference within noise goes to the more exact one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from vidprism_edge.bundle import Arrays, GraphInfo
from vidprism_edge.calibration.convert import KINDS, convert
from vidprism_edge.calibration.layers import Layer, compare_layers, sqnr_db, worst_layers
from vidprism_edge.calibration.recipes import GraphRecipe
from vidprism_edge.runtimes.engines import Engine, EngineOptions, load_engine

#: Signal to error ratio that every output of a graph must reach; 20 dB is an error of a tenth of the signal.
LEAST_DB = 20.0
#: A candidate must be this much faster than a more exact one to take its place.
NOISE = 0.03
ROUNDS = 15
#: Of the samples, each n-th is not calibrated on: errors and times are measured on those.
HELD_OUT = 8
#: Whether a graph on its engine agrees with the bundle's golden vectors within the tolerance of its precision.
Prove = Callable[[GraphInfo, Engine], bool]
#: Shares of an int8 graph's layers that are left in floating point, worst first, until it is right.
KEPT_SHARES = (0.1, 0.25)


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One graph in one precision on this machine. ``computes_in``: what the engine says that it really uses.

    ``proved``: it agrees with the golden vectors, whose inputs may lie outside what calibration saw.
    """

    recipe: GraphRecipe
    computes_in: str
    median_ms: float | None
    sqnr_db: float
    max_error: float
    cosine: float
    size_bytes: int
    proved: bool = True

    @property
    def right(self) -> bool:
        return self.sqnr_db >= LEAST_DB and self.proved


class GraphChoice(msgspec.Struct, frozen=True, kw_only=True):
    """A graph's candidates, the one chosen, and why."""

    graph: str
    candidates: tuple[Candidate, ...]
    chosen: int
    why: str

    @property
    def recipe(self) -> GraphRecipe:
        return self.candidates[self.chosen].recipe


@dataclass(slots=True)
class Made:
    """A candidate with its files and its engine."""

    info: GraphInfo
    root: Path
    engine: Engine
    candidate: Candidate


def split(samples: Sequence[Arrays]) -> tuple[list[Arrays], list[Arrays]]:
    """Samples to calibrate on, and those held out; a single one serves as both."""
    held = list(samples[::HELD_OUT])
    rest = [s for i, s in enumerate(samples) if i % HELD_OUT]
    return rest or held, held


class Chooser:
    """Makes and measures the candidates of one target. Files go below ``folder``, one folder a candidate."""

    def __init__(
        self, target: str, folder: Path, source: Path, threads: int, samples: Mapping[str, Sequence[Arrays]],
        prove: Prove = lambda *_: True,
    ) -> None:  # fmt: skip
        self._target, self._folder, self._source = target, folder, source
        self._options = EngineOptions(threads)
        self._samples, self._prove = samples, prove
        self._made = 0

    def make(self, graph: GraphInfo, recipe: GraphRecipe) -> Made:
        """Convert and compare with the reference graph on ONNX Runtime; not timed yet."""
        calibrate, held = split(self._samples.get(graph.name, ()))
        self._made += 1
        folder = self._folder / str(self._made)
        info = convert(self._target, graph, self._source / graph.file, recipe, calibrate, folder)
        root = self._source if info.is_reference else folder
        engine = load_engine(info, root / info.file, KINDS[self._target].engine, self._options)
        reference = load_engine(graph, self._source / graph.file, "onnxruntime", self._options)
        errors = compare(engine, reference, held) if held else (200.0, 0.0, 1.0)
        size = sum((root / file).stat().st_size for file, _ in info.files)
        candidate = Candidate(
            recipe=recipe, computes_in=engine.precision, median_ms=None,
            sqnr_db=errors[0], max_error=errors[1], cosine=errors[2], size_bytes=size,
            # fp32 is what is left where nothing else is right; the export proves it like every graph
            proved=recipe.precision == "fp32" or self._prove(info, engine),
        )  # fmt: skip
        return Made(info, root, engine, candidate)

    def layers(self, graph: GraphInfo, made: Made) -> list[Layer]:
        """Every heavy layer of a candidate against fp32."""
        _, held = split(self._samples[graph.name])
        return compare_layers(self._target, self._source / graph.file, made.root / made.info.file, held[:8])

    def choose(self, graph: GraphInfo) -> GraphChoice:
        """Make the candidates, time them interleaved, choose."""
        made = [m for m in self._candidates(graph) if _is_real(m)]
        held = split(self._samples[graph.name])[1][:4]
        medians = time_interleaved([m.engine for m in made], held, one_thread=self._options.threads == 1)
        candidates = tuple(
            msgspec.structs.replace(m.candidate, median_ms=ms) for m, ms in zip(made, medians, strict=True)
        )
        return decide(graph.name, candidates)

    def _candidates(self, graph: GraphInfo) -> Iterator[Made]:
        for precision in KINDS[self._target].precisions:
            recipe = GraphRecipe(precision=precision)
            made = self.make(graph, recipe)
            yield made
            for share in KEPT_SHARES if recipe.is_int8 else ():
                if made.candidate.right:
                    break
                layers = self.layers(graph, made)
                keep = worst_layers(layers, math.ceil(share * len(layers)))
                recipe = msgspec.structs.replace(recipe, keep=tuple(sorted({*recipe.keep, *keep})))
                made = self.make(graph, recipe)
                yield made


def _is_real(made: Made) -> bool:
    """Whether the engine computes in what was asked for; a processor without it would repeat another candidate."""
    return made.engine.precision == made.candidate.recipe.precision


def compare(engine: Engine, reference: Engine, samples: Sequence[Arrays]) -> tuple[float, float, float]:
    """Run both on the samples → the worst output's SQNR (dB), largest error and cosine."""
    pairs = [(engine.infer(s), reference.infer(s)) for s in samples]
    ratio, largest, cosine = 200.0, 0.0, 1.0
    for name in pairs[0][1]:
        value = np.stack([a[name] for a, _ in pairs]).astype(np.float64)
        exact = np.stack([b[name] for _, b in pairs]).astype(np.float64)
        ratio = min(ratio, sqnr_db(value, exact))
        largest = max(largest, float(np.abs(value - exact).max()))
        norm = float(np.linalg.norm(value) * np.linalg.norm(exact))
        cosine = min(cosine, float(np.vdot(value, exact)) / norm if norm > 0 else 1.0)
    return ratio, largest, cosine


def time_interleaved(
    engines: Sequence[Engine], samples: Sequence[Arrays], *, one_thread: bool = False, rounds: int = ROUNDS
) -> list[float]:
    """Median milliseconds of one run of each engine; they take turns, so that what disturbs one disturbs all.

    With one thread it is the processor's time that counts, which other programs lengthen least.
    """
    clock = time.process_time_ns if one_thread else time.perf_counter_ns
    spent: list[list[float]] = [[] for _ in engines]
    for number in range(rounds + 2):
        for sample in samples:
            for i, engine in enumerate(engines):
                start = clock()
                engine.infer(sample)
                if number >= 2:  # the first rounds warm up
                    spent[i].append((clock() - start) / 1e6)
    return [float(np.median(s)) for s in spent]


def decide(graph: str, candidates: tuple[Candidate, ...]) -> GraphChoice:
    """The fastest candidate that is right; a more exact one wins where the difference is within noise."""
    right = [i for i, c in enumerate(candidates) if c.right]
    fastest = min(right, key=lambda i: candidates[i].median_ms or 0.0)
    limit = (candidates[fastest].median_ms or 0.0) * (1 + NOISE)
    near = [i for i in right if (candidates[i].median_ms or 0.0) <= limit]
    chosen = max(near, key=lambda i: candidates[i].sqnr_db)
    return GraphChoice(graph=graph, candidates=candidates, chosen=chosen, why=_explain(candidates, chosen))


def _explain(candidates: tuple[Candidate, ...], chosen: int) -> str:
    best, exact = candidates[chosen], candidates[0]
    parts = [f"{best.recipe.precision}: {(exact.median_ms or 0) / (best.median_ms or 1):.2f} × fp32"]
    for i, other in enumerate(candidates):
        if i == chosen or other.recipe.precision == "fp32":
            continue
        name = other.recipe.precision + (f" (keeps {len(other.recipe.keep)})" if other.recipe.keep else "")
        if not other.right:
            why = f"{other.sqnr_db:.0f} dB" if other.proved else "golden vectors"
            parts.append(f"{name} is wrong ({why})")
        elif (other.median_ms or 0) > (best.median_ms or 0) * (1 + NOISE):
            parts.append(f"{name} is slower ({(exact.median_ms or 0) / (other.median_ms or 1):.2f} ×)")
        else:
            parts.append(f"{name} is no faster and less exact")
    return "; ".join(parts)


def fall_back(choice: GraphChoice) -> GraphChoice | None:
    """The next fastest right candidate that is more exact than the chosen one; None where there is none."""
    now = choice.candidates[choice.chosen]
    better = [i for i, c in enumerate(choice.candidates) if c.right and c.sqnr_db > now.sqnr_db + 1e-9]
    if not better:
        return None
    chosen = min(better, key=lambda i: choice.candidates[i].median_ms or 0.0)
    why = f"{choice.why}; then {choice.candidates[chosen].recipe.precision}, because the accuracy gate was missed"
    return msgspec.structs.replace(choice, chosen=chosen, why=why)

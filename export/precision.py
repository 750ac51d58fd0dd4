"""The stage that gives each target its graphs: converted, chosen by measurement where asked, and held to the gate.

Nothing here knows a quantiser: :mod:`vidprism_edge.calibration` converts and measures, this decides and reports.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from vidprism_edge.bundle import Arrays, Bundle, GraphInfo, Manifest, hash_file
from vidprism_edge.calibration.choice import LEAST_DB, Candidate, Chooser, GraphChoice, Made, fall_back
from vidprism_edge.calibration.convert import KINDS, check_precision
from vidprism_edge.calibration.data import Entry, Reader
from vidprism_edge.calibration.evaluation import Judged, judge
from vidprism_edge.calibration.layers import worst_layers
from vidprism_edge.calibration.recipes import GraphRecipe, Recipe
from vidprism_edge.calibration.samples import FEW, collect_samples, find_videos
from vidprism_edge.errors import ParityError, UsageError
from vidprism_edge.export.frontier import write_report
from vidprism_edge.export.verification import replay_golden
from vidprism_edge.runtimes.engines import Engine, EngineOptions, load_engines

Progress = Callable[[str, int, int], None]
RECIPE_FILE, SAMPLES_FILE = "calibration/recipe.json", "calibration/samples.json"
#: Clips that the gate plays where no subject was left out of training.
GATE_CLIPS = 40
#: Share of the gate's decisions whose label ``auto`` keeps, beside top-1, which on few clips says little.
AGREEMENT = 0.99


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """What the bundle says on whole clips, against fp32. Top-1 is None where the clips have no labels."""

    target: str
    clips: int
    decisions: int
    agreement: float
    top1: float | None
    top1_fp32: float | None
    max_drop: float
    #: Whose clips: subjects that neither training nor calibration has seen, or "all".
    subjects: tuple[str, ...]
    passed: bool

    def describe(self) -> str:
        """One line for people, with the resolution that so many clips have."""
        told = f"{self.target}: {self.agreement:.2%} of {self.decisions} decisions have the label of fp32"
        if self.top1 is not None and self.top1_fp32 is not None:
            told += f"; top-1 {self.top1:.1%} against {self.top1_fp32:.1%} on {self.clips} clips"
            told += f" (one clip is {1 / self.clips:.1%})"
        return told


class TargetReport(msgspec.Struct, frozen=True, kw_only=True):
    """One target's part of ``reports/precision.json``. Times are there only where they were measured (``auto``)."""

    target: str
    engine: str
    precision: str
    #: of one graph; with one, times are the processor's
    threads: int
    graphs: tuple[GraphChoice, ...]
    gate: Gate | None


@dataclass(frozen=True, slots=True)
class PrecisionPlan:
    """What was asked for. ``precision``: one for all graphs, or ``auto``; ``recipe`` takes its place."""

    precision: str = "fp32"
    recipe: Recipe | None = None
    data: Path | None = None
    samples: int = FEW
    seed: int = 0
    max_drop: float = 0.01
    threads: int = 0
    #: subjects that training did not see: calibration leaves them out too, the gate plays them
    left_out: tuple[str, ...] = ()

    def check(self, targets: Sequence[str]) -> None:
        """Raise :class:`UsageError` before any work for what cannot be done."""
        ours = [t for t in targets if t in KINDS]
        if self.recipe is not None:
            if missing := [t for t in ours if t not in self.recipe.targets]:
                raise UsageError(
                    f"the recipe has nothing for target {', '.join(missing)}; add it, or leave it out"
                )
        elif self.precision != "auto":
            for target in ours:
                check_precision(target, self.precision)
        if not 0 <= self.max_drop <= 1:
            raise UsageError(f"--max-drop is {self.max_drop:g}; expected a share between 0 and 1")
        if self.samples < 1:
            raise UsageError(f"--calib-samples is {self.samples}; expected 1 or more")
        if ours and self.needs_data and self.data is None:
            what = "the recipe" if self.recipe is not None else f"--precision {self.precision}"
            raise UsageError(
                f"{what} needs --calib-data with video of yours: scales from random data would be wrong on real ones"
            )
        if self.data is not None:
            find_videos(self.data, self.left_out)

    @property
    def needs_data(self) -> bool:
        if self.recipe is not None:
            return self.recipe.needs_data
        return self.precision == "auto" or self.precision.startswith("int8")

    @property
    def trivial(self) -> bool:
        """Whether the graphs are plain fp32: no data are played, no gate is needed beside parity."""
        return self.recipe is None and self.precision == "fp32"

    def recipe_of(self, target: str, graph: str) -> GraphRecipe:
        """The recipe of a graph, where it is not to be chosen. A graph that a recipe does not name stays fp32."""
        if self.recipe is not None:
            return self.recipe.targets[target].get(graph, GraphRecipe())
        return GraphRecipe(precision=self.precision)  # type: ignore[arg-type]


@dataclass(slots=True)
class _Work:
    """One run of the stage."""

    folder: Path
    bundle: Bundle
    plan: PrecisionPlan
    progress: Progress
    tell: Callable[[str], None]
    samples: Mapping[str, Sequence[Arrays]] = field(default_factory=dict)
    #: the gate's clips, found once, and whose they are; fp32's verdict on them, made once, and its engines
    entries: Sequence[Entry] = ()
    subjects: tuple[str, ...] = ()
    exact: list[Judged] = field(default_factory=list)
    reference: Mapping[str, Engine] = field(default_factory=dict)

    def prove(self, graph: GraphInfo, engine: Engine) -> bool:
        """Whether a graph passes what the whole bundle has to pass at the end."""
        return all(output.passed for output in replay_golden(self.bundle, graph, engine.infer))


def add_target_graphs(
    folder: Path,
    manifest: Manifest,
    plan: PrecisionPlan,
    progress: Progress,
    tell: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Write the graphs of every target that is made here into an fp32 bundle's folder; return the new manifest.

    Errors: :class:`ParityError` where a graph or the whole is further from fp32 than the gate allows.
    """
    targets = [t for t in dict.fromkeys(manifest.targets) if t in KINDS]
    if not targets or (plan.trivial and not any(KINDS[t].own_fp32 for t in targets)):
        return manifest
    work = _Work(folder, Bundle.open(folder), plan, progress, tell)
    files: list[str] = []
    if plan.data is not None and not plan.trivial:
        files += _collect(work)
    if not plan.trivial and not manifest.trained:
        tell("nothing is trained yet: graphs are held to their errors against fp32, labels to nothing")
    infos, reports = [], []
    for target in targets:
        made, report = _make_target(work, target)
        infos += [info for info in made if not info.is_reference]
        reports.append(report)
    if not plan.trivial:
        recipe = Recipe(
            targets={r.target: {g.graph: g.recipe for g in r.graphs} for r in reports},
            samples=plan.samples, seed=plan.seed,
        )  # fmt: skip
        (folder / RECIPE_FILE).parent.mkdir(exist_ok=True)
        (folder / RECIPE_FILE).write_bytes(recipe.to_json())
        files += [RECIPE_FILE, *write_report(folder, reports)]
    return msgspec.structs.replace(
        manifest,
        graphs=(*manifest.graphs, *infos),
        files={**manifest.files, **{name: hash_file(folder / name) for name in files}},
    )


def _collect(work: _Work) -> list[str]:
    work.samples = collect(work.folder, work.plan, work.progress, work.tell)
    return [SAMPLES_FILE]


def collect(
    folder: Path, plan: PrecisionPlan, progress: Progress, tell: Callable[[str], None]
) -> Mapping[str, Sequence[Arrays]]:
    """Return every graph's calibration inputs and write down, in :data:`SAMPLES_FILE`, which they were."""
    assert plan.data is not None
    samples = collect_samples(
        Bundle.open(folder), plan.data, count=plan.samples, seed=plan.seed, leave_out=plan.left_out,
        threads=plan.threads, progress=lambda done, total: progress("calibration videos", done, total),
    )  # fmt: skip
    if warning := samples.record.warning():
        tell(f"warning: {warning}")
    for name, reason in samples.record.skipped.items():
        tell(f"warning: {name} was skipped: {reason}")
    (folder / SAMPLES_FILE).parent.mkdir(exist_ok=True)
    (folder / SAMPLES_FILE).write_bytes(
        msgspec.json.format(msgspec.json.encode(samples.record), indent=1) + b"\n"
    )
    return samples.arrays


def _make_target(work: _Work, target: str) -> tuple[list[GraphInfo], TargetReport]:
    """Choose or take the recipes, convert, and hold the result to the gate."""
    scratch = work.folder / ".candidates"
    chooser = Chooser(target, scratch, work.folder, work.plan.threads, work.samples, work.prove)
    auto = work.plan.recipe is None and work.plan.precision == "auto"
    choices: dict[str, GraphChoice] = {}
    try:
        graphs = work.bundle.graphs
        for done, graph in enumerate(graphs.values() if auto else ()):
            work.progress(f"{target} {graph.name}: candidates", done, len(graphs))
            choices[graph.name] = chooser.choose(graph)
        made: dict[str, Made] = {}
        blame: dict[str, int] = {}
        while True:
            for done, graph in enumerate(graphs.values()):
                recipe = _recipe(work, target, choices, graph.name)
                if graph.name not in made or made[graph.name].candidate.recipe != recipe:
                    work.progress(f"{target} {graph.name}", done, len(graphs))
                    made[graph.name] = chooser.make(graph, recipe)
            _check_graphs(work, target, chooser, made)
            gate = _play_gate(work, target, {n: m.engine for n, m in made.items()})
            if gate is None or (gate.passed and (not auto or gate.agreement >= AGREEMENT)):
                break
            if auto:
                blame = blame or _find_blame(work, target, made)
                if _retreat(choices, blame):
                    work.tell(f"{gate.describe()}: missed, a graph is made more exact")
                    continue
            if gate.passed:
                break
            raise ParityError(f"{gate.describe()}; --max-drop is {gate.max_drop:g}. Nothing was written")
        infos = [_keep(work.folder, m) for m in made.values()]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if gate is not None:
        work.tell(gate.describe())
    listed = tuple(choices.get(n) or _only(n, m.candidate) for n, m in made.items())
    precision = "recipe" if work.plan.recipe is not None else work.plan.precision
    return infos, TargetReport(
        target=target,
        engine=KINDS[target].engine,
        precision=precision,
        threads=work.plan.threads,
        graphs=listed,
        gate=gate,
    )


def _recipe(work: _Work, target: str, choices: Mapping[str, GraphChoice], graph: str) -> GraphRecipe:
    return choices[graph].recipe if graph in choices else work.plan.recipe_of(target, graph)


def _only(graph: str, candidate: Candidate) -> GraphChoice:
    return GraphChoice(graph=graph, candidates=(candidate,), chosen=0, why="asked for")


def _keep(folder: Path, made: Made) -> GraphInfo:
    """Move a converted graph's files from the candidates to the bundle."""
    for file, _ in made.info.files:
        if made.root != folder:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (made.root / file).replace(folder / file)
    return made.info


def _check_graphs(work: _Work, target: str, chooser: Chooser, made: Mapping[str, Made]) -> None:
    """Refuse a graph whose own outputs are too far from fp32, and name the layer where its error starts."""
    for name, graph in made.items():
        if graph.candidate.sqnr_db >= LEAST_DB:
            continue
        first = worst_layers(chooser.layers(work.bundle.graphs[name], graph), 1)
        where = f"; the error starts at layer {first[0]}" if first else ""
        raise ParityError(
            f"graph {name} of target {target} in {graph.candidate.recipe.precision} has a signal to error ratio of "
            f"{graph.candidate.sqnr_db:.1f} dB, expected at least {LEAST_DB:g}{where}. Nothing was written; name the "
            "layer under `keep` in a recipe, calibrate on more video, or use --precision auto"
        )


def _find_blame(work: _Work, target: str, made: Mapping[str, Made]) -> dict[str, int]:
    """How many of the gate's labels each converted graph changes by itself, the others in fp32."""
    blame = {}
    for name, graph in made.items():
        if graph.candidate.recipe.precision != "fp32":
            found = _judge_all(work, f"{target} {name} alone", {**work.reference, name: graph.engine})
            blame[name] = int(np.sum(~_same_labels(found, work.exact)))
    return blame


def _retreat(choices: dict[str, GraphChoice], blame: Mapping[str, int]) -> bool:
    """Make the graph that changes most labels, of several the least exact, more exact; whether there was one."""
    for name in sorted(
        choices, key=lambda n: (-blame.get(n, 0), choices[n].candidates[choices[n].chosen].sqnr_db)
    ):
        if (better := fall_back(choices[name])) is not None:
            choices[name] = better
            return True
    return False


def _play_gate(work: _Work, target: str, engines: Mapping[str, Engine]) -> Gate | None:
    """Play whole clips on fp32 and on the target's graphs. None where there are no clips or nothing is trained."""
    plan, bundle = work.plan, work.bundle
    if plan.data is None or plan.trivial or not bundle.manifest.trained:
        return None
    if not work.exact:
        work.entries, work.subjects = gate_entries(plan.data, plan.left_out)
        work.reference = load_engines(bundle, "onnxruntime", EngineOptions(plan.threads))
        work.exact = _judge_all(work, "fp32", work.reference)
    found = _judge_all(work, target, engines)
    same = _same_labels(found, work.exact)
    labelled = all(j.label in bundle.spec.labels for j in found)
    top1 = float(np.mean([j.label == j.said for j in found])) if labelled else None
    exact = float(np.mean([j.label == j.said for j in work.exact])) if labelled else None
    agreement = float(same.mean())
    drop = exact - top1 if top1 is not None and exact is not None else 1 - agreement
    return Gate(
        target=target, clips=len(found), decisions=len(same), agreement=agreement, top1=top1, top1_fp32=exact,
        max_drop=plan.max_drop, subjects=work.subjects, passed=drop <= plan.max_drop + 1e-9,
    )  # fmt: skip


def hold_to_gate(
    folder: Path,
    plan: PrecisionPlan,
    target: str,
    engines: Mapping[str, Engine],
    progress: Progress,
    tell: Callable[[str], None],
) -> Gate | None:
    """Play the gate's clips on graphs that were made elsewhere. Raises :class:`ParityError` where it is missed."""
    gate = _play_gate(_Work(folder, Bundle.open(folder), plan, progress, tell), target, engines)
    if gate is not None:
        if not gate.passed:
            raise ParityError(f"{gate.describe()}; --max-drop is {gate.max_drop:g}. Nothing was written")
        tell(gate.describe())
    return gate


def gate_entries(data: Path, left_out: Sequence[str]) -> tuple[list[Entry], tuple[str, ...]]:
    """The clips that the gate plays: those of the left-out subjects, else some of all, and whose they are."""
    entries = find_videos(data)
    unseen = [e for e in entries if e.subject in left_out]
    if unseen:
        return unseen, tuple(sorted({e.subject for e in unseen if e.subject}))
    step = max(1, len(entries) // GATE_CLIPS)
    return list(entries[::step]), ("all",)


def _same_labels(found: Sequence[Judged], exact: Sequence[Judged]) -> npt.NDArray[np.bool_]:
    """Whether each decision has the label that it has in fp32."""
    pairs = zip(found, exact, strict=True)
    return np.concatenate([a.scores.argmax(1) == b.scores.argmax(1) for a, b in pairs])


def _judge_all(work: _Work, what: str, engines: Mapping[str, Engine]) -> list[Judged]:
    """Play the gate's clips."""
    clips = Reader().read(work.entries, lambda done, total: work.progress(f"gate {what}", done, total))
    return [judge(work.bundle, clip, engines=engines, gates="auto") for clip in clips]

"""The table of docs/results/precision.md: uniform precisions and auto, on both engines, one and two threads.

``make`` converts an exported fp32 bundle into one bundle a row; ``time`` plays the clips of the subject that was left
out of training and calibration through all of them in turn and writes the JSON; ``merge`` puts
it into docs/results/precision.json.

    python scripts/measure_precision.py make --bundle FP32.vpbundle --data DIR --left-out S --work DIR
    python scripts/measure_precision.py time --data DIR --left-out S --work DIR --threads 1
    python scripts/measure_precision.py merge --work DIR

``folds`` does all of it for the checkpoints ``foldS.safetensors`` of a folder, S the subject left out; it goes on
where it was cut off; ``merge`` then takes every fold's work folder and adds their sum.

    python scripts/measure_precision.py folds --checkpoints DIR --folds 1,2,3,4,5,6 --data DIR --work DIR
    python scripts/measure_precision.py merge --work DIR --fresh
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from vidprism_edge.bundle import Bundle
from vidprism_edge.calibration.convert import KINDS
from vidprism_edge.calibration.data import Clip, decode
from vidprism_edge.calibration.recipes import GraphRecipe, Recipe
from vidprism_edge.calibration.samples import Samples, collect_samples, find_videos
from vidprism_edge.export.precision import PrecisionPlan, add_target_graphs
from vidprism_edge.report import describe_environment
from vidprism_edge.runtimes.engines import EngineOptions, load_engines
from vidprism_edge.runtimes.streaming.session import Session

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
#: Rows of the table: one bundle each, for both targets; a target takes its own half precision.
ROWS = ("fp32", "half", "int8", "auto")
HALF = {"onnx": "fp16", "openvino": "bf16"}
COMMANDS = (
    "vidprism-edge export --target onnx --checkpoint FOLD.safetensors --output FP32.vpbundle",
    "python scripts/measure_precision.py make --bundle FP32.vpbundle --data DATA --left-out S --work WORK "
    "--samples 150",
    "python scripts/measure_precision.py time --data DATA --left-out S --work WORK --threads 1",
    "python scripts/measure_precision.py merge --work WORK",
)


def plan_of(row: str, options: argparse.Namespace, fp32: Bundle) -> PrecisionPlan:
    """The plan of a row. No gate: the table shows what a precision loses; auto is held to it as every export is."""
    common = {"data": options.data, "threads": 1, "left_out": (options.left_out,), "samples": options.samples}
    if row == "auto":
        return PrecisionPlan("auto", **common)
    chosen = {t: GraphRecipe(precision=HALF[t] if row == "half" else row) for t in KINDS}  # type: ignore[arg-type]
    recipe = Recipe(targets={t: dict.fromkeys(fp32.graphs, g) for t, g in chosen.items()})
    return PrecisionPlan(
        recipe=recipe, max_drop=1.0, **{**common, "data": options.data if row == "int8" else None}
    )


def _tell(*what: object) -> None:
    print(*what, flush=True)


def make(options: argparse.Namespace) -> None:
    """One bundle a row, each from the fp32 bundle; one that is there is kept."""
    from vidprism_edge.export import precision

    fp32 = Bundle.open(options.bundle)
    real = precision._check_graphs
    # the rows differ in precision alone: the same samples serve them all
    collected: list[Samples] = []

    def collect_once(*given: Any, **named: Any) -> Samples:
        if not collected:
            collected.append(collect_samples(*given, **named))
        return collected[0]

    precision.collect_samples = collect_once
    for row in options.rows.split(","):
        folder = options.work / f"{row}.vpbundle"
        if folder.exists():
            continue
        part = options.work / f"{row}.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(options.bundle, part)
        manifest = msgspec.structs.replace(fp32.manifest, targets=tuple(KINDS))
        manifest.write(part)
        # a uniform precision is measured even where the gate would refuse it
        precision._check_graphs = real if row == "auto" else lambda *_: None
        start = time.process_time()
        plan = plan_of(row, options, fp32)
        made = add_target_graphs(part, manifest, plan, _tell, print)
        made.write(part)
        part.rename(folder)
        print(row, f"{time.process_time() - start:.0f} s of processor time", flush=True)
    precision._check_graphs = real


class Player:
    """One bundle on one engine, played clip by clip."""

    def __init__(self, row: str, target: str, work: Path, threads: int) -> None:
        self.row, self.target = row, target
        self.bundle = Bundle.open(work / f"{row}.vpbundle")
        self._engines = load_engines(self.bundle, KINDS[target].engine, EngineOptions(threads))
        # with one thread the processor's own time, which other programs lengthen least
        self._clock = time.process_time_ns if threads == 1 else time.perf_counter_ns
        self.ms: list[float] = []
        self.clips: list[str] = []
        self.labels: list[str] = []
        self.said: list[str] = []

    @property
    def size_bytes(self) -> int:
        graphs = self.bundle.graphs_for(self.target).values()
        return sum(self.bundle.locate(file).stat().st_size for g in graphs for file, _ in g.files)

    def play(self, clip: Clip, *, keep: bool) -> None:
        """Milliseconds a decision of one clip, and what was said."""
        session = Session(self.bundle, engine=self._engines, period_ns=clip.period_ns)
        made = []
        start = self._clock()
        for frame in clip.frames:
            made += session.push(frame) or []
        made += session.finish()
        self.ms.append((self._clock() - start) / 1e6 / len(made))
        if keep:
            labels = self.bundle.spec.labels
            self.labels += [p.label for p in made]
            scores = np.log([[p.scores[n] for n in labels] for p in made if p.ready])
            self.clips.append(clip.entry.label)
            self.said.append(labels[int(scores.mean(axis=0).argmax())])


def measure(options: argparse.Namespace) -> None:
    """Play every clip on every row in turn; the rows of one clip are neighbours in time."""
    made = [row for row in options.rows.split(",") if (options.work / f"{row}.vpbundle").exists()]
    players = [Player(row, t, options.work, options.threads) for row in made for t in KINDS]
    entries = [e for e in find_videos(options.data) if e.subject == options.left_out]
    for entry in entries[: options.clips]:
        clip = decode(entry)
        for player in players:
            player.play(clip, keep=True)
    base = players[0]
    rows = [
        {
            "row": p.row,
            "engine": KINDS[p.target].engine,
            "threads": options.threads,
            "ms_per_decision": float(np.median(p.ms[1:])),
            "ratio": float(np.median(np.array(base.ms[1:]) / np.array(p.ms[1:]))),
            "size_bytes": p.size_bytes,
            "clips": len(p.said),
            "right": int(np.sum(np.array(p.said) == np.array(p.clips))),
            "decisions": len(p.labels),
            "agree": int(np.sum(np.array(p.labels) == np.array(base.labels))),
            "precisions": {n: g.precision for n, g in p.bundle.graphs_for(p.target).items()},
        }
        for p in players
    ]
    told = {
        "preset": base.bundle.spec.preset,
        "left_out": options.left_out,
        "random_weights": base.bundle.manifest.random_weights,
        "environment": describe_environment(),
        "rows": rows,
    }
    file = options.work / f"times-{options.threads}.json"
    file.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


def folds(options: argparse.Namespace) -> None:
    """Export, convert and play every fold; what is there of an earlier call is kept."""
    for subject in options.folds.split(","):
        work = options.work / f"fold{subject}"
        work.mkdir(parents=True, exist_ok=True)
        bundle = work / "exported.vpbundle"
        if not bundle.exists():
            checkpoint = options.checkpoints / f"fold{subject}.safetensors"
            export = ("export", "--target", "onnx", "--checkpoint", str(checkpoint), "--output", str(bundle))
            subprocess.run([sys.executable, "-m", "vidprism_edge.cli.main", *export], check=True)
        part = argparse.Namespace(**{**vars(options), "bundle": bundle, "left_out": subject, "work": work})
        make(part)
        if not (work / f"times-{options.threads}.json").exists():
            measure(part)


def add_up(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each precision and engine over all subjects left out: counts are summed, times are medians."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["row"], row["engine"]), []).append(row)
    counts, medians = ("clips", "right", "decisions", "agree"), ("ms_per_decision", "ratio", "size_bytes")
    return [
        {
            **found[0],
            **{name: sum(r[name] for r in found) for name in counts},
            **{name: float(np.median([r[name] for r in found])) for name in medians},
        }
        for found in groups.values()
    ]


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["preset"], row["left_out"], row["threads"], row["row"], row["engine"]


def merge(options: argparse.Namespace) -> None:
    """Put the measured rows of a work folder into docs/results/precision.json."""
    found = [json.loads(f.read_text()) for f in sorted(options.work.rglob("times-*.json"))]
    rows = [{**row, "preset": f["preset"], "left_out": f["left_out"]} for f in found for row in f["rows"]]
    file = RESULTS / "precision.json"
    old = {"rows": []} if options.fresh or not file.is_file() else json.loads(file.read_text())
    # the first measurement of a row stays: fp32 is measured again beside a row that comes later
    every = {_key(r): r for r in [*reversed(rows), *old["rows"]]}
    ordered = sorted(
        every.values(), key=lambda r: (*_key(r)[:3], ROWS.index(r["row"]), r["engine"] != "onnxruntime")
    )
    told = {"environment": found[0]["environment"], "rows": ordered}
    file.write_text(json.dumps(told, indent=1) + "\n")
    write_table(told)


def write_table(told: dict[str, Any]) -> None:
    """Write docs/results/precision.md from the rows that were measured."""
    environment = told["environment"]
    sets = ", ".join(environment["instruction_sets"])
    amx = (
        "" if "amx_tile" in sets else "; no AMX, so nothing here shows what bf16 gains on a processor with it"
    )
    lines = [
        "# Precisions, side by side",
        "",
        f"{environment['cpu']}, {environment['cores']} cores; {sets}{amx}. One run a table: every clip is played",
        "on every row in turn, decoding apart, gates `auto`; speed is the median over the clips' own ratios to fp32",
        "in ONNX Runtime. The clips are of a subject that neither training nor calibration has seen. `half` is fp16",
        "in ONNX Runtime and bf16 in OpenVINO. Agreement counts decisions with the label of fp32 in ONNX Runtime.",
        "With one thread times are the processor's, with two they are elapsed time on a machine that also trained.",
        "A row with fewer clips was measured in a run of its own, beside fp32.",
        "Uniform rows are measured even where the accuracy gate would refuse them; `auto` is held to it.",
    ]
    tables: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for r in told["rows"]:
        tables.setdefault((r["preset"], f"subject {r['left_out']}", r["threads"]), []).append(r)
    for preset, threads in dict.fromkeys((preset, threads) for preset, _, threads in tables):
        rows = [r for r in told["rows"] if (r["preset"], r["threads"]) == (preset, threads)]
        subjects = len({r["left_out"] for r in rows})
        if subjects > 1:
            tables = {(preset, f"each of {subjects} subjects in turn", threads): add_up(rows), **tables}
    for (preset, subject, threads), rows in tables.items():
        plural = "" if threads == 1 else "s"
        lines += ["", f"## {preset}, {subject} left out, {threads} thread{plural} a graph", ""]
        lines += [
            "| precision | engine | ms a decision | speed | MB | top-1 | agreement |",
            "|---|---|---|---|---|---|---|",
        ]
        for r in rows:
            lines.append(
                f"| {r['row']} | {r['engine']} | {r['ms_per_decision']:.1f} | {r['ratio']:.2f} | "
                f"{r['size_bytes'] / 1e6:.1f} | {r['right']} of {r['clips']} | {r['agree']} of {r['decisions']} |"
            )
        for r in rows:
            if r["row"] == "auto" and subject.startswith("subject"):
                chosen = ", ".join(f"{name} {precision}" for name, precision in r["precisions"].items())
                lines += ["", f"`auto` on {r['engine']}: {chosen}."]
    lines += [
        "",
        "![Error against time of every graph in every precision](../images/precision-frontier.png)",
        "",
        "The frontier of each graph as `auto` measured it (`reports/precision.png` of its bundle): rings are chosen,",
        "crosses are below 20 dB of signal to error. Top-1 is that of the checkpoint that was at hand;",
        "`docs/results/training.md` has the network's.",
    ]
    lines += ["", "## Commands", "", "```sh", *COMMANDS, "```"]
    (RESULTS / "precision.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("make", "time", "folds", "merge"))
    parser.add_argument("--checkpoints", type=Path, help="folds: folder with foldS.safetensors")
    parser.add_argument("--folds", default="1,2,3,4,5,6", help="folds: the subjects, separated by commas")
    parser.add_argument("--fresh", action="store_true", help="merge: forget the rows measured before")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--left-out")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--rows", default=",".join(ROWS))
    options = parser.parse_args()
    {"make": make, "time": measure, "folds": folds, "merge": merge}[options.step](options)


if __name__ == "__main__":
    main()

"""The table of docs/results/precision.md: uniform precisions and auto, on both engines, one and two threads.

``folds`` exports the checkpoints ``foldS.safetensors`` of a folder, S the subject left out, converts each into one
bundle a precision (calibration never sees S), and plays clips of S through all of them; it goes on where it was cut
off, and begins anew where a checkpoint has changed. ``merge`` puts what was measured into docs/results, under another
``--name`` for another machine.

    python scripts/measure_precision.py folds --checkpoints DIR --folds 1,4 --data DATA --work WORK --accuracy
    python scripts/measure_precision.py folds --checkpoints DIR --folds 1,4 --data DATA --work WORK --timing
    python scripts/measure_precision.py merge --work WORK --fresh

``--accuracy`` plays every clip of S; ``--timing`` plays ``--clips`` of them, all rows in turn, for each number of
threads; without either, both are done. The steps of one bundle are ``make``, ``accuracy`` and ``time``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from vidprism_edge.bundle import Bundle, hash_file
from vidprism_edge.calibration.convert import KINDS
from vidprism_edge.calibration.data import Clip, decode
from vidprism_edge.calibration.evaluation import label_clip
from vidprism_edge.calibration.recipes import GraphRecipe, Recipe
from vidprism_edge.calibration.samples import Samples, collect_samples, find_videos
from vidprism_edge.errors import ParityError
from vidprism_edge.export.precision import PrecisionPlan, add_target_graphs
from vidprism_edge.report import describe_environment
from vidprism_edge.runtimes.engines import EngineOptions, load_engines
from vidprism_edge.runtimes.streaming.session import Session

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
#: Rows of the table: one bundle each, for both targets; a target takes its own half precision.
ROWS = ("fp32", "half", "int8", "auto")
COUNTS = ("clips", "right", "decisions", "agree")
HALF = {"onnx": "fp16", "openvino": "bf16"}
SCRIPT = "python scripts/measure_precision.py"
CLIP = (
    "vidprism-edge export --target onnx --preset clip-b32 --random-weights --untrained --output C.vpbundle",
    f"{SCRIPT} make --bundle C.vpbundle --work WORK/clip --data DATA --left-out 1 --samples 12",
    f"{SCRIPT} time --work WORK/clip --data DATA --left-out 1 --clips 3",
)


@dataclass(frozen=True)
class Table:
    """What one machine's table says beside its rows: how it was made, what else is to be known, what follows."""

    commands: tuple[str, ...]
    notes: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


TABLES = {
    "precision": Table(
        (
            f"{SCRIPT} folds --checkpoints DIR --data DATA --work WORK --samples 150 --accuracy",
            f"{SCRIPT} folds --checkpoints DIR --folds 1,4 --data DATA --work WORK --timing",
            *CLIP,
            f"{SCRIPT} merge --work WORK --fresh",
        ),
        after=(
            "",
            "![Error against time of every graph in every precision](../images/precision-frontier.png)",
            "",
            "The frontier of each graph as `auto` measured it (`reports/precision.png` of its bundle): rings are "
            "chosen,",
            "crosses are wrong: below 20 dB of signal to error, or refuted by the golden vectors.",
        ),
    ),
    "precision-amx": Table(
        (
            f"{SCRIPT} make --bundle fold4.vpbundle --work WORK/nano --data DATA --left-out 4 --samples 100",
            f"{SCRIPT} time --work WORK/nano --data DATA --left-out 4",
            f"{SCRIPT} accuracy --work WORK/nano --data DATA --left-out 4",
            *CLIP,
            f"{SCRIPT} merge --work WORK --name precision-amx",
        ),
        notes=(
            "",
            "The host was busy with other guests: elapsed times (two threads) vary by half and more from minute",
            "to minute, and all times are longer than the processor needs by itself. Ratios of processor time",
            "(one thread) are surer.",
        ),
    ),
}


def plan_of(row: str, options: argparse.Namespace, fp32: Bundle) -> PrecisionPlan:
    """The plan of a row; a target takes its own half precision."""
    common = {"data": options.data, "threads": 1, "left_out": (options.left_out,), "samples": options.samples}
    if row == "auto":
        return PrecisionPlan("auto", **common)
    chosen = {t: GraphRecipe(precision=HALF[t] if row == "half" else row) for t in KINDS}  # type: ignore[arg-type]
    recipe = Recipe(targets={t: dict.fromkeys(fp32.graphs, g) for t, g in chosen.items()})
    return PrecisionPlan(recipe=recipe, **{**common, "data": options.data if row == "int8" else None})


def _tell(*what: object) -> None:
    print(*what, flush=True)


def make(options: argparse.Namespace) -> None:
    """One bundle a row, each from the fp32 bundle; one that is there is kept."""
    from vidprism_edge.export import precision

    fp32 = Bundle.open(options.bundle)
    checks = {name: getattr(precision, name) for name in ("_check_graphs", "_play_gate")}
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
        for name, check in checks.items():
            setattr(precision, name, check if row == "auto" else lambda *_: None)
        start = time.process_time()
        try:
            made = add_target_graphs(part, manifest, plan_of(row, options, fp32), _tell, print)
        except ParityError as refused:
            print(f"{row} has no bundle: {refused}", flush=True)
            continue
        made.write(part)
        part.rename(folder)
        print(row, f"{time.process_time() - start:.0f} s of processor time", flush=True)
    for name, check in checks.items():
        setattr(precision, name, check)


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
            self.labels += [p.label for p in made]
            self.clips.append(clip.entry.label)
            self.said.append(label_clip(made, self.bundle.spec.labels))


def _players(options: argparse.Namespace, threads: int) -> list[Player]:
    made = [row for row in options.rows.split(",") if (options.work / f"{row}.vpbundle").exists()]
    if made[:1] != ["fp32"]:
        raise SystemExit(
            f"{options.work} has no fp32.vpbundle, which the others are compared with: make it first"
        )
    return [Player(row, target, options.work, threads) for row in made for target in KINDS]


def _play(options: argparse.Namespace, players: list[Player], clips: int | None, *, keep: bool) -> None:
    """Play every clip on every row in turn; the rows of one clip are neighbours in time."""
    entries = [e for e in find_videos(options.data) if e.subject == options.left_out][:clips]
    if len(entries) < 2:
        raise SystemExit(
            f"{options.data} has {len(entries)} clips of subject {options.left_out}; expected 2 or more"
        )
    for entry in entries:
        clip = decode(entry)
        for player in players:
            player.play(clip, keep=keep)


def _write(options: argparse.Namespace, name: str, players: list[Player], rows: list[dict[str, Any]]) -> None:
    told = {
        "preset": players[0].bundle.spec.preset,
        "left_out": options.left_out,
        "environment": describe_environment(),
        "rows": [
            {"row": p.row, "engine": KINDS[p.target].engine, **row}
            for p, row in zip(players, rows, strict=True)
        ],
    }
    (options.work / name).write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told["rows"]), flush=True)


def accuracy(options: argparse.Namespace) -> None:
    """What every row says of all clips of the left-out subject, beside fp32 in ONNX Runtime."""
    players = _players(options, 1)
    _play(options, players, None, keep=True)
    base = players[0]
    rows = [
        {
            "size_bytes": p.size_bytes,
            "clips": len(p.said),
            "right": int(np.sum(np.array(p.said) == np.array(p.clips))),
            "decisions": len(p.labels),
            "agree": int(np.sum(np.array(p.labels) == np.array(base.labels))),
            "precisions": {n: g.precision for n, g in p.bundle.graphs_for(p.target).items()},
        }
        for p in players
    ]
    _write(options, "accuracy.json", players, rows)


def timing(options: argparse.Namespace, threads: int) -> None:
    """Milliseconds a decision of every row; the first clip, which warms the engines, does not count."""
    players = _players(options, threads)
    _play(options, players, options.clips, keep=False)
    base = np.array(players[0].ms[1:])
    rows = [
        {
            "size_bytes": p.size_bytes,
            "times": {
                str(threads): {"ms": float(np.median(p.ms[1:])), "ratio": float(np.median(base / p.ms[1:]))}
            },
        }
        for p in players
    ]
    _write(options, f"times-{threads}.json", players, rows)


def folds(options: argparse.Namespace) -> None:
    """Export, convert and play every fold; what is there of an earlier call is kept."""
    both = options.accuracy == options.timing
    for subject in options.folds.split(","):
        work = _export(options, subject)
        part = argparse.Namespace(**{**vars(options), "left_out": subject, "work": work})
        part.bundle = work / "exported.vpbundle"
        make(part)
        if (both or options.accuracy) and not (work / "accuracy.json").exists():
            accuracy(part)
        for threads in _threads(options) if both or options.timing else ():
            if not (work / f"times-{threads}.json").exists():
                timing(part, threads)


def _export(options: argparse.Namespace, subject: str) -> Path:
    """The fold's work folder, with its fp32 bundle; emptied first where it is of another checkpoint."""
    checkpoint = options.checkpoints / f"fold{subject}.safetensors"
    work: Path = options.work / f"fold{subject}"
    digest, known = hash_file(checkpoint), work / "checkpoint.sha256"
    if not known.is_file() or known.read_text() != digest:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        bundle = work / "exported.vpbundle"
        export = ("export", "--target", "onnx", "--checkpoint", str(checkpoint), "--output", str(bundle))
        subprocess.run([sys.executable, "-m", "vidprism_edge.cli.main", *export], check=True)
        known.write_text(digest)
    return work


def _threads(options: argparse.Namespace) -> list[int]:
    return [int(n) for n in options.threads.split(",")]


def add_up(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each precision and engine over all subjects left out: counts are summed, times are medians."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["row"], row["engine"]), []).append(row)
    added = []
    for (name, engine), found in groups.items():
        counts = {n: sum(r[n] for r in found if n in r) for n in COUNTS if any(n in r for r in found)}
        timed = {n: [r["times"][n] for r in found if n in r.get("times", {})] for n in ("1", "2")}
        times = {
            n: {key: float(np.median([t[key] for t in each])) for key in ("ms", "ratio")}
            for n, each in timed.items()
            if each
        }
        size = [r["size_bytes"] for r in found if "size_bytes" in r]
        added.append({"row": name, "engine": engine, **counts, "times": times})
        if size:
            added[-1]["size_bytes"] = float(np.median(size))
    return added


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return row["preset"], row["left_out"], row["row"], row["engine"]


def merge(options: argparse.Namespace) -> None:
    """Put what is measured in all work folders into docs/results/NAME.json, in place of those rows there."""
    files = [*options.work.rglob("accuracy.json"), *options.work.rglob("times-*.json")]
    found = [json.loads(f.read_text()) for f in sorted(files)]
    if not found:
        raise SystemExit(f"{options.work} has nothing that was measured; run `folds` first")
    file = RESULTS / f"{options.name}.json"
    old = {"rows": []} if options.fresh or not file.is_file() else json.loads(file.read_text())
    every: dict[tuple[str, ...], dict[str, Any]] = {}
    for told in found:
        for part in told["rows"]:
            row = {"preset": told["preset"], "left_out": told["left_out"], **part}
            known = every.setdefault(_key(row), {})
            known.update({**row, "times": {**known.get("times", {}), **row.get("times", {})}})
    for row in old["rows"]:
        every.setdefault(_key(row), row)
    ordered = sorted(
        every.values(), key=lambda r: (*_key(r)[:2], ROWS.index(r["row"]), r["engine"] != "onnxruntime")
    )
    told = {"environment": found[0]["environment"], "rows": ordered}
    file.write_text(json.dumps(told, indent=1) + "\n")
    write_table(told, options.name)


def _line(row: dict[str, Any]) -> str:
    """A row of the table; what was not measured is a dash."""
    cells = [row["row"], row["engine"]]
    for threads in ("1", "2"):
        measured = row.get("times", {}).get(threads)
        cells += [f"{measured['ms']:.1f}", f"{measured['ratio']:.2f}"] if measured else ["–", "–"]
    cells.append(f"{row['size_bytes'] / 1e6:.1f}" if "size_bytes" in row else "–")
    judged = "clips" in row
    cells.append(f"{row['right']} of {row['clips']}" if judged else "–")
    cells.append(f"{row['agree']} of {row['decisions']}" if judged else "–")
    return f"| {' | '.join(cells)} |"


def write_table(told: dict[str, Any], name: str) -> None:
    """Write docs/results/NAME.md from the rows that were measured."""
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
        "With one thread times are the processor's, with two they are elapsed time.",
        "Milliseconds are those of one decision; a dash was not measured; of several subjects, times are those of",
        "1 and 4. `clip-b32` has random weights, calibrated on few samples: times alone.",
        "Uniform rows are measured even where the accuracy gate would refuse them. `auto` is held to it, on the clips",
        "of the left-out subject: no less top-1, and at least 99 % of the labels.",
        *TABLES[name].notes,
    ]
    tables: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in told["rows"]:
        tables.setdefault((r["preset"], f"subject {r['left_out']}"), []).append(r)
    for preset in dict.fromkeys(preset for preset, _ in tables):
        rows = [r for r in told["rows"] if r["preset"] == preset]
        subjects = len({r["left_out"] for r in rows})
        if subjects > 1:
            tables = {(preset, f"each of {subjects} subjects in turn"): add_up(rows), **tables}
    for (preset, subject), rows in tables.items():
        lines += ["", f"## {preset}, {subject} left out", ""]
        lines += [
            "| precision | engine | ms, 1 thread | speed | ms, 2 threads | speed | MB | top-1 | agreement |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [_line(r) for r in rows]
        for r in rows:
            if r["row"] == "auto" and "precisions" in r:
                chosen = ", ".join(f"{name} {precision}" for name, precision in r["precisions"].items())
                lines += ["", f"`auto` on {r['engine']}: {chosen}."]
    lines += [*TABLES[name].after, "", "## Commands", "", "```sh", *TABLES[name].commands, "```"]
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("folds", "merge", "make", "accuracy", "time"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--checkpoints", type=Path, help="folds: folder with foldS.safetensors")
    parser.add_argument("--folds", default="1,2,3,4,5,6", help="folds: the subjects, separated by commas")
    parser.add_argument("--accuracy", action="store_true", help="folds: top-1 and agreement alone")
    parser.add_argument("--timing", action="store_true", help="folds: times alone")
    parser.add_argument("--fresh", action="store_true", help="merge: forget the rows measured before")
    parser.add_argument(
        "--name", default="precision", choices=TABLES, help="merge: the table's, one for each machine"
    )
    parser.add_argument("--bundle", type=Path, help="make: the fp32 bundle")
    parser.add_argument("--left-out", help="make, accuracy, time: the subject")
    parser.add_argument("--threads", default="1,2", help="folds, time: numbers of threads")
    parser.add_argument("--samples", type=int, default=300, help="calibration samples a graph")
    parser.add_argument("--clips", type=int, default=10, help="clips that are timed; all of them are judged")
    parser.add_argument("--rows", default=",".join(ROWS))
    options = parser.parse_args()
    if options.step == "time":
        for threads in _threads(options):
            timing(options, threads)
    else:
        {"make": make, "accuracy": accuracy, "folds": folds, "merge": merge}[options.step](options)


if __name__ == "__main__":
    main()

"""The table of docs/results/training.md: trains, exports and measures each fold, one row a job.

A row that is there is not made again, and a run that was killed goes on. Every figure is of a fold's checkpoint on the
subject that it has not seen, neither here nor in pretraining, measured by `vidprism-edge eval` on the exported
bundle. Fold `all` is the checkpoint that ships. Two runs on different folds may work side by side.

    python scripts/train_folds.py --data DIR --negatives 'DIR/asl_*.mkv' --depth DIR --work DIR \\
        [--folds 1,2,3,4,5,6,all] [--table-only]
"""

from __future__ import annotations

import argparse
import fcntl
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
SUBJECTS = ("1", "2", "3", "4", "5", "6")
#: People who are left out of one pretraining together; ``all`` begins with the first, so that its recipe is the same.
DEPTH_GROUPS = (("2", "4", "6"), ("1", "3", "5"))
MIRROR = ("swipe_left=swipe_right", "wave", "clap", "throw", "none")
DEPTH_MIRROR = (
    *(
        "swipe_left=swipe_right",
        "draw_circle_cw=draw_circle_ccw",
        "wave",
        "clap",
        "throw",
        "arm_cross",
        "arm_curl",
    ),
    *(
        "baseball_swing",
        "basketball_shoot",
        "bowling",
        "boxing",
        "catch",
        "draw_triangle",
        "draw_x",
        "jog",
        "knock",
    ),
    *(
        "lunge",
        "pickup_throw",
        "push",
        "sit_to_stand",
        "squat",
        "stand_to_sit",
        "tennis_serve",
        "tennis_swing",
        "walk",
    ),
)
FLOOR, LEAST = 0.92, 0.80
#: Rows that the table will have; they are listed as missing until they are measured.
PLANNED = (
    "each expert left out of training, one-way fusion, 1 and 3 passes, other regions: trained anew",
    "our own network at three sizes: accuracy against multiply-accumulates",
    "depth27: one network for 27 classes",
)


def options_of(pairs: Sequence[str]) -> list[str]:
    """``--mirror`` for each of the pairs."""
    return [part for pair in pairs for part in ("--mirror", pair)]


def pretrain_command(group: Sequence[str], depth: str, work: str) -> list[str]:
    """Pretrains the temporal expert: 27 actions before a depth camera, by all people who are not in ``group``."""
    left_out = [part for subject in group for part in ("--leave-out", subject)]
    recipe = ["--recipe", "scripts/recipes/depth.json", "--no-none"]
    output = f"{work}/depth{''.join(group)}.safetensors"
    return [
        "vidprism-edge",
        "train",
        depth,
        "--output",
        output,
        *left_out,
        *recipe,
        *options_of(DEPTH_MIRROR),
    ]


def command_of(fold: str, places: dict[str, str]) -> list[list[str]]:
    """Pretrain, train, export and eval of one fold; fold ``all`` leaves nobody out."""
    data, negatives, depth, work = (places[name] for name in ("data", "negatives", "depth", "work"))
    checkpoint, bundle = f"{work}/fold{fold}.safetensors", f"{work}/fold{fold}.vpbundle"
    group = next((g for g in DEPTH_GROUPS if fold in g), DEPTH_GROUPS[0])
    first = pretrain_command(group, depth, work)
    left_out = [] if fold == "all" else ["--leave-out", fold]
    learn = ["vidprism-edge", "train", data, "--output", checkpoint, *left_out, "--negatives", negatives]
    learn += ["--init", first[4], "--recipe", "scripts/recipes/after_depth.json", *options_of(MIRROR)]
    return [
        first,
        learn,
        [
            "vidprism-edge",
            "export",
            "--target",
            "onnx",
            "--checkpoint",
            checkpoint,
            "--output",
            bundle,
            "--force",
        ],
        ["vidprism-edge", "eval", bundle, "--data", data, "--subjects", fold, "--json"],
    ]


def run(arguments: list[str], extra: Sequence[str] = ()) -> str:
    """Run one command of ours; its progress stays visible."""
    binary = str(Path(sys.executable).with_name(arguments[0]))
    done = subprocess.run(
        [binary, *arguments[1:], *extra], stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT
    )
    return done.stdout


def learn(command: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Train what is not there yet; what the command told is kept beside the checkpoint."""
    checkpoint = Path(command[4])
    told = checkpoint.with_suffix(".json")
    with checkpoint.with_suffix(".lock").open("w") as lock:
        # two scripts side by side on different folds need the same pretraining
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not checkpoint.is_file():
            cache = ["--cache", str(options.cache)] if options.cache else []
            told.write_text(run(command, ["--json", "--threads", str(options.threads), *cache]))
    return json.loads(told.read_text())


def measure(fold: str, options: argparse.Namespace) -> dict[str, Any] | None:
    """Make what is missing of one fold → its row; None for the network that leaves nobody out."""
    places = {name: str(getattr(options, name)) for name in ("data", "negatives", "depth", "work")}
    first, second, export, evaluate = command_of(fold, places)
    pretrained, told = learn(first, options), learn(second, options)
    if fold == "all":
        return None
    run(export)
    row = json.loads(run(evaluate))
    public = {"data": "DATA", "negatives": "CAMERAS/asl_*.mkv", "depth": "DEPTH", "work": "WORK"}
    return {
        "row": "VidPrism nano",
        "left_out": fold,
        "top1": row["top1"],
        "clips": row["clips"],
        "per_class": row["per_class"],
        "confusion": row["confusion"],
        "labels": row["labels"],
        "macs_per_second": row["macs_per_second"],
        "seconds": round(told["seconds"]),
        "pretraining_seconds": round(pretrained["seconds"]),
        "commands": [shlex.join(c) for c in command_of(fold, public)],
    }


def write_baselines(done: dict[str, dict[str, Any]]) -> list[str]:
    """The lines of what scripts/train_baselines.py has measured, beside the network on the same folds."""
    file = RESULTS / "baselines.json"
    rows = json.loads(file.read_text()) if file.is_file() else []
    lines = [
        "",
        "## Beside it",
        "",
        "Trained on the same clips, variants and negatives for as many epochs; same rule.",
    ]
    lines += [
        "",
        "| | folds | top-1 | VidPrism on these folds | million parameters | million MACs a second |",
    ]
    lines += ["|---|---|---|---|---|---|"]
    for name in dict.fromkeys(row["row"] for row in rows):
        found = [row for row in rows if row["row"] == name]
        folds = [row["left_out"] for row in found]
        ours = f"{mean(done[f]['top1'] for f in folds):.1%}" if all(f in done for f in folds) else "missing"
        macs, parameters = found[0]["macs_per_second"] / 1e6, found[0]["parameters"] / 1e6
        top1 = mean(row["top1"] for row in found)
        lines.append(f"| {name} | {', '.join(folds)} | {top1:.1%} | {ours} | {parameters:.2f} | {macs:.0f} |")
    command = "python scripts/train_baselines.py --data DATA --negatives 'CAMERAS/asl_*.mkv' --work WORK"
    return [*lines, "", "```sh", command, "```"] if rows else []


def write_parts() -> list[str]:
    """The lines of what scripts/ablate_folds.py has measured: mean and lowest top-1 over the folds."""
    file = RESULTS / "ablations.json"
    folds = json.loads(file.read_text()) if file.is_file() else []
    if not folds:
        return []
    subjects = ", ".join(f["left_out"] for f in folds)
    lines = [
        "",
        "## What each part is worth",
        "",
        f"On the left-out subjects {subjects}, in torch on features ",
    ]
    lines[-1] += (
        "kept in half precision, nothing trained again: an expert is masked, as in training, where it is "
    )
    lines[-1] += "dropped at random; passes share weights."
    lines += ["", "| | mean top-1 | spread | lowest |", "|---|---|---|---|"]
    for name in folds[0]["top1"]:
        found = [f["top1"][name] for f in folds]
        lines.append(f"| {name} | {mean(found):.1%} | {pstdev(found):.1%} | {min(found):.1%} |")
    command = "python scripts/ablate_folds.py --work WORK --data DATA"
    return [*lines, "", "```sh", command, "```"]


def write_table(rows: list[dict[str, Any]]) -> None:
    """Write docs/results/training.md from the rows that were measured."""
    done = {row["left_out"]: row for row in rows}
    lines = [
        "# Training results",
        "",
        "UTD-MHAD colour: 5 actions × 6 subjects × 4 trials, and a class `none`. One subject is left out: 20 clips.",
        "Every figure is of a fold's checkpoint on its own left-out subject, by `vidprism-edge eval` on the exported",
        "fp32 bundle with ONNX Runtime; `none` counts as wrong. Rows are written by `scripts/train_folds.py`.",
        "",
        "| left-out subject | top-1 | clips | million MACs a second of video | pretraining, s | training, s |",
        "|---|---|---|---|---|---|",
    ]
    for fold in SUBJECTS:
        if fold in done:
            row = done[fold]
            macs = row["macs_per_second"] / 1e6
            spent = f"{row['pretraining_seconds']} | {row['seconds']}"
            lines.append(f"| {fold} | {row['top1']:.1%} | {row['clips']} | {macs:.0f} | {spent} |")
        else:
            lines.append(f"| {fold} | missing | | | | |")
    found = [row["top1"] for row in rows]
    if len(done) == len(SUBJECTS):
        verdict = "met" if mean(found) >= FLOOR and min(found) >= LEAST else "not met"
        lines += ["", f"Mean {mean(found):.1%}, spread {pstdev(found):.1%}, lowest {min(found):.1%}. "]
        lines += [f"The floor (mean {FLOOR:.0%}, no subject under {LEAST:.0%}) is {verdict}."]
    else:
        missing = ", ".join(s for s in SUBJECTS if s not in done)
        lines += [
            "",
            f"No mean yet: the folds of subjects {missing} are missing. Nothing is shipped before all six are there.",
        ]
    lines += write_baselines(done)
    lines += write_parts()
    lines += ["", "## Missing", "", *(f"- {name}" for name in PLANNED)]
    if rows:
        lines += ["", "## Commands", "", "```sh", *rows[0]["commands"], "```", ""]
        lines += [
            "Each fold has its own `--leave-out`; the time is of the shared machine on which it was trained."
        ]
    (RESULTS / "training.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--negatives")
    parser.add_argument("--depth", type=Path)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--folds", default=",".join(SUBJECTS))
    parser.add_argument("--table-only", action="store_true")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / "training.json"
    if not options.table_only:
        if None in (options.data, options.negatives, options.depth, options.work):
            parser.error("--data, --negatives, --depth and --work are needed")
        options.work.mkdir(parents=True, exist_ok=True)
        for fold in options.folds.split(","):
            if any(row["left_out"] == fold for row in read_rows(file)):
                continue
            row = measure(fold, options)
            if row is not None:
                rows = sorted([*read_rows(file), row], key=lambda row: row["left_out"])
                file.write_text(json.dumps(rows, indent=1) + "\n")
                write_table(rows)
    write_table(read_rows(file))


def read_rows(file: Path) -> list[dict[str, Any]]:
    """What has been measured."""
    return json.loads(file.read_text()) if file.is_file() else []


if __name__ == "__main__":
    main()

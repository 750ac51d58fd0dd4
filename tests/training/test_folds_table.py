"""The table of folds says only what was measured, and names what is missing."""

from __future__ import annotations

import importlib.util
import json

import pytest


@pytest.fixture
def folds(root, tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("train_folds", root / "scripts/train_folds.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    return module


def row(fold: str, top1: float) -> dict:
    return {
        "left_out": fold,
        "top1": top1,
        "clips": 20,
        "macs_per_second": 1e9,
        "seconds": 60,
        "pretraining_seconds": 30,
        "commands": ["x"],
    }


def test_missing_folds_are_named_and_no_mean_is_given(folds, tmp_path):
    folds.write_table([row("4", 0.85)])
    text = (tmp_path / "training.md").read_text()
    assert "| 4 | 85.0% | 20 | 1000 | 30 | 60 |" in text
    assert text.count("| missing |") == 5
    assert "No mean yet" in text
    assert "1, 2, 3, 5, 6" in text
    assert "## Missing" in text


@pytest.mark.parametrize(
    ("tops", "verdict"),
    [([1.0] * 5 + [0.8], "is met"), ([1.0] * 5 + [0.75], "is not met"), ([0.9] * 6, "is not met")],
)
def test_the_floor_is_judged_on_all_six(folds, tmp_path, tops, verdict):
    folds.write_table([row(str(i + 1), top1) for i, top1 in enumerate(tops)])
    text = (tmp_path / "training.md").read_text()
    assert verdict in text
    assert "No mean yet" not in text


PLACES = {"data": "D", "negatives": "N", "depth": "P", "work": "W"}


@pytest.mark.parametrize("fold", ["1", "2", "3", "4", "5", "6"])
def test_commands_leave_the_fold_out_and_measure_it(folds, fold):
    pretrain, train, export, evaluate = folds.command_of(fold, PLACES)
    assert train[train.index("--leave-out") + 1] == fold
    assert fold in [pretrain[i + 1] for i, part in enumerate(pretrain) if part == "--leave-out"]
    assert train[train.index("--init") + 1] == pretrain[pretrain.index("--output") + 1]
    assert evaluate[evaluate.index("--subjects") + 1] == fold
    assert train[train.index("--output") + 1] == export[export.index("--checkpoint") + 1]
    assert export[export.index("--output") + 1] == evaluate[2]


def test_what_ships_leaves_nobody_out_and_has_the_folds_recipe(folds):
    _, all_of_them, *_ = folds.command_of("all", PLACES)
    _, one, *_ = folds.command_of("2", PLACES)
    assert "--leave-out" not in all_of_them
    at = one.index("--leave-out")
    expected = [part.replace("fold2", "foldall") for part in one[:at] + one[at + 2 :]]
    assert all_of_them == expected


@pytest.mark.parametrize("name", ["depth.json", "after_depth.json"])
def test_the_recipes_are_recipes(folds, name):
    from vidprism_edge.training.recipe import load_recipe

    assert load_recipe(folds.ROOT / "scripts" / "recipes" / name).stages


def test_baselines_stand_beside_the_network(folds, tmp_path):
    found = [
        {"row": "other", "left_out": fold, "top1": top1, "parameters": 1.2e6, "macs_per_second": 3e9}
        for fold, top1 in (("1", 0.5), ("4", 0.7))
    ]
    (tmp_path / "baselines.json").write_text(json.dumps(found))
    folds.write_table([row(str(i), 0.9) for i in range(1, 7)])
    text = (tmp_path / "training.md").read_text()
    assert "| other | 1, 4 | 60.0% | 90.0% | 1.20 | 3000 |" in text

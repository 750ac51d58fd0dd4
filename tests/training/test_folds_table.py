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
        "commands": ["x"],
    }


def test_missing_folds_are_named_and_no_mean_is_given(folds, tmp_path):
    folds.write_table([row("4", 0.85)])
    text = (tmp_path / "training.md").read_text()
    assert "| 4 | 85.0% | missing | missing | 20 | 1000 |" in text
    assert "| 5 | missing | missing | missing |  |  |" in text
    assert text.count("| missing | missing | missing |") == 5
    assert "First training: no mean, the folds of subjects 1, 2, 3, 5, 6 are missing" in text
    assert "## Missing" in text


@pytest.mark.parametrize(
    ("tops", "verdict"),
    [([1.0] * 5 + [0.8], "is met"), ([1.0] * 5 + [0.75], "is not met"), ([0.9] * 6, "is not met")],
)
def test_the_floor_is_judged_on_all_six(folds, tmp_path, tops, verdict):
    folds.write_table([row(str(i + 1), top1) for i, top1 in enumerate(tops)])
    text = (tmp_path / "training.md").read_text()
    assert verdict in text
    assert "First training: no mean" not in text


def test_each_training_is_judged_by_itself(folds, tmp_path):
    again = [{**row(str(i), 0.9), "training": "Second"} for i in range(1, 7)]
    again += [{**row("1", 1.0), "training": "Third"}]
    (tmp_path / "training-again.json").write_text(json.dumps(again))
    folds.write_table([row(str(i), 0.95) for i in range(1, 7)])
    text = (tmp_path / "training.md").read_text()
    assert "| 1 | 95.0% | 90.0% | 100.0% | 20 | 1000 |" in text
    assert "| 4 | 95.0% | 90.0% | missing | 20 | 1000 |" in text
    assert (
        "First training: mean 95.0%, spread 0.0%, lowest 95.0%; the floor (mean 92%, no subject under 80%) is met"
        in text
    )
    assert "Second training: mean 90.0%" in text
    assert text.count("is not met") == 1
    assert "Third training: no mean, the folds of subjects 2, 3, 4, 5, 6 are missing" in text
    assert "All trainings of all six: mean 92.5%" in text


def test_commands_leave_the_fold_out_and_measure_it(folds):
    train, export, evaluate = folds.command_of("3", "D", "N", "W")
    assert train[train.index("--leave-out") + 1] == "3"
    assert evaluate[evaluate.index("--subjects") + 1] == "3"
    assert train[train.index("--output") + 1] == export[export.index("--checkpoint") + 1]
    assert export[export.index("--output") + 1] == evaluate[2]


def test_baselines_and_depth_stand_beside_the_network(folds, tmp_path):
    found = [
        {
            "row": "other",
            "left_out": fold,
            "top1": top1,
            "parameters": 1.2e6,
            "macs_per_second": 3e9,
            "epochs": 65,
        }
        for fold, top1 in (("1", 0.5), ("4", 0.7))
    ]
    rows = [row(str(i), 0.9) for i in range(1, 7)]
    folds.write_table(rows)
    assert "27 actions before a depth camera\n\nMissing." in (tmp_path / "training.md").read_text()
    (tmp_path / "baselines.json").write_text(json.dumps(found))
    (tmp_path / "depth27.json").write_text(json.dumps({"top1": 0.7, "clips": 323, "macs_per_second": 2e9}))
    folds.write_table(rows)
    text = (tmp_path / "training.md").read_text()
    assert "| other | 1, 4 | 65 | 60.0% | 90.0% | 1.20 | 3000 |" in text
    assert "**70.0%**" in text


def test_what_was_trained_anew_and_the_curves_are_in_the_table(folds, tmp_path):
    (tmp_path / "images").mkdir()
    folds.RESULTS = tmp_path / "results"
    folds.RESULTS.mkdir()
    budgets = {"full rate": [0.9, 2e9], "a quarter": [0.8, 1e9]}
    parts = {"all experts": 0.9, "image-only encoder with mean pooling": 0.5}
    parts |= {f"without the {name} expert": 0.88 for name in ("spatial", "hybrid", "temporal")}
    (folds.RESULTS / "ablations.json").write_text(
        json.dumps([{"left_out": "1", "top1": parts, "budgets": budgets}])
    )
    found = {"row": "homogeneous mixture of experts on one stream of 4 Hz", "left_out": "1", "top1": 0.5}
    (folds.RESULTS / "baselines.json").write_text(
        json.dumps([{**found, "parameters": 1e6, "macs_per_second": 3e9, "epochs": 65}])
    )
    retrained = [
        {"row": "1 fusion pass", "left_out": fold, "top1": top1} for fold, top1 in (("4", 0.6), ("1", 0.8))
    ]
    (folds.RESULTS / "retrained.json").write_text(json.dumps(retrained))
    folds.write_table([row(str(i), 0.9) for i in range(1, 7)])
    text = (folds.RESULTS / "training.md").read_text()
    assert "| 1 fusion pass | 1, 4 | 70.0% | 10.0% | 60.0% |" in text
    assert "| VidPrism | a quarter | 1 | 1000 | 80.0% |" in text
    assert "better than the image encoder alone | +40.0 |" in text
    assert "worse without the hybrid expert | -2.0 |" in text
    assert "a quarter of their rates; 4 Hz: -67%, +30 points |" in text
    assert "| homogeneous mixture | 4 Hz | 1 | 3000 | 50.0% |" in text
    assert (tmp_path / "images" / "accuracy-macs.png").is_file()


def test_the_recipe_for_depth_is_a_recipe(folds):
    from vidprism_edge.training.recipe import load_recipe

    assert load_recipe(folds.ROOT / "scripts" / "recipes" / "depth27.json").stages

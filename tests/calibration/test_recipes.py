"""Recipes are data: they round-trip, and what is wrong in one is named."""

from __future__ import annotations

import json

import pytest

from vidprism_edge.calibration.recipes import GraphRecipe, Recipe
from vidprism_edge.errors import UsageError


def test_a_recipe_round_trips_to_the_byte(tmp_path):
    recipe = Recipe(
        targets={
            "openvino": {"spatial": GraphRecipe(precision="int8", observer="percentile", keep=("node_1",))}
        },
        samples=50,
        seed=7,
    )
    (tmp_path / "r.json").write_bytes(recipe.to_json())
    again = Recipe.open(tmp_path / "r.json")
    assert again == recipe
    assert again.to_json() == recipe.to_json()
    assert recipe.needs_data
    assert not Recipe(targets={"onnx": {"head": GraphRecipe(precision="fp16")}}).needs_data


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 2}, "schema 2; this version reads 1"),
        ({"targets": {"onnx": {"head": {"precision": "int3"}}}}, r"int3.*\$\.targets"),
        ({"targets": {"onnx": {"head": {"obsever": "mse"}}}}, "obsever"),
        ({"targets": {"onnx": {"head": {"ops": []}}}}, "ops are empty"),
        ({"targets": {"onnx": {"head": {"percentile": 10}}}}, "percentile is 10"),
        ({"samples": "many"}, "samples"),
    ],
)
def test_a_wrong_field_is_named(change, says):
    plain = {"schema": 1, "targets": {}, "samples": 1, "seed": 0}
    with pytest.raises(UsageError, match=says):
        Recipe.from_json(json.dumps(plain | change).encode())


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(UsageError, match="cannot read the recipe"):
        Recipe.open(tmp_path / "gone.json")
    with pytest.raises(UsageError, match="not valid"):
        Recipe.from_json(b"\xff{")

"""What the tests of training share: a tiny data set, prepared once."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("av")
pytest.importorskip("safetensors")

sys.path.insert(0, str(Path(__file__).parent))
from made_clips import write_folder

from vidprism_edge.calibration.data import read_dataset
from vidprism_edge.model.network import build
from vidprism_edge.training.prepare import Preparer
from vidprism_edge.training.recipe import Recipe, Stage

TINY = Recipe(
    stages=(Stage(epochs=1, joint=False, rate=3e-3), Stage(epochs=1, joint=True, rate=1e-3)),
    batch=2, variants=2, analyzer_steps=6, seed=5,
)  # fmt: skip


@pytest.fixture(scope="session")
def recipe():
    return TINY


@pytest.fixture(scope="session")
def clips_folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "clips")


@pytest.fixture(scope="session")
def dataset(clips_folder):
    return read_dataset(clips_folder)


@pytest.fixture(scope="session")
def spec(tiny_spec):
    return msgspec.structs.replace(tiny_spec, labels=("left", "right", "none"))


@pytest.fixture(scope="session")
def prepared(spec, dataset, recipe, tmp_path_factory):
    """The network with a taught analyzer, the examples, and the cache they came from."""
    net = build(spec, seed=5, random_weights=True)
    cache = tmp_path_factory.mktemp("cache")
    preparer = Preparer(spec, net.spatial.encoder, recipe, cache, lambda *_: None)
    preparer.teach(net.analyzer, preparer.open(dataset.entries))
    return net, preparer.record(dataset.entries, net.analyzer, variants=2), cache

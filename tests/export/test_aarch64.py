"""A bundle made here verifies on aarch64: under emulation, or on a board, by an interpreter that is named."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

VARIABLE = "VIDPRISM_EDGE_AARCH64_PYTHON"


@pytest.fixture(scope="module")
def aarch64_python() -> list[str]:
    """The command that starts Python on aarch64: ``make aarch64`` makes one, build/aarch64/python."""
    command = shlex.split(os.environ.get(VARIABLE, ""))
    if not command:
        pytest.skip(f"needs {VARIABLE}: a Python for aarch64 with vidprism-edge; `make aarch64` makes one")
    code = "import platform; print(platform.machine())"
    machine = subprocess.run([*command, "-c", code], capture_output=True, text=True, check=True)
    assert machine.stdout.strip() == "aarch64", f"{VARIABLE} names a Python for {machine.stdout.strip()}"
    return command


def call(python: list[str], *arguments: object) -> str:
    """Run ``vidprism-edge`` by an interpreter and return what it prints on stdout."""
    command = [*python, "-m", "vidprism_edge.cli.main", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_bundle_made_here_verifies_on_aarch64(aarch64_python: list[str], tiny_bundle: Path) -> None:
    done = call(aarch64_python, "verify", tiny_bundle, "--json", "--threads", 1)
    report = json.loads(done)
    assert report["passed"]
    cases = {o["graph"]: o["cases"] for o in report["outputs"]}
    assert cases["fusion"] >= 8  # every subset of experts


@pytest.mark.slow
def test_a_video_gives_the_decisions_that_it_gives_here(
    aarch64_python: list[str], tiny_bundle: Path, real_clip: Path
) -> None:
    """Decoder, native core, gates, policy and graphs: the same frames, experts and reasons, scores to rounding."""
    run = ("run", tiny_bundle, "--source", real_clip, "--no-window", "--json", "--threads", 1)
    here, there = (
        [json.loads(line) for line in call(python, *run).splitlines()]
        for python in ([sys.executable], aarch64_python)
    )
    assert len(here) == len(there) > 10
    for ours, theirs in zip(here[:-1], there[:-1], strict=True):
        same = ("t_ns", "ready", "label", "experts_fired", "macs", "ages_ms", "skipped")
        assert [ours[name] for name in same] == [theirs[name] for name in same]
        assert theirs["scores"] == pytest.approx(ours["scores"], abs=1e-3)

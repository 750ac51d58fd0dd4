"""Instructions a frame under callgrind, which a busy machine does not change: within 2 % of a stored baseline.

A new baseline, after a change that is meant to change it: VIDPRISM_EDGE_BASELINE=write pytest <this file>.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vidprism_edge.runtimes import _native

NATIVE = Path(__file__).parents[3] / "runtimes" / "native"
BASELINE = Path(__file__).with_name("instructions.json")
FRAMES = 6
CASES = ["exact closed", "averaged closed", "exact second", "averaged second", "averaged closed nv12"]


def compiler() -> str:
    return subprocess.run(
        ["cc", "-dumpfullversion"], capture_output=True, text=True, check=False
    ).stdout.strip()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("valgrind", "make", "cc"):
        if shutil.which(name) is None:
            pytest.skip(f"needs {name}")
    if "avx2" not in _native.simd_available():
        pytest.skip("the baseline is of the AVX2 kernels")
    out = tmp_path_factory.mktemp("build")
    subprocess.run(
        ["make", "-C", str(NATIVE), f"{out}/frame_cost", f"OUT={out}", "CC=cc"],
        check=True,
        capture_output=True,
    )
    return out / "frame_cost"


def instructions(program: Path, case: str) -> float:
    """Of one 720p frame pushed, in millions; closed and second as in tests/bench/bench_native.py."""
    motion, work, *fmt = case.split()
    command = [
        "valgrind", "--tool=callgrind", "--toggle-collect=vpe_sampler_push", "--callgrind-out-file=/dev/null",
        str(program), "1280", "720", motion, work, str(FRAMES), *fmt,
    ]  # fmt: skip
    environment = os.environ | {"VIDPRISM_EDGE_SIMD": "avx2"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found, done.stderr
    assert "avx2" in done.stdout
    return int(found.group(1)) / FRAMES / 1e6


@pytest.mark.parametrize("case", CASES)
def test_within_two_percent_of_the_baseline(program: Path, case: str) -> None:
    baseline = json.loads(BASELINE.read_text())
    now = instructions(program, case)
    if os.environ.get("VIDPRISM_EDGE_BASELINE") == "write":
        baseline.update({"compiler": compiler(), case: round(now, 4)})
        BASELINE.write_text(json.dumps(baseline, indent=2) + "\n")
    if baseline["compiler"] != compiler():
        pytest.skip(f"the baseline is of gcc {baseline['compiler']}, this is {compiler()}")
    assert now == pytest.approx(baseline[case], rel=0.02)


def test_repeats_to_a_thousandth(program: Path) -> None:
    first, second = (instructions(program, "averaged closed") for _ in range(2))
    assert first == pytest.approx(second, rel=0.001)

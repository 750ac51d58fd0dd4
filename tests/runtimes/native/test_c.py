"""The C library's own tests, plain and under the sanitizers; they need make and a C compiler, no Python."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[3] / "runtimes" / "native"
COMPILER = os.environ.get("CC", "cc").split()[0]


def require(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program} to build the C tests")


def links(tmp_path: Path, *flags: str) -> bool:
    source = tmp_path / "probe.c"
    source.write_text("int main(void) { return 0; }\n")
    command = [COMPILER, *flags, str(source), "-o", str(tmp_path / "probe")]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return False
    return subprocess.run([str(tmp_path / "probe")], capture_output=True, check=False).returncode == 0


def make(target: str, tmp_path: Path) -> str:
    done = subprocess.run(
        ["make", "-C", str(NATIVE), target, f"OUT={tmp_path / 'build'}", f"CC={COMPILER}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def test_c_tests(tmp_path: Path) -> None:
    require("make")
    require(COMPILER)
    out = make("test", tmp_path)
    assert "sampler: ok" in out
    assert "area: scalar ok" in out


def test_c_tests_under_address_and_undefined_behaviour_sanitizers(tmp_path: Path) -> None:
    require("make")
    require(COMPILER)
    if not links(tmp_path, "-fsanitize=address,undefined"):
        pytest.skip(f"{COMPILER} has no address and undefined-behaviour sanitizers here")
    assert "sampler: ok" in make("asan", tmp_path)


def test_the_library_builds_by_itself(tmp_path: Path) -> None:
    require("make")
    require(COMPILER)
    make("all", tmp_path)
    assert (tmp_path / "build" / "libvpe.a").exists()
    assert (tmp_path / "build" / "libvpe.so").exists()

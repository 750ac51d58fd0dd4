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


def make(target: str, tmp_path: Path, *words: str) -> str:
    done = subprocess.run(
        ["make", "-j2", "-C", str(NATIVE), target, f"OUT={tmp_path / 'build'}", f"CC={COMPILER}", *words],
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


def test_eight_threads_under_the_thread_sanitizer(tmp_path: Path) -> None:
    require("make")
    require(COMPILER)
    if not links(tmp_path, "-fsanitize=thread"):
        pytest.skip(f"{COMPILER} has no thread sanitizer here")
    assert "threads: ok" in make("tsan", tmp_path)


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_random_inputs_under_the_sanitizers(tmp_path: Path, seconds: int) -> None:
    require("make")
    require(COMPILER)
    if not links(tmp_path, "-fsanitize=address,undefined"):
        pytest.skip(f"{COMPILER} has no address and undefined-behaviour sanitizers here")
    out = make("fuzz", tmp_path, f"SECONDS={seconds}")
    print(out)  # the seed, where it fails
    assert "without a finding" in out


def test_neon_under_emulation(tmp_path: Path) -> None:
    """Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static."""
    require("make")
    require("aarch64-linux-gnu-gcc")
    require("qemu-aarch64-static")
    assert "area: neon ok" in make("arm", tmp_path)


def test_the_library_and_its_example_need_no_python(tmp_path: Path) -> None:
    require("make")
    require(COMPILER)
    make("all", tmp_path)
    assert (tmp_path / "build" / "libvpe.a").exists()
    assert (tmp_path / "build" / "libvpe.so").exists()
    frames = [bytes([10 * i]) * (64 * 48 * 3) for i in range(4)]
    program = [str(tmp_path / "build" / "raw_frames"), "64", "48", "15", "bgr24"]
    done = subprocess.run(program, input=b"".join(frames) + b"half a frame", capture_output=True, check=True)
    lines = done.stdout.decode().splitlines()
    assert [line.split()[:2] for line in lines] == [["frame", str(i)] for i in range(4)]
    assert "(reset) motion 0.00 most 0.00 due 0@0.000s 1@0.000s 2@0.000s" in lines[0]
    assert "motion 10.00 most 10.00 due 0@0.067s" in lines[1]
    assert b"12 of 9216 bytes" in done.stderr
    assert subprocess.run(program[:3], capture_output=True, check=False).returncode == 2

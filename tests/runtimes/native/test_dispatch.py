"""Which kernel set runs: found, pinned by call, pinned by the environment; one extension for several Pythons."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vidprism_edge.runtimes import _native

PRINT = "from vidprism_edge.runtimes import _native; print(_native.simd_selected())"


def run(simd: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"VIDPRISM_EDGE_SIMD": simd}
    return subprocess.run(
        [sys.executable, "-c", PRINT], env=environment, capture_output=True, text=True, check=False
    )


def test_the_scalar_set_is_always_there_and_last() -> None:
    assert _native.simd_available()[-1] == "scalar"


def test_the_best_set_is_taken_without_being_asked() -> None:
    assert run("").stdout.strip() == _native.simd_available()[0]


@pytest.mark.parametrize("name", _native.simd_available())
def test_pinned_by_call_and_by_environment(name: str) -> None:
    before = _native.simd_selected()
    _native.simd_select(name)
    assert _native.simd_selected() == name
    _native.simd_select(before)
    assert run(name).stdout.strip() == name


def test_an_unknown_name_in_the_environment_is_an_error() -> None:
    done = run("mmx")
    assert done.returncode == 1
    assert "VIDPRISM_EDGE_SIMD: given 'mmx'; expected one of" in done.stderr


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the limited API has the buffer protocol from 3.11 on")
def test_the_extension_is_abi3() -> None:
    assert ".abi3." in str(_native.__file__)

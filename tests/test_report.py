"""A description of the machine that invents nothing."""

from __future__ import annotations

import platform

import numpy as np

from vidprism_edge import report
from vidprism_edge.report import describe_environment, peak_memory_bytes


def test_the_environment_is_this_machines():
    environment = describe_environment()
    assert environment["python"] == platform.python_version()
    assert environment["machine"] == platform.machine()
    assert environment["cores"] >= 1
    assert environment["tools"]["numpy"] == np.__version__
    assert set(environment["instruction_sets"]) <= set(report._FLAGS)


def test_what_cannot_be_read_is_none(monkeypatch):
    monkeypatch.setattr(
        report.Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "no"))
    )
    monkeypatch.setattr(report.Path, "is_file", lambda _: False)
    environment = describe_environment()
    assert environment["board"] is None
    assert environment["instruction_sets"] == []


def test_peak_memory_grows_with_what_is_held():
    before = peak_memory_bytes()
    held = np.ones(64 << 20, np.uint8)
    assert peak_memory_bytes() > before - 1
    assert peak_memory_bytes() >= held.nbytes

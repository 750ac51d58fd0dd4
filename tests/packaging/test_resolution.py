"""The device's dependencies resolve for an Orin board on JetPack 6: Python 3.10 on aarch64, wheels only."""

from __future__ import annotations

import json
import sys
from configparser import ConfigParser

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

#: JetPack 6 is Ubuntu 22.04 with glibc 2.35. pip takes each tag literally, so all that it runs are named.
PLATFORMS = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, 36))]


@pytest.fixture(scope="module")
def requirements(root):
    parser = ConfigParser()
    parser.read(root / "setup.cfg")
    lines = (
        parser["options"]["install_requires"].split()
        + parser["options.extras_require"]["onnxruntime"].split()
    )
    return [Requirement(line) for line in lines]


@pytest.fixture(scope="module")
def resolved(requirements, run_pip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("resolution")
    report = folder / "report.json"
    platforms = [word for tag in PLATFORMS for word in ("--platform", tag)]
    run_pip(
        sys.executable, "install", "--dry-run", "--quiet", "--ignore-installed", "--report", report,
        "--target", folder / "target", "--python-version", "3.10", "--implementation", "cp", "--only-binary=:all:",
        *platforms, *map(str, requirements), cwd=folder,
    )  # fmt: skip
    installs = json.loads(report.read_text())["install"]
    return {row["metadata"]["name"].lower(): Version(row["metadata"]["version"]) for row in installs}


def test_every_requirement_has_a_version_at_or_above_its_floor(requirements, resolved):
    for requirement in requirements:
        assert requirement.specifier.contains(resolved[requirement.name.lower()]), (requirement, resolved)


def test_nothing_heavy_comes_along(resolved):
    assert not {"torch", "onnx", "openvino", "tensorrt"} & set(resolved)

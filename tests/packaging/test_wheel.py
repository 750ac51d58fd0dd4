"""What the wheel and the source archive contain, and what they must not."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from email.parser import Parser

import pytest


@pytest.fixture(scope="module")
def names(distributions):
    with zipfile.ZipFile(distributions.wheel) as archive:
        return archive.namelist()


@pytest.fixture(scope="module")
def metadata(distributions, names):
    (path,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    with zipfile.ZipFile(distributions.wheel) as archive:
        return Parser().parsestr(archive.read(path).decode())


@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="the buffer protocol is in the limited API from 3.11 on"
)
def test_one_wheel_serves_every_python_from_3_11_on(distributions, names):
    assert "-cp311-abi3-linux_" in distributions.wheel.name
    extensions = [name for name in names if name.endswith(".so")]
    assert extensions == ["vidprism_edge/runtimes/_native.abi3.so"]


def test_nothing_is_installed_under_a_bare_name(names):
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"vidprism_edge"}


def test_data_and_types_are_inside(root, names):
    wanted = {
        f"vidprism_edge/presets/{path.name}" for path in (root / "vidprism_edge/presets").glob("*.json")
    }
    assert "vidprism_edge/presets/nano.json" in wanted
    wanted |= {"vidprism_edge/py.typed", "vidprism_edge/runtimes/_native.pyi"}
    assert wanted <= set(names)


def test_no_tests_sources_or_caches_are_inside(names):
    for name in names:
        assert not name.endswith((".c", ".h", ".pyc", ".o")), name
        assert "tests" not in name.split("/"), name


def test_the_licence_travels(names):
    assert any(name.endswith("LICENSE") and ".dist-info/" in name for name in names)


def test_a_device_gets_light_dependencies_only(metadata):
    always = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    bare = {line.split(";")[0].split(">")[0].split("=")[0].strip() for line in always}
    assert bare == {"numpy", "opencv-python", "av", "msgspec", "typer", "rich", "platformdirs", "psutil"}
    assert all("==" not in line for line in always), "floors only: a device takes what its Python has"


def test_the_extras_are_the_known_ones(metadata):
    extras = set(metadata.get_all("Provides-Extra"))
    assert extras == {"onnxruntime", "openvino", "tensorrt", "export", "quantise", "clip", "demo", "dev"}


def test_the_command_is_installed(distributions, names):
    (path,) = (name for name in names if name.endswith("entry_points.txt"))
    with zipfile.ZipFile(distributions.wheel) as archive:
        assert b"vidprism-edge = vidprism_edge.cli.main:main" in archive.read(path)


def test_the_source_archive_has_what_the_extension_builds_from(root, distributions):
    with tarfile.open(distributions.source) as archive:
        inside = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    native = root / "runtimes" / "native"
    sources = {path.relative_to(root).as_posix() for path in native.rglob("*.[ch]")}
    assert sources
    assert sources <= inside
    assert {"setup.py", "setup.cfg", "pyproject.toml", "LICENSE", "README.md", "constraints.txt"} <= inside

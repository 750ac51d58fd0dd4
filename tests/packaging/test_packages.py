"""The list of packages in setup.cfg is the tree: a package that it lacks works here and is absent from the wheel."""

from __future__ import annotations

from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path

import pytest

#: Folder at the top level → the name that it is imported by.
TOP = {
    "vidprism_edge": "vidprism_edge",
    "export": "vidprism_edge.export",
    "runtimes": "vidprism_edge.runtimes",
    "calibration": "vidprism_edge.calibration",
}
#: Folders that hold no Python modules of ours: the C library builds into one extension.
NOT_PACKAGES = ("runtimes/native",)


@pytest.fixture(scope="module")
def config(root: Path) -> ConfigParser:
    parser = ConfigParser()
    parser.read(root / "setup.cfg")
    return parser


def listed(config: ConfigParser) -> list[str]:
    lines = config["options"]["packages"].splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def folders_with_modules(root: Path) -> dict[str, Path]:
    found = {}
    for folder, name in TOP.items():
        for module in (root / folder).rglob("*.py"):
            place = module.parent.relative_to(root)
            if not any(place.as_posix().startswith(excluded) for excluded in NOT_PACKAGES):
                found[".".join((name, *place.parts[1:]))] = module.parent
    return found


def test_the_list_of_packages_is_the_tree(root, config):
    assert sorted(listed(config)) == sorted(folders_with_modules(root))


def test_every_package_has_an_init(root):
    for name, folder in folders_with_modules(root).items():
        assert (folder / "__init__.py").is_file(), f"{name} has no __init__.py"


def test_no_bare_name_is_installed(config):
    assert all(name.split(".")[0] == "vidprism_edge" for name in listed(config))


def test_data_files_beside_the_modules_are_package_data(root, config):
    data = {section: lines.split() for section, lines in config["options.package_data"].items()}
    folders = folders_with_modules(root)
    for package, folder in folders.items():
        for path in folder.rglob("*"):
            if not path.is_file() or path.suffix in (".py", ".pyc", ".so", ".c", ".h", ".o"):
                continue
            if any(
                path.is_relative_to(other)
                for other in folders.values()
                if other != folder and folder in other.parents
            ):
                continue
            relative = path.relative_to(folder).as_posix()
            if "native/" in relative or "__pycache__" in relative:
                continue
            patterns = data.get(package, [])
            assert any(fnmatch(relative, pattern) for pattern in patterns), (
                f"{package}: {relative} is in no wheel"
            )


def test_tests_are_no_package(root):
    assert not list((root / "tests").rglob("__init__.py"))

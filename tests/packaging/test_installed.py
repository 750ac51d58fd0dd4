"""The wheel in an empty environment outside the repository, with what a device has and nothing more."""

from __future__ import annotations

import json

import pytest

from vidprism_edge.cli.main import EXTRA_OF

# the first test also builds, downloads and installs
pytestmark = pytest.mark.timeout(900)

ABSENT = ("torch", "onnx", "onnxscript", "openvino", "tensorrt", "tensorrt_rtx", "transformers", "matplotlib")

#: Imports every module; prints {module: what its import raised, None for nothing}.
IMPORT_ALL = """
import importlib, json, pkgutil, sys
import vidprism_edge
assert "site-packages" in vidprism_edge.__file__, vidprism_edge.__file__
result = {}
def walk(package):
    for info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        try:
            module = importlib.import_module(info.name)
        except ModuleNotFoundError as error:
            result[info.name] = error.name or str(error)
        except BaseException as error:
            result[info.name] = repr(error)
        else:
            result[info.name] = None
            if info.ispkg:
                walk(module)
walk(vidprism_edge)
json.dump({"modules": result, "heavy": sorted(set(sys.argv[1:]) & set(sys.modules))}, sys.stdout)
"""

#: These may need an extra, and then say which package is missing; all others import on a bare device.
MAY_NEED_AN_EXTRA = (
    "vidprism_edge.model",
    "vidprism_edge.export",
    "vidprism_edge.calibration",
    "vidprism_edge.training",
    "vidprism_edge.runtimes.engines.openvino",
)
#: ... but these are used on a device too.
ON_A_DEVICE = (
    "vidprism_edge.model",
    "vidprism_edge.export",
    "vidprism_edge.export.targets",
    "vidprism_edge.calibration",
    "vidprism_edge.calibration.data",
    "vidprism_edge.calibration.evaluation",
    "vidprism_edge.training",
)


def check_imports(report: dict[str, dict[str, str | None]]) -> None:
    modules = report["modules"]
    assert {"vidprism_edge.spec", "vidprism_edge.runtimes._native", "vidprism_edge.cli.main"} <= set(modules)
    for name, failure in modules.items():
        if failure is None:
            continue
        may_fail = name.startswith(MAY_NEED_AN_EXTRA) and name not in ON_A_DEVICE
        assert may_fail, f"{name} does not import on a device: {failure}"
        assert failure.partition(".")[0] in EXTRA_OF, f"{name}: {failure}"


def test_what_is_heavy_is_absent(device):
    for name in ABSENT:
        assert device.run("-c", f"import {name}").returncode != 0, f"{name} is installed"


def test_every_module_of_the_device_side_imports(device):
    done = device.run("-c", IMPORT_ALL, *ABSENT)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    check_imports(report)
    assert report["heavy"] == []


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["targets"], ["targets", "--json"], ["doctor", "--json"]]
)
def test_the_commands_that_need_no_bundle_run(device, arguments):
    done = device.command(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


@pytest.mark.parametrize(
    "line",
    [
        "export --target onnx --preset nano --output x.vpbundle",
        "run BUNDLE --source synthetic:2 --timeline t.png",
        "demo",
    ],
)
def test_what_needs_an_extra_says_so_at_once_and_leaves_nothing(device, tiny_bundle, line):
    done = device.command(*(str(tiny_bundle) if word == "BUNDLE" else word for word in line.split()))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "vidprism-edge[" in done.stderr
    assert not list(device.folder.iterdir())


# ---- commands on a bundle: add a row for each command that a device runs ---------------------------------
#: Arguments of a command, BUNDLE standing for the path of an exported bundle, and the exit codes that are well:
#: a benchmark on a busy machine may call itself unsteady.
BUNDLE_COMMANDS: list[tuple[str, set[int]]] = [
    ("verify BUNDLE --json", {0}),
    ("inspect BUNDLE --json", {0}),
    ("run BUNDLE --source synthetic:3:320x240@15 --json --no-window", {0}),
    ("benchmark BUNDLE --source synthetic:3:320x240@15 --profile rapid --json", {0, 5}),
]


@pytest.mark.parametrize(("line", "codes"), BUNDLE_COMMANDS)
def test_the_commands_on_a_bundle_run(device, tiny_bundle, line, codes):
    done = device.command(*(str(tiny_bundle) if word == "BUNDLE" else word for word in line.split()))
    assert done.returncode in codes, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout.splitlines()[-1] if line.startswith("run") else done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "distribution"),
    [
        pytest.param("3.10", "source", id="JetPack 6, the floor: built there"),
        pytest.param("3.12", "wheel", id="JetPack 7: one wheel from 3.11 on"),
    ],
)
def test_the_pythons_of_jetpack(distributions, find_python, install, tmp_path, version, distribution):
    requirement = f"vidprism-edge[onnxruntime] @ {getattr(distributions, distribution).as_uri()}"
    installed = install(find_python(version), tmp_path, [requirement])
    done = installed.run("-c", IMPORT_ALL, *ABSENT)
    assert done.returncode == 0, done.stderr
    check_imports(json.loads(done.stdout))
    assert installed.command("doctor").returncode == 0

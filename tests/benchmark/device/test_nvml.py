"""NVML against a made library that is loaded as the real one is: capabilities are asked for, never assumed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from vidprism_edge.benchmark.device.fingerprint import describe_device
from vidprism_edge.benchmark.device.monitor import Monitor
from vidprism_edge.benchmark.device.nvml import Nvml
from vidprism_edge.benchmark.device.power import EnergyCount
from vidprism_edge.benchmark.device.tree import Tree


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Compile the made library, with or without what a newer one has."""
    if shutil.which("cc") is None:
        pytest.skip("needs cc")

    def compile_it(*flags: str) -> str:
        out = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
        source = Path(__file__).with_name("fake_nvml.c")
        subprocess.run(["cc", "-shared", "-fPIC", *flags, "-o", str(out), str(source)], check=True)
        return str(out)

    return compile_it


@pytest.fixture(scope="module")
def library(build):
    return build()


def test_a_gpu_in_si_units(library):
    gpu = Nvml.open(library)
    assert gpu is not None
    assert gpu.describe() == {
        "name": "NVIDIA Fake 4000",
        "driver": "580.1",
        "energy_counter": True,
        "power": True,
    }
    assert (gpu.temperature_c(), gpu.clock_hz(), gpu.joules()) == (61.0, 1.41e9, 5.0)
    assert gpu.slowed_by() == []
    device = describe_device(Tree(Path("/nonexistent")), gpu)
    assert (device["gpu"], device["driver"]) == ("NVIDIA Fake 4000", "580.1")
    gpu.close()


def test_energy_is_the_counters_difference_in_millijoules(library, monkeypatch):
    gpu = Nvml.open(library)
    count = EnergyCount(gpu)
    count.sample(0.0)
    monkeypatch.setenv("FAKE_NVML_MILLIJOULES", "145000")
    assert count.sample(2.0) == pytest.approx(70.0)
    assert count.result(0.5)["value"] == pytest.approx(35.0)


@pytest.mark.parametrize("old", [True, False])
def test_without_a_counter_the_power_is_summed(build, monkeypatch, old):
    """An older library lacks the function; a GPU before Volta answers that it does not know."""
    monkeypatch.setenv("FAKE_NVML_ENERGY_STATUS", "3")
    gpu = Nvml.open(build("-DOLD") if old else build())
    count = EnergyCount(gpu)
    assert gpu.joules() is None
    for at_s in (0.0, 1.0, 2.0):
        assert count.sample(at_s) == pytest.approx(70.5)
    assert count.result(2.0)["value"] == pytest.approx(141.0)
    assert gpu.slowed_by() == []


def test_power_in_another_unit_is_none(build, monkeypatch):
    monkeypatch.setenv("FAKE_NVML_MILLIWATTS", "70500000")
    assert Nvml.open(build("-DOLD")).watts() is None


def test_a_gpu_that_measures_no_power(build, monkeypatch):
    monkeypatch.setenv("FAKE_NVML_POWER_STATUS", "3")
    gpu = Nvml.open(build("-DOLD"))
    assert gpu.describe()["power"] is False
    result = EnergyCount(gpu)
    assert result.sample(0.0) is None
    assert result.result(1.0)["value"] is None


@pytest.mark.parametrize(("name", "value"), [("FAKE_NVML_INIT", "9"), ("FAKE_NVML_HANDLE", "6")])
def test_no_driver_or_no_gpu_is_none(library, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert Nvml.open(library) is None


def test_no_library_or_another_one_is_none():
    assert Nvml.open("libno-such-nvml.so.1") is None
    assert Nvml.open("libc.so.6") is None


def test_a_slowed_gpu_is_in_the_rows(library, monkeypatch):
    monkeypatch.setenv("FAKE_NVML_REASONS", str(0x1 | 0x40 | 0x4))
    with Monitor(Tree(Path("/nonexistent")), nvml=Nvml.open(library)) as monitor:
        pass
    row = monitor.rows[-1]
    assert row["throttled_by"] == ["nvidia gpu: software power cap", "nvidia gpu: hardware thermal slowdown"]
    assert row["temperatures_c"] == {"nvidia gpu": 61.0}

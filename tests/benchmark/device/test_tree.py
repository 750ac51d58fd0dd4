"""Sensors in the kernel's units, and what a driver with other units of its own makes of them."""

from __future__ import annotations

import pytest

from tests.benchmark.device.fake_machine import CPUFREQ, ORIN, PC, ZONE, write
from vidprism_edge.benchmark.device.tree import Tree, celsius, read_clocks, read_temperatures


def test_an_orin_in_celsius_and_hertz(tmp_path):
    tree = write(tmp_path, ORIN)
    # the GPU's zone is switched off and reads -256 degrees
    assert read_temperatures(tree) == {"cpu-thermal": 51.218}
    # cpufreq is in kHz, devfreq in Hz
    assert read_clocks(tree) == {"cpu 0": 1.344e9, "gpu": 918e6}


def test_a_pc_without_zones_has_its_chips(tmp_path):
    assert read_temperatures(write(tmp_path, PC)) == {"k10temp Tctl": 48.25}


def test_sensors_of_the_same_name_are_kept_apart(tmp_path):
    files = {
        f"sys/class/thermal/thermal_zone{i}/{n}": v
        for i in range(2)
        for n, v in (("type", "soc"), ("temp", 4e4))
    }
    files = {name: (int(v) if name.endswith("temp") else v) for name, v in files.items()}
    assert read_temperatures(write(tmp_path, files)) == {"soc": 40.0, "soc 2": 40.0}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (51218, 51.218),
        (51, 51.0),
        (-256000, None),
        (512180, None),
        (51_218_000, None),
        (None, None),
        (-20000, -20.0),
    ],
)
def test_thousandths_or_whole_degrees_or_nothing(raw, expected):
    assert celsius(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (1_344_000, {"cpu 0": 1.344e9}),
        (1_344_000_000, {}),
        (1344, {"cpu 0": 1.344e6}),
        (0, {}),
        ("<unknown>", {}),
    ],
)
def test_a_clock_in_another_unit_than_kilohertz_is_not_reported(tmp_path, raw, expected):
    tree = write(tmp_path, {f"{CPUFREQ}/scaling_cur_freq": raw})
    assert read_clocks(tree) == expected


def test_a_bare_machine_has_nothing(tmp_path):
    assert read_temperatures(Tree(tmp_path)) == {}
    assert read_clocks(Tree(tmp_path)) == {}


def test_a_sensor_that_cannot_be_read_is_left_out(tmp_path):
    tree = write(tmp_path, {f"{ZONE}/type": "soc", f"{ZONE}/temp": ""})
    assert read_temperatures(tree) == {}

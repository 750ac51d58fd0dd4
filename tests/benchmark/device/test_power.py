"""Joules and watts from made meters, wrap-around and wrong units included."""

from __future__ import annotations

import pytest

from tests.benchmark.device.fake_machine import INA, ORIN, PC, RAPL, write
from vidprism_edge.benchmark.device.power import EnergyCount, find_meters
from vidprism_edge.benchmark.device.tree import Tree


def test_an_orins_board_is_millivolts_times_milliamperes(tmp_path):
    meters, _ = find_meters(write(tmp_path, ORIN))
    (board,) = meters
    assert (board.method, board.covers) == ("INA rail VDD_IN", "whole board")
    assert board.watts() == pytest.approx(5.064 * 1.304)


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1e4])
def test_an_ina_in_other_units_is_no_meter(tmp_path, factor):
    """Volts and amperes instead of their thousandths would make microwatts of the board's watts."""
    wrong = ORIN | {f"{INA}/in1_input": round(5064 * factor), f"{INA}/curr1_input": 1304}
    meters, reason = find_meters(write(tmp_path, wrong))
    assert meters == []
    assert "no power sensor" in reason


def test_power_is_summed_by_trapezoids(tmp_path):
    tree = write(tmp_path, ORIN)
    count = EnergyCount(find_meters(tree)[0][0])
    for at_s, milliamperes in ((0.0, 1000), (1.0, 2000), (3.0, 2000)):
        write(tmp_path, {f"{INA}/curr1_input": milliamperes})
        count.sample(at_s)
    result = count.result(0.3)
    assert result["value"] == pytest.approx(5.064 * (1.5 + 2 * 2) / 10)
    assert result["average_w"] == pytest.approx(5.064 * 5.5 / 3)
    assert result["reason"] is None


def test_rapl_counts_microjoules_and_wraps_around(tmp_path):
    tree = write(tmp_path, PC)
    (meter, *_), _ = find_meters(tree)
    assert meter.method == "RAPL"
    count = EnergyCount(meter)
    assert count.sample(0.0) is None
    write(tmp_path, {f"{RAPL}/energy_uj": 65_532_000_000})
    count.sample(2184.0)
    write(tmp_path, {f"{RAPL}/energy_uj": 30_000_000})  # beyond the range it starts from 0
    assert count.sample(2185.0) == pytest.approx((65_532_610_987 - 65_532_000_000 + 30_000_000) / 1e6)
    result = count.result(2185.0)
    assert result["value"] == pytest.approx((65_532_610_987 - 1_000_000 + 30_000_000) / 1e6)
    assert result["average_w"] == pytest.approx(result["value"] / 2185)


def test_an_energy_that_cannot_be_has_a_reason_and_no_number(tmp_path):
    """A driver that counts nanojoules where microjoules are due: 30 kW."""
    tree = write(tmp_path, PC)
    count = EnergyCount(find_meters(tree)[0][0])
    count.sample(0.0)
    write(tmp_path, {f"{RAPL}/energy_uj": 1_000_000 + 30_000_000_000})
    count.sample(1.0)
    result = count.result(1.0)
    assert result["value"] is None
    assert "cannot be" in result["reason"]


def test_rapl_for_root_alone_says_so(tmp_path, monkeypatch):
    tree = write(tmp_path, PC)
    real = Tree.text
    monkeypatch.setattr(
        Tree, "text", lambda self, path: None if path.endswith("energy_uj") else real(self, path)
    )
    meters, reason = find_meters(tree)
    assert meters == []
    assert "root alone" in reason


def test_a_power_sensor_in_microwatts(tmp_path):
    tree = write(
        tmp_path, {"sys/class/hwmon/hwmon2/name": "amdgpu", "sys/class/hwmon/hwmon2/power1_input": 17_000_000}
    )
    ((meter,), _) = find_meters(tree)
    assert (meter.method, meter.watts()) == ("hwmon amdgpu", 17.0)


def test_a_bare_machine_says_why(tmp_path):
    meters, reason = find_meters(Tree(tmp_path))
    assert meters == []
    assert reason == "the kernel shows no RAPL; no power sensor under /sys/class/hwmon"


def test_one_reading_is_no_energy(tmp_path):
    count = EnergyCount(find_meters(write(tmp_path, ORIN))[0][0])
    count.sample(0.0)
    assert count.result(1.0)["reason"] == "fewer than two readings or queries"

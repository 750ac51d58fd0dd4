"""Throttling and other programs, from made files that change while the monitor runs."""

from __future__ import annotations

import time

import pytest

from tests.benchmark.device.fake_machine import CPUFREQ, INA, ORIN, PC, ZONE, stat, write
from vidprism_edge.benchmark.device.load import LoadMeter
from vidprism_edge.benchmark.device.monitor import Monitor
from vidprism_edge.benchmark.device.throttling import read_limits, tell_throttled
from vidprism_edge.benchmark.device.tree import Tree
from vidprism_edge.benchmark.judge import judge_alone, judge_throttling


@pytest.mark.parametrize(
    ("machine", "change", "says"),
    [
        (ORIN, {f"{CPUFREQ}/scaling_max_freq": 729_600}, "highest clock of cpu 0"),
        (ORIN, {"sys/class/thermal/cooling_device0/cur_state": 3}, "cooling by cpufreq-cpu0"),
        (ORIN, {f"{INA}/oc1_event_cnt": 2}, "over-current oc1 events"),
        (ORIN, {"sys/class/thermal/cooling_device1/cur_state": 4}, None),  # a fan that turns faster slows nothing
        (ORIN, {f"{CPUFREQ}/scaling_max_freq": 1_728_000, f"{CPUFREQ}/scaling_cur_freq": 115_200}, None),
        (PC, {"sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": 8}, "core_throttle events"),
        ({"sys/devices/platform/soc/soc:firmware/get_throttled": "0x50000"},
         {"sys/devices/platform/soc/soc:firmware/get_throttled": "0x50005"}, "firmware: under-voltage"),
    ],
)  # fmt: skip
def test_what_limits_the_machine_is_told_by_name(tmp_path, machine, change, says):
    before = read_limits(write(tmp_path, machine))
    now = read_limits(write(tmp_path, change))
    assert tell_throttled(before, before) == []
    found = tell_throttled(before, now)
    assert (says in found) if says else found == []


def test_throttling_in_a_run_is_dated(tmp_path):
    tree = write(tmp_path, ORIN | {"proc/stat": stat(0)})
    with Monitor(tree, period_s=0.05) as monitor:
        time.sleep(0.2)
        write(tmp_path, {f"{CPUFREQ}/scaling_max_freq": 729_600, f"{ZONE}/temp": 99_500})
        changed_s = monitor.now_s()
        time.sleep(0.2)
    began = next(row["t_s"] for row in monitor.rows if row["throttled_by"])
    assert changed_s - 0.01 <= began
    assert any(not row["throttled_by"] for row in monitor.rows), "the rows before were not"
    assert monitor.rows[-1]["temperatures_c"]["cpu-thermal"] == 99.5
    (reason,) = judge_throttling(monitor.rows)
    assert reason == f"the machine throttled from {began:.0f} s on: highest clock of cpu 0"
    assert monitor.energy(0.1)["method"] == "INA rail VDD_IN"
    assert monitor.cpu_s > 0


def test_a_bare_machine_is_watched_without_numbers(tmp_path):
    with Monitor(Tree(tmp_path)) as monitor:
        pass
    (row,) = monitor.rows
    assert (row["temperatures_c"], row["clocks_hz"], row["throttled_by"]) == ({}, {}, [])
    assert (row["others_cores"], row["waited"], row["power_w"]) == (None, None, None)
    energy = monitor.energy(1.0)
    assert energy["value"] is None
    assert energy["reason"]
    assert judge_alone(monitor.rows) == judge_throttling(monitor.rows) == []


def test_others_are_what_is_busy_beside_this_program(tmp_path):
    """Ten seconds in which two cores were busy for 14, of which 9 were this program's."""
    tree = write(tmp_path, {"proc/stat": stat(100), "proc/self/task/7/schedstat": "9 1000000000 3"})
    own, at = iter((50.0, 59.0)), iter((0.0, 10.0))
    meter = LoadMeter(tree, own_cpu_s=lambda: next(own), clock=lambda: next(at))
    write(tmp_path, {"proc/stat": stat(114), "proc/self/task/7/schedstat": "99 3000000000 5"})
    load = meter.read()
    assert load.others_cores == pytest.approx(0.5)
    assert load.waited == pytest.approx(0.2)


def rows(cores, waited=0.0):
    return [
        {"t_s": float(i), "others_cores": c, "waited": waited, "throttled_by": []}
        for i, c in enumerate(cores)
    ]


def test_a_hog_is_dated_and_a_daemon_that_wakes_up_is_not():
    (reason,) = judge_alone(rows([0.0] * 12 + [1.0] * 8))
    assert reason == "other programs kept 1.0 cores busy in 8 of 20 readings, from 12 s on"
    assert judge_alone(rows([0.0] * 12 + [1.0] + [0.0] * 7)) == []
    assert judge_alone(rows([0.2] * 20)) == []


def test_waiting_counts_where_somebody_else_may_be_the_reason():
    (reason,) = judge_alone(rows([0.2] * 20, waited=0.5))
    assert reason == "the benchmark waited 0.50 s a second for a core in 20 of 20 readings, from 0 s on"
    assert judge_alone(rows([0.0] * 20, waited=0.5)) == [], "its own threads wait for one another"
    assert len(judge_alone(rows([None] * 20, waited=0.5))) == 1

"""Lines of ``tegrastats`` from three generations of boards, and a made program that prints them."""

from __future__ import annotations

import time

import pytest

from vidprism_edge.benchmark.device.monitor import Monitor
from vidprism_edge.benchmark.device.tegrastats import TegraReader, parse_tegrastats
from vidprism_edge.benchmark.device.tree import Tree

ORIN = (
    "11-24-2026 10:11:12 RAM 2461/7620MB (lfb 6x4MB) SWAP 0/3810MB (cached 0MB) CPU [12%@1344,0%@1344,off,off,3%@729,"
    "1%@729] EMC_FREQ 2%@2133 GR3D_FREQ 41%@[918] NVDEC off cpu@51.218C soc2@50.062C gpu@50.937C tj@51.218C cv0@-256C "
    "VDD_IN 6603mW/6420mW VDD_CPU_GPU_CV 2143mW/2100mW VDD_SOC 1582mW/1582mW"
)
XAVIER = (
    "RAM 2000/7765MB (lfb 1x4MB) CPU [20%@1190,17%@1190] EMC_FREQ 0% GR3D_FREQ 0% AO@31.5C GPU@32C PMIC@50C CPU@33.5C "
    "thermal@32.25C POM_5V_IN 3200/3150 POM_5V_GPU 80/80"
)


def test_an_orins_line():
    found = parse_tegrastats(ORIN)
    assert found.temperatures_c == {"cpu": 51.218, "soc2": 50.062, "gpu": 50.937, "tj": 51.218}  # cv0 is off
    assert found.board_w == pytest.approx(6.603)
    assert found.clocks_hz["gpu"] == 918e6
    assert found.clocks_hz["cpu 0"] == 1.344e9
    assert found.gpu_use == 0.41


def test_milliwatts_without_a_unit():
    found = parse_tegrastats(XAVIER)
    assert found.board_w == pytest.approx(3.2)
    assert found.temperatures_c["CPU"] == 33.5


@pytest.mark.parametrize(
    ("text", "watts"),
    [("VDD_IN 6.6W/6.4W", 6.6), ("VDD_IN 6603000000mW/1mW", None), ("VDD_IN 0mW/0mW", None), ("", None)],
)
def test_other_units_and_impossible_rails(text, watts):
    assert parse_tegrastats(text).board_w == watts


@pytest.mark.parametrize("line", ["", "garbage CPU [", "VDD_IN /", "cpu@C", "CPU [off,off] GR3D_FREQ x%"])
def test_a_broken_line_gives_nothing(line):
    found = parse_tegrastats(line)
    assert (found.temperatures_c, found.clocks_hz, found.rails_w) == ({}, {}, {})


def test_the_program_is_followed_and_its_power_counted(tmp_path):
    program = tmp_path / "tegrastats"
    program.write_text(f"#!/bin/sh\nwhile :; do echo '{ORIN}'; sleep 0.05; done\n")
    program.chmod(0o755)
    reader = TegraReader.start((str(program), "--interval", "500"))
    assert reader is not None
    try:
        while reader.latest is None:
            time.sleep(0.01)
        with Monitor(Tree(tmp_path / "none"), tegra=reader, period_s=0.05) as monitor:
            time.sleep(0.2)
    finally:
        reader.close()
    assert monitor.rows[-1]["temperatures_c"]["tj"] == 51.218
    assert monitor.rows[-1]["clocks_hz"]["gpu"] == 918e6
    energy = monitor.energy(1.0)
    assert (energy["method"], energy["covers"]) == ("tegrastats", "whole board")
    assert energy["average_w"] == pytest.approx(6.603)


def test_no_program_is_no_reader():
    assert TegraReader.start(("no-such-tegrastats",)) is None

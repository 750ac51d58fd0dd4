"""What two runs must have in common, from made files."""

from __future__ import annotations

import pytest

from tests.benchmark.device.fake_machine import CPUFREQ, ORIN, PC, write
from vidprism_edge.benchmark.device.fingerprint import (
    describe_device,
    name_jetpack,
    read_power_mode,
    tell_differences,
)
from vidprism_edge.benchmark.device.tree import Tree


def test_an_orin(tmp_path):
    device = describe_device(write(tmp_path, ORIN))
    expected = {
        "board": "NVIDIA Jetson Orin Nano Developer Kit",
        "soc": "nvidia,tegra234",
        "memory_gib": 7.4,
        "distribution": "Ubuntu 22.04.5 LTS",
        "l4t": "36.4.3",
        "jetpack": "6.1 or 6.2",
        "power_mode": "1 25W",
        "governor": "schedutil",
        "max_clock_mhz": [1728],
        "gpu": None,
        "virtual": False,
    }
    assert {name: device[name] for name in expected} == expected


def test_a_pc(tmp_path):
    device = describe_device(write(tmp_path, PC))
    assert (device["board"], device["turbo"], device["l4t"]) == ("ASUS PN53", True, None)


def test_a_bare_tree_invents_nothing(tmp_path):
    device = describe_device(Tree(tmp_path))
    unknown = (
        "board",
        "soc",
        "memory_gib",
        "l4t",
        "jetpack",
        "power_mode",
        "governor",
        "max_clock_mhz",
        "gpu",
        "driver",
    )
    assert {device[name] for name in unknown if name != "max_clock_mhz"} == {None}


@pytest.mark.parametrize(
    ("l4t", "jetpack"),
    [
        ("36.4.3", "6.1 or 6.2"),
        ("36.3.0", "6.0"),
        ("35.4.1", "5.1.2"),
        ("32.7.1", "4"),
        ("99.1", None),
        (None, None),
    ],
)
def test_jetpacks(l4t, jetpack):
    assert name_jetpack(l4t) == jetpack


def test_a_power_mode_without_a_name(tmp_path):
    tree = write(tmp_path, {"var/lib/nvpmodel/status": "pmode:0008"})
    assert read_power_mode(tree) == "8"


def test_another_power_mode_or_governor_is_another_device(tmp_path):
    first = describe_device(write(tmp_path / "a", ORIN))
    changed = ORIN | {"var/lib/nvpmodel/status": "pmode:0002", f"{CPUFREQ}/scaling_governor": "performance"}
    second = describe_device(write(tmp_path / "b", changed))
    assert tell_differences(first, first) == []
    assert tell_differences(first, second) == [
        "power_mode: 1 25W and 2 MAXN_SUPER",
        "governor: schedutil and performance",
    ]


def test_the_driver_from_the_kernels_file(tmp_path):
    text = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024"
    assert describe_device(write(tmp_path, {"proc/driver/nvidia/version": text}))["driver"] == "550.54.15"

"""What makes two runs comparable: board, processor, system, driver, power mode, clocks, governor."""

from __future__ import annotations

import platform
import re
from typing import Any

from vidprism_edge.benchmark.device.nvml import Nvml
from vidprism_edge.benchmark.device.tree import Tree
from vidprism_edge.report import describe_environment

#: JetPack by the start of its L4T release.
_JETPACK = {
    "32": "4", "34": "5.0", "35.1": "5.0.2", "35.2": "5.1", "35.3": "5.1.1", "35.4": "5.1.2", "35.5": "5.1.3",
    "35.6": "5.1.4", "36.2": "6.0 DP", "36.3": "6.0", "36.4": "6.1 or 6.2", "38": "7",
    "38.2": "7.0", "38.4": "7.1", "39.2.0": "7.2", "39.2.1": "7.2.1",
}  # fmt: skip
#: What must agree for two runs to be of the same device, in the order in which a difference is told.
SAME = (
    "board", "cpu", "machine", "cores", "memory_gib", "instruction_sets", "l4t", "power_mode", "governor",
    "max_clock_mhz", "gpu", "driver",
)  # fmt: skip


def describe_device(tree: Tree | None = None, nvml: Nvml | None = None) -> dict[str, Any]:
    """Everything of :func:`describe_environment` and what a lab writes down beside it; the unknown is None."""
    tree = tree or Tree()
    found = describe_environment()
    l4t = read_l4t(tree)
    gpu = nvml.describe() if nvml is not None else None
    found.update(
        board=_board(tree),
        soc=_soc(tree),
        memory_gib=_memory_gib(tree),
        distribution=_distribution(tree),
        kernel=platform.release(),
        l4t=l4t,
        jetpack=name_jetpack(l4t),
        power_mode=read_power_mode(tree),
        governor=tree.text("sys/devices/system/cpu/cpufreq/policy0/scaling_governor"),
        max_clock_mhz=_max_clock_mhz(tree),
        turbo=_turbo(tree),
        gpu=gpu["name"] if gpu else None,
        gpu_reads=gpu,
        driver=(gpu["driver"] if gpu else None) or _driver(tree),
        virtual="hypervisor" in (tree.text("proc/cpuinfo") or "").partition("\n\n")[0],
    )
    return found


def _board(tree: Tree) -> str | None:
    """The device tree's model, or a PC's maker and product."""
    model = tree.text("proc/device-tree/model")
    if model:
        return model
    names = [tree.text(f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name")]
    return " ".join(filter(None, names)) or None


def _soc(tree: Tree) -> str | None:
    """The most specific name of the device tree's compatible list that is a chip's."""
    listed = (tree.text("proc/device-tree/compatible") or "").split("\0")
    return listed[-1] or None


def _memory_gib(tree: Tree) -> float | None:
    match = re.search(r"^MemTotal:\s*(\d+) kB", tree.text("proc/meminfo") or "", re.MULTILINE)
    return round(int(match[1]) / 1024**2, 1) if match else None


def _distribution(tree: Tree) -> str | None:
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)', tree.text("etc/os-release") or "", re.MULTILINE)
    return match[1] if match else None


def _max_clock_mhz(tree: Tree) -> list[int] | None:
    """The highest clock of each policy (the kernel's files are in kHz)."""
    paths = tree.find("sys/devices/system/cpu/cpufreq/policy*/cpuinfo_max_freq")
    found = [round(value / 1e3) for path in paths if (value := tree.number(path)) is not None]
    return found or None


def _turbo(tree: Tree) -> bool | None:
    off = tree.number("sys/devices/system/cpu/intel_pstate/no_turbo")
    if off is not None:
        return off == 0
    on = tree.number("sys/devices/system/cpu/cpufreq/boost")
    return None if on is None else on == 1


def _driver(tree: Tree) -> str | None:
    match = re.search(
        r"Kernel Module(?: for \S+)?\s+(\d+[\d.]*)", tree.text("proc/driver/nvidia/version") or ""
    )
    return match[1] if match else None


def read_l4t(tree: Tree) -> str | None:
    """The release of a Jetson's system, as ``36.4.3``."""
    text = tree.text("etc/nv_tegra_release") or ""
    match = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", text)
    return f"{match[1]}.{match[2]}" if match else None


def name_jetpack(l4t: str | None) -> str | None:
    """The JetPack that an L4T release belongs to."""
    if l4t is None:
        return None
    known = [start for start in _JETPACK if l4t == start or l4t.startswith(f"{start}.")]
    return _JETPACK[max(known, key=len)] if known else None


def read_power_mode(tree: Tree) -> str | None:
    """A Jetson's nvpmodel by number and name, a laptop's platform profile, None elsewhere."""
    status = re.search(r"pmode:(\d+)", tree.text("var/lib/nvpmodel/status") or "")
    if status:
        number = int(status[1])
        modes = re.findall(r"POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>", tree.text("etc/nvpmodel.conf") or "")
        named = {int(i): name for i, name in modes}.get(number, "")
        return f"{number} {named}".strip()
    return tree.text("sys/firmware/acpi/platform_profile")


def tell_differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """What keeps two fingerprints from being of the same device in the same state."""
    return [
        f"{name}: {first.get(name)} and {second.get(name)}"
        for name in SAME
        if first.get(name) != second.get(name)
    ]

"""Whether the machine slows itself down: what it says of that, and what its limits show."""

from __future__ import annotations

from pathlib import Path

from vidprism_edge.benchmark.device.tree import Tree

#: Bits of the Raspberry Pi firmware's word: what happens now, not what has happened since the start.
_PI_NOW = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}


def read_limits(tree: Tree) -> dict[str, float]:
    """What only moves when something limits the machine, by name: compared with its value before the run.

    Counters of throttling events rise; the highest clock that a policy allows falls below what the user set.
    """
    found: dict[str, float] = {}
    for path in tree.find("sys/devices/system/cpu/cpu*/thermal_throttle/*_throttle_count"):
        _sum(found, f"{Path(path).stem.removesuffix('_count')} events", tree.number(path))
    for path in tree.find("sys/class/hwmon/hwmon*/oc*_event_cnt"):  # over-current, Jetson Orin
        _sum(found, f"over-current {Path(path).name.partition('_')[0]} events", tree.number(path))
    for path in tree.find("sys/devices/system/cpu/cpufreq/policy*/scaling_max_freq"):
        value = tree.number(path)
        if value is not None:
            found[f"highest clock of cpu {Path(path).parent.name.removeprefix('policy')}"] = -float(value)
    for path in tree.find("sys/class/thermal/cooling_device*/cur_state"):
        kind = tree.text(f"{Path(path).parent}/type") or ""
        # fans cool too, and slow nothing down
        if "fan" not in kind.lower():
            _sum(found, f"cooling by {kind or Path(path).parent.name}", tree.number(path))
    pi = tree.number("sys/devices/platform/soc/soc:firmware/get_throttled")
    if pi is not None:
        for bit, name in _PI_NOW.items():
            found[f"firmware: {name}"] = float(pi >> bit & 1)
    return found


def _sum(found: dict[str, float], name: str, value: int | None) -> None:
    if value is not None:
        found[name] = found.get(name, 0.0) + value


def tell_throttled(before: dict[str, float], now: dict[str, float]) -> list[str]:
    """The names of limits that are tighter now than before."""
    return [name for name, value in now.items() if name in before and value > before[name]]

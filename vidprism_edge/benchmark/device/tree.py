"""The kernel's files, in SI units: a number of the wrong magnitude is taken for a mistake, not for a measurement."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: What a running machine can show: outside of it, a driver means another unit than the kernel's documents say.
CELSIUS, HERTZ, WATTS = (-40.0, 150.0), (1e6, 2e10), (0.05, 5e3)
#: Drivers that give whole degrees where thousandths are due: no machine runs at a fifth of a degree.
WHOLE_DEGREES = 200


@dataclass(frozen=True, slots=True)
class Tree:
    """Files below ``root``, which is ``/`` but in tests."""

    root: Path = Path("/")
    _found: dict[str, list[str]] = field(default_factory=dict, compare=False)

    def text(self, path: str) -> str | None:
        """The stripped content of a file, None where there is none that can be read."""
        try:
            return (self.root / path).read_text(errors="replace").strip("\0\n ")
        except OSError:
            return None

    def number(self, path: str) -> int | None:
        """A whole number from a file, None where there is none."""
        try:
            return int((self.text(path) or "").split()[0], 0)
        except (ValueError, IndexError):
            return None

    def find(self, pattern: str) -> Iterator[str]:
        """The paths below the root that match, in order of their names' lengths and then of the names.

        Looked for once: no sensor comes or goes in a run, and looking costs more than reading.
        """
        if pattern not in self._found:
            found = [path.relative_to(self.root).as_posix() for path in self.root.glob(pattern)]
            self._found[pattern] = sorted(found, key=lambda path: (len(path), path))
        yield from self._found[pattern]

    def names(self, folder: str) -> list[str]:
        """What is in a folder now; empty where there is none."""
        try:
            return os.listdir(self.root / folder)
        except OSError:
            return []

    def is_readable(self, path: str) -> bool:
        """Whether the file's content can be had, which its being there does not say."""
        return self.text(path) is not None


def within(value: float | None, limits: tuple[float, float]) -> float | None:
    """The value, or None where it is outside of what can be."""
    return value if value is not None and limits[0] <= value <= limits[1] else None


def celsius(raw: int | None) -> float | None:
    """A thermal reading in thousandths of a degree (or, from some drivers, whole degrees) in °C."""
    if raw is None:
        return None
    return within(float(raw) if abs(raw) < WHOLE_DEGREES else raw / 1e3, CELSIUS)


def read_temperatures(tree: Tree) -> dict[str, float]:
    """°C by sensor: the thermal zones by type, and where there are none, hwmon's sensors by chip and label."""
    found: dict[str, float] = {}
    for zone in tree.find("sys/class/thermal/thermal_zone*"):
        value = celsius(tree.number(f"{zone}/temp"))
        if value is not None:
            _add(found, tree.text(f"{zone}/type") or Path(zone).name, value)
    if found:
        return found
    for path in tree.find("sys/class/hwmon/hwmon*/temp*_input"):
        value = celsius(tree.number(path))
        if value is not None:
            chip = tree.text(f"{Path(path).parent}/name") or Path(path).parent.name
            label = tree.text(path.replace("_input", "_label"))
            _add(found, f"{chip} {label}" if label else chip, value)
    return found


def _add(found: dict[str, float], name: str, value: float) -> None:
    unique, number = name, 2
    while unique in found:
        unique, number = f"{name} {number}", number + 1
    found[unique] = value


def read_clocks(tree: Tree) -> dict[str, float]:
    """Hz by clock: each cpufreq policy (kHz in the kernel's files) and the GPU's devfreq (Hz)."""
    found = {}
    for path in tree.find("sys/devices/system/cpu/cpufreq/policy*/scaling_cur_freq"):
        raw = tree.number(path)
        value = within(None if raw is None else raw * 1e3, HERTZ)
        if value is not None:
            found[f"cpu {Path(path).parent.name.removeprefix('policy')}"] = value
    for path in tree.find("sys/class/devfreq/*/cur_freq"):
        name = Path(path).parent.name
        raw = tree.number(path)
        value = within(None if raw is None else float(raw), HERTZ)
        if value is not None and ("gpu" in name or "gv11b" in name or "ga10b" in name or "gb10b" in name):
            found["gpu"] = value
    return found

"""What the machine draws, from the first meter that can be read; where none can, the reason and no number.

Counters (RAPL, some GPUs) give joules; meters give watts, which are summed over the time between two readings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vidprism_edge.benchmark.device.tree import WATTS, Tree, within


class Meter(Protocol):
    """One source of power or energy. ``covers`` says what part of the machine it sees."""

    method: str
    covers: str

    def joules(self) -> float | None:
        """A counter's value, which rises; None for a meter of power."""

    def watts(self) -> float | None:
        """Power now; None for a counter, or when the reading is impossible."""


@dataclass(slots=True)
class Rapl:
    """The processor package's energy counters, in microjoules, which wrap around."""

    tree: Tree
    zones: list[str]
    method: str = "RAPL"
    covers: str = "processor package"
    _total_uj: float = 0.0
    _last: dict[str, int] | None = None

    def joules(self) -> float | None:
        """Joules since the first reading."""
        now = {zone: self.tree.number(f"{zone}/energy_uj") for zone in self.zones}
        known = {zone: value for zone, value in now.items() if value is not None}
        if len(known) < len(now):
            return None
        for zone, value in known.items():
            before = (self._last or known)[zone]
            wrapped = value < before
            span = self.tree.number(f"{zone}/max_energy_range_uj") or 0
            self._total_uj += value - before + (span if wrapped else 0)
        self._last = known
        return self._total_uj / 1e6

    def watts(self) -> float | None:
        """A counter has no power of its own."""
        return None


@dataclass(slots=True)
class Rail:
    """One rail of a power monitor: its power (µW) where the chip gives it, else millivolts times milliamperes."""

    tree: Tree
    folder: str
    index: int
    method: str
    covers: str

    def joules(self) -> float | None:
        """A meter of power counts nothing."""
        return None

    def watts(self) -> float | None:
        """Power now, None where it is not that of a machine."""
        for name in ("input", "average"):
            power = self.tree.number(f"{self.folder}/power{self.index}_{name}")
            if power is not None:
                return within(power / 1e6, WATTS)
        millivolts = self.tree.number(f"{self.folder}/in{self.index}_input")
        milliamperes = self.tree.number(f"{self.folder}/curr{self.index}_input")
        if millivolts is None or milliamperes is None:
            return None
        return within(millivolts * milliamperes / 1e6, WATTS)


#: Labels of the rail that feeds the whole board, most inclusive first: Orin, Xavier, older Jetsons.
BOARD_RAILS = ("VDD_IN", "VIN", "SYS5V", "5V_IN", "POM_5V_IN")


def find_meters(tree: Tree) -> tuple[list[Meter], str]:
    """The meters that can be read, the one to trust first, and why the others cannot be."""
    reasons: list[str] = []
    meters: list[Meter] = list(_board_rails(tree))
    zones = [z for z in tree.find("sys/class/powercap/intel-rapl:*") if Path(z).name.count(":") == 1]
    if zones and all(tree.is_readable(f"{zone}/energy_uj") for zone in zones):
        meters.append(Rapl(tree, zones))
    elif zones:
        reasons.append("RAPL may be read by root alone: run as root, or chmod a+r its energy_uj files")
    else:
        reasons.append("the kernel shows no RAPL")
    meters += _power_sensors(tree)
    if not meters:
        reasons.append("no power sensor under /sys/class/hwmon")
    return meters, "; ".join(reasons)


def _board_rails(tree: Tree) -> Iterator[Rail]:
    """The input rail of a Jetson's INA monitors."""
    rails = {}
    for path in tree.find("sys/class/hwmon/hwmon*/in*_label"):
        label = (tree.text(path) or "").strip()
        rails[label] = path
    for label in BOARD_RAILS:
        if label in rails:
            folder, _, file = rails[label].rpartition("/")
            index = int(file.removeprefix("in").removesuffix("_label"))
            rail = Rail(tree, folder, index, f"INA rail {label}", "whole board")
            if rail.watts() is not None:
                yield rail
                return


def _power_sensors(tree: Tree) -> Iterator[Rail]:
    for path in tree.find("sys/class/hwmon/hwmon*/power*_input"):
        folder = Path(path).parent
        index = int(Path(path).name.removeprefix("power").removesuffix("_input"))
        chip = tree.text(f"{folder}/name") or folder.name
        rail = Rail(tree, str(folder), index, f"hwmon {chip}", f"what {chip} measures")
        if rail.watts() is not None:
            yield rail


class EnergyCount:
    """Adds up one meter's readings over a run: the trapezoid of the power, or a counter's difference."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self._first_j: float | None = None
        self._joules: float | None = None
        self._last: tuple[float, float] | None = None
        self._began_s: float | None = None
        self._seen_s = 0.0

    def sample(self, at_s: float) -> float | None:
        """Take a reading at ``at_s`` seconds → watts now, where the meter gives them."""
        joules = self.meter.joules()
        if joules is not None:
            self._first_j = joules if self._first_j is None else self._first_j
            self._began_s = at_s if self._began_s is None else self._began_s
            watts = None
            if self._last is not None and at_s > self._last[0]:
                watts = (joules - self._last[1]) / (at_s - self._last[0])
            self._last, self._joules = (at_s, joules), joules - self._first_j
            self._seen_s = at_s - self._began_s
            return watts
        watts = self.meter.watts()
        if watts is None:
            return None
        if self._last is not None:
            spent = at_s - self._last[0]
            self._joules = (self._joules or 0.0) + spent * (watts + self._last[1]) / 2
            self._seen_s += spent
        self._last = (at_s, watts)
        return watts

    def result(self, pace_s: float | None) -> dict[str, Any]:
        """Joules a query, one every ``pace_s`` seconds; the average power, the method, or the reason why not."""
        told = {"method": self.meter.method, "covers": self.meter.covers, "unit": "J per query"}
        if self._joules is None or self._seen_s <= 0 or pace_s is None:
            return {"value": None, "average_w": None, "reason": "fewer than two readings or queries", **told}
        average = within(self._joules / self._seen_s, WATTS)
        if average is None:
            implausible = (
                f"{self._joules / self._seen_s:g} W on average cannot be: the meter's unit is another"
            )
            return {"value": None, "average_w": None, "reason": implausible, **told}
        return {"value": average * pace_s, "average_w": average, "reason": None, **told}


def join_energy(parts: Sequence[dict[str, Any]], queries: Sequence[int]) -> dict[str, Any]:
    """The energy a query of a whole run from :meth:`EnergyCount.result` of its parts, by their numbers of queries.

    What one part could not measure, the run does not have: that part's reason is the run's.
    """
    lacking = next((part for part in parts if part["value"] is None), None)
    if lacking is not None:
        return lacking
    joined = dict(parts[0])
    for name in ("value", "average_w"):
        joined[name] = sum(part[name] * n for part, n in zip(parts, queries, strict=True)) / sum(queries)
    if "others" in joined:
        meters = zip(*(part["others"] for part in parts), strict=True)
        joined["others"] = [join_energy(meter, queries) for meter in meters]
    return joined


def no_energy(reason: str) -> dict[str, Any]:
    """The result where nothing measures."""
    return {
        "value": None, "average_w": None, "reason": reason, "method": None, "covers": None, "unit": "J per query",
    }  # fmt: skip

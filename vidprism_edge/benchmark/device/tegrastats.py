"""``tegrastats`` of a Jetson: one line a moment, with clocks, temperatures and rails, in units of its own."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from vidprism_edge.benchmark.device.tree import CELSIUS, HERTZ, WATTS, within

_TEMPERATURE = re.compile(r"\b([A-Za-z][\w-]*)@(-?\d+(?:\.\d+)?)C\b")
#: ``VDD_IN 5081mW/5081mW`` (now / average); older versions leave the unit out, and it is milliwatts all the same.
_RAIL = re.compile(r"\b((?:VDD|VIN|POM|SYS5V|VDDQ)\w*) (\d+(?:\.\d+)?)(mW|W)?/(\d+(?:\.\d+)?)(?:mW|W)?")
_CORES = re.compile(r"CPU \[([^\]]*)\]")
_CORE = re.compile(r"\d+%@(\d+)")
_GPU = re.compile(r"GR3D_FREQ (\d+)%(?:@\[?(\d+))?")
_BOARD = ("VDD_IN", "VIN_SYS_5V0", "POM_5V_IN", "SYS5V")


@dataclass(slots=True)
class Tegra:
    """One line: °C by zone, Hz by clock, W by rail; GPU use as a share."""

    temperatures_c: dict[str, float] = field(default_factory=dict)
    clocks_hz: dict[str, float] = field(default_factory=dict)
    rails_w: dict[str, float] = field(default_factory=dict)
    gpu_use: float | None = None

    @property
    def board_w(self) -> float | None:
        """Power of the rail that feeds the board, None where the line has none."""
        return next((self.rails_w[name] for name in _BOARD if name in self.rails_w), None)


def parse_tegrastats(line: str) -> Tegra:
    """Read a line; what is not in it, or cannot be, is left out."""
    found = Tegra()
    for name, text in _TEMPERATURE.findall(line):
        value = within(float(text), CELSIUS)
        # a zone that is switched off reads -256
        if value is not None:
            found.temperatures_c[name] = value
    for name, text, unit, _ in _RAIL.findall(line):
        value = within(float(text) * (1.0 if unit == "W" else 1e-3), WATTS)
        if value is not None:
            found.rails_w[name] = value
    cores = _CORES.search(line)
    for number, megahertz in enumerate(_CORE.findall(cores[1]) if cores else ()):
        value = within(float(megahertz) * 1e6, HERTZ)
        if value is not None:
            found.clocks_hz[f"cpu {number}"] = value
    gpu = _GPU.search(line)
    if gpu:
        found.gpu_use = int(gpu[1]) / 100
        value = within(float(gpu[2]) * 1e6 if gpu[2] else None, HERTZ)
        if value is not None:
            found.clocks_hz["gpu"] = value
    return found


class TegraReader:
    """Keeps the latest line of a running ``tegrastats``. A meter, where its board's rail is shown."""

    method = "tegrastats"
    covers = "whole board"

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.latest: Tegra | None = None
        self._thread = threading.Thread(target=self._follow, name="vidprism-tegrastats", daemon=True)
        self._thread.start()

    @classmethod
    def start(cls, command: Sequence[str] = ("tegrastats", "--interval", "500")) -> TegraReader | None:
        """Start the program, None where there is none."""
        if shutil.which(command[0]) is None:
            return None
        return cls(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1)
        )

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.latest = parse_tegrastats(line)

    def joules(self) -> float | None:
        """It counts nothing."""
        return None

    def watts(self) -> float | None:
        """The board's power in the latest line."""
        return self.latest.board_w if self.latest is not None else None

    def close(self) -> None:
        """End the program."""
        self._process.terminate()
        self._process.wait(5)
        self._thread.join(5)

"""A thread that writes down, once a second, how the machine fares while it is measured, and what that costs."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any

from vidprism_edge.benchmark.device.load import LoadMeter
from vidprism_edge.benchmark.device.nvml import Nvml
from vidprism_edge.benchmark.device.power import EnergyCount, Meter, find_meters, no_energy
from vidprism_edge.benchmark.device.tegrastats import TegraReader
from vidprism_edge.benchmark.device.throttling import read_limits, tell_throttled
from vidprism_edge.benchmark.device.tree import Tree, read_clocks, read_temperatures

PERIOD_S = 1.0


class Monitor:
    """A context manager around what is measured; ``rows`` has one entry a period, times in seconds since its start.

    A row: ``t_s``, ``temperatures_c``, ``clocks_hz``, ``others_cores``, ``waited``, ``power_w``, ``throttled_by``.
    """

    def __init__(
        self,
        tree: Tree | None = None,
        *,
        nvml: Nvml | None = None,
        tegra: TegraReader | None = None,
        period_s: float = PERIOD_S,
        limits: dict[str, float] | None = None,
    ) -> None:
        self._tree, self._nvml, self._tegra, self._period_s = tree or Tree(), nvml, tegra, period_s
        self.rows: list[dict[str, Any]] = []
        #: Processor time that this thread itself took, in seconds.
        self.cpu_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="vidprism-monitor", daemon=True)
        meters, self._why_none = find_meters(self._tree)
        if tegra is not None and not any(meter.covers == "whole board" for meter in meters):
            meters.insert(0, tegra)
        self._counts = [EnergyCount(meter) for meter in self._choose(meters)]
        #: What the machine's limits were before the run; None: as they are when the monitor starts.
        self._limits = limits
        #: When the clock began, on that of :func:`time.perf_counter`.
        self.born_s = 0.0

    def _choose(self, meters: list[Meter]) -> list[Meter]:
        """The one to trust most, and the GPU's own beside it."""
        return meters[:1] + ([self._nvml] if self._nvml is not None else [])

    def __enter__(self) -> Monitor:
        if self._limits is None:
            self._limits = read_limits(self._tree)
        self._load = LoadMeter(self._tree)
        self.born_s = time.perf_counter()
        for count in self._counts:
            count.sample(0.0)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._read()

    def now_s(self) -> float:
        """Seconds since the start: the clock of ``rows``."""
        return time.perf_counter() - self.born_s

    def _watch(self) -> None:
        while not self._stop.wait(self._period_s):
            self._read()
            self.cpu_s = time.thread_time()

    def _read(self) -> None:
        """Append one row. A file that vanished or a library that fails leaves its entry out."""
        at, load = self.now_s(), self._load.read()
        temperatures, clocks = read_temperatures(self._tree), read_clocks(self._tree)
        throttled = tell_throttled(self._limits or {}, read_limits(self._tree))
        if self._tegra is not None and self._tegra.latest is not None:
            temperatures = temperatures or self._tegra.latest.temperatures_c
            clocks = clocks or self._tegra.latest.clocks_hz
        if self._nvml is not None:
            temperature, clock = self._nvml.temperature_c(), self._nvml.clock_hz()
            temperatures |= {"nvidia gpu": temperature} if temperature is not None else {}
            clocks |= {"nvidia gpu": clock} if clock is not None else {}
            throttled += [f"nvidia gpu: {name}" for name in self._nvml.slowed_by()]
        watts = [count.sample(at) for count in self._counts]
        self.rows.append(
            {
                "t_s": round(at, 3),
                "temperatures_c": temperatures,
                "clocks_hz": clocks,
                "others_cores": load.others_cores,
                "waited": load.waited,
                "power_w": watts[0] if watts else None,
                "throttled_by": throttled,
            }
        )

    def energy(self, pace_s: float | None) -> dict[str, Any]:
        """Energy a query by the first meter, and by the GPU's beside it; ``pace_s``: seconds a query."""
        if not self._counts:
            return no_energy(self._why_none)
        results = [count.result(pace_s) for count in self._counts]
        return {**results[0], "others": results[1:]} if len(results) > 1 else results[0]

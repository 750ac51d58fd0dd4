"""A discrete NVIDIA GPU through NVML, by what the library and the GPU answer: no capability is taken for granted.

NVML counts in milliwatts, millijoules, megahertz and whole degrees.
"""

from __future__ import annotations

import ctypes
from typing import Any

from vidprism_edge.benchmark.device.tree import CELSIUS, HERTZ, WATTS, within

LIBRARY = "libnvidia-ml.so.1"
_CLOCK_SM, _TEMPERATURE_GPU, _NAME_BYTES = 1, 0, 96
#: Bits of the current clock event reasons that mean that something holds the clock down.
_SLOWED = {0x4: "software power cap", 0x8: "hardware slowdown", 0x20: "software thermal slowdown",
           0x40: "hardware thermal slowdown", 0x80: "hardware power brake"}  # fmt: skip


class Nvml:
    """The first GPU. :meth:`open` gives None where there is no library, no driver or no GPU."""

    method = "NVML"
    covers = "GPU board"

    def __init__(self, library: Any, device: ctypes.c_void_p) -> None:
        self._library, self._device = library, device
        self._counts = self._ask("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong) is not None

    @classmethod
    def open(cls, name: str = LIBRARY) -> Nvml | None:
        """Load the library and find the first GPU."""
        try:
            library = ctypes.CDLL(name)
            if library.nvmlInit_v2() != 0:
                return None
            device = ctypes.c_void_p()
            if library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)) != 0:
                return None
        except (OSError, AttributeError):
            return None
        return cls(library, device)

    def _ask(self, function: str, kind: Any, *before: int) -> int | None:
        """One number of the device, None where this library or this GPU has no answer."""
        value = kind()
        try:
            status = getattr(self._library, function)(self._device, *before, ctypes.byref(value))
        except AttributeError:
            return None
        return int(value.value) if status == 0 else None

    def _text(self, function: str, *handle: Any) -> str | None:
        buffer = ctypes.create_string_buffer(_NAME_BYTES)
        try:
            status = getattr(self._library, function)(*handle, buffer, _NAME_BYTES)
        except AttributeError:
            return None
        return buffer.value.decode(errors="replace") if status == 0 else None

    def describe(self) -> dict[str, Any]:
        """Name of the GPU and of the driver, and what can be read."""
        return {
            "name": self._text("nvmlDeviceGetName", self._device),
            "driver": self._text("nvmlSystemGetDriverVersion"),
            "energy_counter": self._counts,
            "power": self.watts() is not None or self._counts,
        }

    def joules(self) -> float | None:
        """Energy since the driver was loaded, where the GPU counts it (Volta and later)."""
        if not self._counts:
            return None
        value = self._ask("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong)
        return None if value is None else value / 1e3

    def watts(self) -> float | None:
        """Power now, where the GPU measures it; None where it counts energy itself."""
        if self._counts:
            return None
        value = self._ask("nvmlDeviceGetPowerUsage", ctypes.c_uint)
        return within(None if value is None else value / 1e3, WATTS)

    def temperature_c(self) -> float | None:
        """Of the GPU's die."""
        value = self._ask("nvmlDeviceGetTemperature", ctypes.c_uint, _TEMPERATURE_GPU)
        return within(None if value is None else float(value), CELSIUS)

    def clock_hz(self) -> float | None:
        """Of the streaming multiprocessors."""
        value = self._ask("nvmlDeviceGetClockInfo", ctypes.c_uint, _CLOCK_SM)
        return within(None if value is None else value * 1e6, HERTZ)

    def slowed_by(self) -> list[str]:
        """What holds the clock down now."""
        value = self._ask("nvmlDeviceGetCurrentClocksEventReasons", ctypes.c_ulonglong)
        if value is None:
            value = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", ctypes.c_ulonglong)
        return [name for bit, name in _SLOWED.items() if (value or 0) & bit]

    def close(self) -> None:
        """Release the library."""
        self._library.nvmlShutdown()

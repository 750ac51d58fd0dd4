"""What else the machine does: processor time that other programs took, and how long this one waited for a core."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from vidprism_edge.benchmark.device.tree import Tree


def _own_cpu_s() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


@dataclass(frozen=True, slots=True)
class Load:
    """Between two readings: cores that others kept busy, and seconds a second that our threads waited for a core."""

    others_cores: float | None
    waited: float | None


class LoadMeter:
    """Reads the load since the reading before. ``own_cpu_s`` and ``clock`` are replaced in tests."""

    def __init__(
        self,
        tree: Tree,
        *,
        own_cpu_s: Callable[[], float] = _own_cpu_s,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._tree, self._own, self._clock = tree, own_cpu_s, clock
        self._tick_s = 1 / os.sysconf("SC_CLK_TCK")
        self._before = self._sample()

    def _sample(self) -> tuple[float, float | None, float, float | None]:
        return self._clock(), self._busy_s(), self._own(), self._waited_s()

    def _busy_s(self) -> float | None:
        """Seconds that all cores were busy since boot; stolen ones (another guest's) are among them."""
        line = (self._tree.text("proc/stat") or "").partition("\n")[0].split()
        if len(line) < 9 or line[0] != "cpu":
            return None
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line[1:9])
        return (user + nice + system + irq + softirq + steal) * self._tick_s

    def _waited_s(self) -> float | None:
        """Seconds that this process's threads were ready to run and had no core."""
        delays = [
            int(text.split()[1])
            for thread in self._tree.names("proc/self/task")
            if (text := self._tree.text(f"proc/self/task/{thread}/schedstat")) and len(text.split()) >= 2
        ]
        return sum(delays) / 1e9 if delays else None

    def read(self) -> Load:
        """The load since the reading before."""
        now = self._sample()
        (at, busy, own, waited), self._before = self._before, now
        spent = max(now[0] - at, 1e-9)
        others = None
        if busy is not None and now[1] is not None:
            others = max(0.0, (now[1] - busy - (now[2] - own)) / spent)
        delay = None
        if waited is not None and now[3] is not None:
            # a thread that ended took its waiting with it
            delay = max(0.0, (now[3] - waited) / spent)
        return Load(others, delay)

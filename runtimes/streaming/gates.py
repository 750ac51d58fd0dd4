"""Gates: whether an expert is worth running, judged from the native core's block statistics alone.

A gate is never closed for longer than its ``max_skip``, and motion reopens it at the next frame.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: A block has changed when its luma moved by more than this many grey levels …
LEAST_CHANGE = 4.0
#: … and by more than this many times the camera's own noise.
NOISE_FACTOR = 4.0
#: Share of blocks that must have changed; never fewer than two.
LEAST_SHARE = 0.002
#: How fast the noise floor follows, per frame.
NOISE_RATE = 0.02


class Activity:
    """Tells motion and slow change from the camera's noise, whose floor it learns from still blocks."""

    def __init__(self) -> None:
        self.noise = 1.0
        self.moving = False
        self._luma: npt.NDArray[np.float32] | None = None

    def observe(self, stats: npt.NDArray[np.float32]) -> None:
        """Take a frame's block statistics, float32 [3, bh, bw]: motion, energy, mean luma."""
        motion = stats[0]
        # the median block is still unless more than half of the picture moves
        self.noise += NOISE_RATE * (min(float(np.median(motion)), 2.0 * self.noise + 0.5) - self.noise)
        self.moving = self._is_change(motion)
        self._luma = stats[2].copy()

    def _is_change(self, difference: npt.NDArray[np.float32]) -> bool:
        threshold = max(LEAST_CHANGE, NOISE_FACTOR * self.noise)
        return int(np.count_nonzero(difference > threshold)) >= max(2, round(LEAST_SHARE * difference.size))

    def reference(self) -> npt.NDArray[np.float32] | None:
        """The mean luma of each block now, to be compared with later."""
        return self._luma

    def changed_since(self, reference: npt.NDArray[np.float32] | None) -> bool:
        """Whether the picture differs from ``reference``: sees motion too slow to show between two frames."""
        if reference is None or self._luma is None or reference.shape != self._luma.shape:
            return True
        return self._is_change(np.abs(self._luma - reference))


class Gate:
    """Opens when its expert is wanted, stays open for ``hold``, and never stays closed beyond ``max_skip``."""

    def __init__(self, *, hold_s: float, max_skip_s: float, always_open: bool) -> None:
        self._hold_ns = round(hold_s * 1e9)
        self._max_skip_ns = round(max_skip_s * 1e9)
        self._always_open = always_open
        self.is_open = True
        self.reason = "warm-up"
        self._open_until_ns = 0
        self._last_run_ns = 0
        self._seen: npt.NDArray[np.float32] | None = None

    def reset(self, t_ns: int, warm_up_ns: int) -> None:
        """Start anew at ``t_ns``; the gate stays open while the first window fills."""
        self._open_until_ns = t_ns + warm_up_ns
        self._last_run_ns = t_ns
        self._seen = None
        self.is_open, self.reason = True, "warm-up"

    def ran(self, t_ns: int, activity: Activity) -> None:
        """The expert ran on the picture as it is now."""
        self._last_run_ns = t_ns
        self._seen = activity.reference()

    def update(self, t_ns: int, activity: Activity) -> None:
        """Decide at a frame's time whether the expert may run."""
        if self._always_open:
            self.is_open, self.reason = True, "always open"
        elif activity.moving or (self._seen is not None and activity.changed_since(self._seen)):
            self._open_until_ns = max(self._open_until_ns, t_ns + self._hold_ns)
            self.is_open, self.reason = True, "motion" if activity.moving else "change"
        elif t_ns - self._last_run_ns >= self._max_skip_ns:
            self._open_until_ns = max(self._open_until_ns, t_ns + self._hold_ns)
            self.is_open, self.reason = True, "max skip"
        elif t_ns < self._open_until_ns:
            self.is_open = True
        else:
            self.is_open, self.reason = False, "still picture"

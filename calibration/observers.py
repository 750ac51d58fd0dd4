"""From the values that an activation took to the range that int8 covers. One function an observer, on a histogram."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
BINS = 2048
LEVELS = 256
#: Ranges that the searching observers try, as shares of what was seen.
_SHARES = np.geomspace(0.01, 1.0, 100)


@dataclass(slots=True)
class Histogram:
    """Counts of an activation's values between the smallest and the largest that were seen."""

    low: float
    high: float
    counts: Float = field(default_factory=lambda: np.zeros(BINS))

    def add(self, values: npt.NDArray[np.float32]) -> None:
        self.counts += np.histogram(values, BINS, (self.low, self.high))[0]

    @property
    def centres(self) -> Float:
        step = (self.high - self.low) / BINS
        return np.asarray(self.low + step * (np.arange(BINS) + 0.5), np.float64)

    def shrunk(self, share: float) -> tuple[float, float]:
        """What was seen, cut at ``share`` of the largest magnitude on both sides of 0."""
        most = share * max(-self.low, self.high)
        return float(min(max(self.low, -most), 0.0)), float(max(min(self.high, most), 0.0))


def minmax(histogram: Histogram, _percentile: float) -> tuple[float, float]:
    """All that was seen."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram, percent: float) -> tuple[float, float]:
    """All but the outermost values; what is cut off is cut on both sides alike."""
    total = np.cumsum(histogram.counts)
    if not total[-1]:
        return histogram.low, histogram.high
    outside = (1 - percent / 100) / 2 * total[-1]
    edges = np.linspace(histogram.low, histogram.high, BINS + 1)
    first = int(np.searchsorted(total, outside, side="right"))
    last = int(np.searchsorted(total, total[-1] - outside, side="left"))
    return float(edges[first]), float(edges[min(last + 1, BINS)])


def mse(histogram: Histogram, _percentile: float) -> tuple[float, float]:
    """The range whose rounding and clipping together have the least squared error."""
    values, counts = histogram.centres, histogram.counts

    def cost(low: float, high: float) -> float:
        step = (high - low) / (LEVELS - 1)
        rounded = low + step * np.clip(np.round((values - low) / step), 0, LEVELS - 1)
        return float(counts @ (values - rounded) ** 2)

    return _search(histogram, cost)


def entropy(histogram: Histogram, _percentile: float) -> tuple[float, float]:
    """The range whose 256 levels tell least of another distribution: the Kullback–Leibler divergence is smallest."""
    values, counts = histogram.centres, histogram.counts
    total = max(counts.sum(), 1.0)

    def cost(low: float, high: float) -> float:
        step = (high - low) / (LEVELS - 1)
        level = np.clip(np.round((values - low) / step), 0, LEVELS - 1).astype(np.int64)
        mass = np.bincount(level, counts, LEVELS)
        filled = np.bincount(level, counts > 0, LEVELS)
        # what a level holds is spread over the bins that it stands for and that hold anything
        spread = np.where(counts > 0, mass[level] / np.maximum(filled[level], 1), 0.0)
        # the values that are clipped land on the outermost levels, where they were not: that is the loss
        inside = (values >= low - step / 2) & (values <= high + step / 2)
        seen = counts > 0
        p, q = counts[seen] / total, np.where(inside, spread, 0.0)[seen] / total
        return float(np.sum(p * np.log(p / np.maximum(q, 1e-12))))

    return _search(histogram, cost)


def _search(histogram: Histogram, cost: Callable[[float, float], float]) -> tuple[float, float]:
    ranges = [histogram.shrunk(share) for share in _SHARES]
    ranges = [r for r in ranges if r[1] > r[0]]
    if not ranges:
        return histogram.low, histogram.high
    return min(ranges, key=lambda r: cost(*r))


OBSERVERS: dict[str, Callable[[Histogram, float], tuple[float, float]]] = {
    "minmax": minmax, "percentile": percentile, "mse": mse, "entropy": entropy,
}  # fmt: skip

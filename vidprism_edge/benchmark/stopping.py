"""Early stopping as in MLPerf Inference: a percentile that holds with 99 % confidence, from the samples there are.

Of ``n`` independent samples, the number above the true percentile ``p`` is binomial with 1 - p. If ``t`` or fewer above
it would be rarer than 1 %, the percentile is with 99 % confidence not above the sample that only ``t - 1`` others
exceed. The fewer samples, the fewer may be left out and the higher the estimate; below a minimum there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

#: Confidence that a true percentile does not exceed its estimate: MLPerf Inference's.
CONFIDENCE = 0.99


def _cumulated(count: int, above: float, most: int) -> npt.NDArray[np.float64]:
    """P(X ≤ t) for t = 0 … ``most``, where X of ``count`` samples lie above a bound, each with odds ``above``."""
    k = np.arange(min(most, count), dtype=np.float64)
    steps = np.log((count - k) / (k + 1)) + np.log(above / (1 - above))
    logs = count * np.log1p(-above) + np.concatenate([[0.0], np.cumsum(steps)])
    return np.cumsum(np.exp(logs))


@lru_cache(maxsize=4096)
def count_discarded(count: int, percentile: float) -> int | None:
    """Highest samples to leave out before the estimate is read, of ``count``; None: too few for any estimate.

    ``percentile``: between 0 and 100, exclusive.
    """
    if not 0 < percentile < 100:
        raise ValueError(f"percentile is {percentile}; expected more than 0 and less than 100")
    above = 1 - percentile / 100
    most = int(count * above) + 1  # the median of the binomial: there the odds are far from 1 %
    passing = int(np.searchsorted(_cumulated(count, above, most), 1 - CONFIDENCE)) - 1
    return passing - 1 if passing >= 1 else None


@lru_cache(maxsize=256)
def least_samples(percentile: float) -> int:
    """Samples below which there is no estimate: 64 for p90, 130 for p95, 662 for p99, 6636 for p99.9."""
    low, high = 1, 2
    while count_discarded(high, percentile) is None:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count_discarded(middle, percentile) is None else (low, middle)
    return high


def estimate_percentile(
    samples: Sequence[float] | npt.NDArray[np.float64], percentile: float
) -> float | None:
    """The sample that the percentile does not exceed, with 99 % confidence; None where the samples are too few."""
    discarded = count_discarded(len(samples), percentile)
    if discarded is None:
        return None
    return float(np.sort(np.asarray(samples))[len(samples) - 1 - discarded])

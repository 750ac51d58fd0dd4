"""A learned router: which expert is worth running now, told by a logistic model from what is known already.

It stands behind the gates: it may close one that motion opened, never one that has yet to warm up, that looks or that
is overdue, so that no expert rests longer than its max skip. `vidprism-edge calibrate --router` trains it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from vidprism_edge.errors import UsageError

Vector = npt.NDArray[np.float64]

#: The experts that a router may keep from running.
ROUTED = ("spatial", "hybrid", "temporal")
#: What a router knows, in this order.
FEATURES = (
    "share of changed blocks",
    "noise floor",
    "block motion, mean",
    "block motion, peak",
    "block energy, mean",
    "seconds since motion",
    "saliency, peak over median",
    "saliency, mean",
    "motion map, peak",
    "motion map, mean",
    "seconds since spatial",
    "seconds since hybrid",
    "seconds since temporal",
    "best score",
    "score of none",
    "change of the last two decisions",
)
#: An expert that is wanted stays so for this long: a temporal expert that reopens replays its past.
WANTED_S = 1.0


class RouterWeights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A logistic model an expert, on features made comparable by ``mean`` and ``scale``; above 0, the expert runs."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: dict[str, tuple[float, ...]]
    bias: dict[str, float]

    def __post_init__(self) -> None:
        lengths = {len(v) for v in (self.mean, self.scale, *self.weights.values())}
        if lengths != {len(FEATURES)} or set(self.weights) != set(ROUTED) or set(self.bias) != set(ROUTED):
            raise UsageError(
                f"a router of {sorted(self.weights)} on {sorted(lengths)} features; expected {', '.join(ROUTED)} on "
                f"{len(FEATURES)}; calibrate again"
            )


class Knowledge:
    """What a router is told, gathered as it becomes known."""

    def __init__(self, t_ns: int = 0) -> None:
        """``t_ns``: when the stream begins."""
        self._maps = np.zeros(4)
        self._scores = np.zeros(3)
        self._last: Vector | None = None
        #: When something was seen to move last.
        self.moved_ns = t_ns

    def read_maps(self, saliency: npt.NDArray[np.float32], motion: npt.NDArray[np.float32]) -> None:
        """The analyzer's maps [g, g] of a frame."""
        self._maps[:] = saliency.max() - np.median(saliency), saliency.mean(), motion.max(), motion.mean()

    def read_scores(self, scores: Mapping[str, float], none: str) -> None:
        """The scores of a decision, by label."""
        now = np.array(list(scores.values()), np.float64)
        change = 0.0 if self._last is None else 0.5 * float(np.abs(now - self._last).sum())
        self._last = now
        self._scores[:] = now.max(), scores.get(none, 0.0), change

    def describe(
        self,
        stats: npt.NDArray[np.float32],
        share: float,
        noise: float,
        rested_s: Mapping[str, float],
        t_ns: int,
    ) -> Vector:
        """The features, float64 [16], at a frame with these block statistics [3, bh, bw]."""
        motion, energy = stats[0], stats[1]
        seen = (share, noise, motion.mean(), motion.max(), energy.mean(), (t_ns - self.moved_ns) / 1e9)
        rested = [rested_s[name] for name in ROUTED]
        # shares, grey levels and seconds range over decades
        return np.concatenate(
            [np.log1p(np.array(seen, np.float64)), self._maps, np.log1p(rested), self._scores]
        )


class Router:
    """Says at every frame which experts are worth running."""

    def __init__(self, weights: RouterWeights) -> None:
        self._mean, self._scale = np.array(weights.mean), np.array(weights.scale)
        self._weights = np.array([weights.weights[name] for name in ROUTED])
        self._bias = np.array([weights.bias[name] for name in ROUTED])
        self._wanted_until_ns = dict.fromkeys(ROUTED, 0)

    def unwanted(self, features: Vector, t_ns: int) -> list[str]:
        """The experts whose run would change nothing."""
        margins = self._weights @ ((features - self._mean) / self._scale) + self._bias
        for name, margin in zip(ROUTED, margins, strict=True):
            if margin > 0:
                self._wanted_until_ns[name] = t_ns + round(WANTED_S * 1e9)
        return [name for name in ROUTED if t_ns >= self._wanted_until_ns[name]]

"""Trains the router on traces of a gated run beside the always-on one, with a penalty on compute.

An expert is worth running where what is known now would be a wrong answer soon: for the temporal expert, where the
scores that the gated run has now will be far from the always-on ones within a second; for the spatial and the hybrid
expert, where a run that hardly ever asks them will be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidprism_edge.errors import UsageError
from vidprism_edge.runtimes.streaming.router import FEATURES, ROUTED, RouterWeights

Float = npt.NDArray[np.float64]

#: Scores are far apart from this total-variation distance on, and an answer counts as soon for so many decisions.
FAR, SOON = 0.05, 2
#: What an expert's run costs against a wrong answer; each makes a router that is tried.
PENALTIES = (0.02, 0.1, 0.3)
_STEPS, _RATE, _DECAY = 400, 0.5, 1e-3


@dataclass(frozen=True, slots=True)
class Trace:
    """One stream's decisions: features [n, 16], and scores [n, K] of the gated run that they are of, of the always-on
    run, and of the one that asks spatial and hybrid least."""

    features: Float
    gated: Float
    always: Float
    rare: Float

    def labels(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Where each expert was worth running, bool [n]."""
        n = len(self.gated)
        ahead = [np.minimum(np.arange(n) + k, n - 1) for k in range(SOON + 1)]
        held = np.max([distance(self.gated, self.always[i]) for i in ahead], axis=0) > FAR
        asked = np.max([distance(self.rare[i], self.always[i]) for i in ahead], axis=0) > FAR
        return {"spatial": asked, "hybrid": asked, "temporal": held}


def distance(a: Float, b: Float) -> Float:
    """Total-variation distance of score vectors, [n, K] × 2 → [n]."""
    return np.asarray(0.5 * np.abs(a - b).sum(axis=1))


def fit(x: Float, worth: npt.NDArray[np.bool_], penalty: float) -> tuple[Float, float]:
    """Weights [F] and bias of one expert, which pay for missed answers and, by ``penalty``, for every run.

    Minimises the mean of worth · -log p + penalty · p over p, the chance to run.
    """
    weights, bias = np.zeros(x.shape[1]), 0.0
    for _ in range(_STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ weights + bias, -30.0, 30.0)))
        slope = worth * (p - 1.0) + penalty * p * (1.0 - p)
        weights -= _RATE * (x.T @ slope / len(x) + _DECAY * weights)
        bias -= _RATE * float(slope.mean())
    return weights, bias


def train_router(traces: Sequence[Trace], penalty: float) -> RouterWeights:
    """Fit all experts on the traces. Errors: :class:`UsageError` without a decision."""
    x = np.concatenate([t.features for t in traces]) if traces else np.zeros((0, len(FEATURES)))
    if not len(x):
        raise UsageError("there is no decision to train a router on; give longer video")
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-3
    labels = [t.labels() for t in traces]
    fitted = {
        name: fit((x - mean) / scale, np.concatenate([label[name] for label in labels]), penalty)
        for name in ROUTED
    }
    return RouterWeights(
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        weights={name: tuple(w.tolist()) for name, (w, _) in fitted.items()},
        bias={name: b for name, (_, b) in fitted.items()},
    )

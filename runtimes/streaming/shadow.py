"""Shadow checks: now and then a window runs always-on beside the gated stream, and the answers are compared.

A check costs what an always-on window costs. It begins when the share of the stream's own work that is set aside for
checks has paid for it, so that checks never take more than that share on average.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

from vidprism_edge.runtimes.streaming.geometry import Scene
from vidprism_edge.runtimes.streaming.health import ShadowHealth
from vidprism_edge.runtimes.streaming.policy import ContentPolicy, Map, Plan
from vidprism_edge.runtimes.streaming.prediction import Prediction
from vidprism_edge.spec import ModelSpec

if TYPE_CHECKING:
    from vidprism_edge.runtimes.streaming.session import Session
    from vidprism_edge.runtimes.streaming.source import Frame

#: More than this mean distance over the last checks is drift; it is said after so many checks.
MOST_DISTANCE, LEAST_CHECKS = 0.1, 3
#: How much a new check counts in that mean.
FOLLOW = 0.25


class _Twin:
    """The gated stream's policy as it is now, from here on with every gate open; it goes on with the same regions."""

    def __init__(self, policy: ContentPolicy) -> None:
        self._policy = copy.deepcopy(policy)
        self._policy.open_all()
        self.observe = self._policy.observe
        self.read_maps = self._policy.read_maps
        self.ran = self._policy.ran

    observe: Callable[[Map, int], Plan]
    read_maps: Callable[[Map, Map, int], None]
    ran: Callable[[str, int], None]

    def reset(self, scene: Scene, small: Scene, t_ns: int) -> None:
        """The shadow's stream starts; the regions stay."""


class Shadow:
    """Checks one session. ``open_session`` makes the always-on session, on the same engines, for a policy."""

    def __init__(
        self, spec: ModelSpec, share: float, cost_macs: float, open_session: Callable[[_Twin], Session]
    ) -> None:
        """``share``: of the stream's work, 0 switches checks off; ``cost_macs``: of an always-on decision's work."""
        self._share, self._open_session = share, open_session
        # a window of slots and, before it, what the first temporal token of it depends on
        field_s = spec.receptive_field / spec.streams["temporal"].rate_hz
        self._length_ns = spec.window_ns + round(field_s * 1e9)
        self._cost_macs = cost_macs * (self._length_ns / spec.hop_ns + 1)
        self._credit = 0.0
        self._session: Session | None = None
        self._since_ns = 0
        self._recent: float | None = None
        self._sum = 0.0
        self.health = ShadowHealth()

    def push(self, frame: Frame, policy: ContentPolicy, *, restarted: bool) -> None:
        """Take the frame that the stream has just taken; begin a check where one has been paid for."""
        if restarted and self._session is not None:
            self.health.broken += 1
            self._close()
        if self._session is None and self._share and self._credit >= self._cost_macs:
            self._session, self._since_ns = self._open_session(_Twin(policy)), frame.t_ns
        if self._session is not None:
            self._session.push(frame)

    def compare(self, prediction: Prediction) -> None:
        """Take a decision of the stream: it pays for checks, and ends the one that has seen a whole window."""
        self._credit += self._share * prediction.macs
        if self._session is None or prediction.t_ns - self._since_ns < self._length_ns:
            return
        always_on = self._session.decide_now(prediction.t_ns)
        distance = 0.5 * sum(abs(always_on.scores[n] - s) for n, s in prediction.scores.items())
        health = self.health
        health.checks += 1
        health.agreed += always_on.label == prediction.label
        self._sum += distance
        health.mean_distance = round(self._sum / health.checks, 6)
        before = distance if self._recent is None else self._recent
        self._recent = before + FOLLOW * (distance - before)
        drifted = health.checks >= LEAST_CHECKS and self._recent > MOST_DISTANCE
        health.warning = (
            f"drift: the last always-on windows differ from the gated ones by {self._recent:.2f}, expected at most "
            f"{MOST_DISTANCE:g}; calibrate the gates on video of this camera"
            if drifted
            else ""
        )
        self._close()

    def _close(self) -> None:
        assert self._session is not None
        self.health.macs += self._session.macs_spent
        self._credit -= self._session.macs_spent
        self._session = None

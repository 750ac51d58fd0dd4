"""A latency budget: when decisions cost more time than they may, the least useful expert is shed first."""

from __future__ import annotations

from collections.abc import Sequence

#: How fast the measured cost follows, per decision.
FOLLOW = 0.3
#: Something is given back when the cost has fallen below this share of the budget, for so many decisions.
EASE_SHARE, EASE_DECISIONS = 0.6, 10
#: Decisions between two steps down: what a step has changed must show first.
SETTLE_DECISIONS = 4


class Budget:
    """Milliseconds that the work between two decisions may take, and what is left out to keep to them.

    Experts are shed in ``order``: each first goes to its floor rate, then it rests up to its max skip. The step before
    the last one leaves the last expert at its floor: somebody always looks.
    """

    def __init__(self, budget_ms: float, order: Sequence[str]) -> None:
        self.budget_ms = budget_ms
        self._steps = [(name, what) for name in order for what in ("floor", "closed")][:-1]
        self._level = 0
        self._cost_ms: float | None = None
        self._calm = 0
        self._since_step = SETTLE_DECISIONS

    def spent(self, milliseconds: float) -> None:
        """Take what the work since the last decision has cost."""
        before = milliseconds if self._cost_ms is None else self._cost_ms
        self._cost_ms = before + FOLLOW * (milliseconds - before)
        self._since_step += 1
        self._calm = self._calm + 1 if self._cost_ms < EASE_SHARE * self.budget_ms else 0
        if (
            self._cost_ms > self.budget_ms
            and self._since_step >= SETTLE_DECISIONS
            and self._level < len(self._steps)
        ):
            self._level, self._since_step = self._level + 1, 0
        elif self._calm >= EASE_DECISIONS and self._level:
            self._level, self._calm = self._level - 1, 0

    @property
    def shed(self) -> dict[str, str]:
        """Expert → ``floor`` or ``closed``."""
        return dict(self._steps[: self._level])

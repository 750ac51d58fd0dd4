"""What is kept of a picture at rest: the last decision, and whether it was made on a window at rest."""

from __future__ import annotations


class Rest:
    """While nothing moves, the last decision stands.

    It is made once more after the temporal expert's last step, and when the whole window is of the picture at rest,
    because the one before still saw the end of what had moved; and after every look that an expert has had.
    """

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        #: Scores of the last decision that was computed, by label.
        self.scores: dict[str, float] | None = None
        #: Whether that decision stands until an expert runs again.
        self.settled = False
        #: Temporal tokens are missing of which nobody knows that nothing moved: none can stand for them.
        self.broken = True
        self._rests_from_ns = 0
        #: Whether the temporal expert has run since that decision.
        self._unseen = False

    def decided(self, scores: dict[str, float]) -> None:
        """A decision was computed."""
        self.scores, self._unseen = scores, False

    def moved(self, t_ns: int, *, looking: bool) -> None:
        """The temporal expert ran at ``t_ns``; a look's token stands for a whole window."""
        self.settled = self.broken = False
        self._rests_from_ns = t_ns if looking else t_ns + self._window_ns
        self._unseen = not looking

    def may_hold(self, t_ns: int, *, looking: bool) -> bool:
        """Whether a decision at ``t_ns``, with nothing moving, repeats the one before."""
        if self.scores is None or self._unseen:
            return False
        if self.settled or looking or t_ns < self._rests_from_ns:
            return True
        self.settled = True
        return False

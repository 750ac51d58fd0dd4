"""Several cameras through one set of engines, in one thread: whoever was served longest ago is next.

Graphs have a batch of one and run one after another, so that a camera's frame waits for at most one frame's work of
each other camera. Under overload every camera loses frames alike: each keeps its newest, and counts the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from vidprism_edge.runtimes.streaming.feed import Feed
from vidprism_edge.runtimes.streaming.prediction import Prediction
from vidprism_edge.runtimes.streaming.session import Session
from vidprism_edge.runtimes.streaming.source import Frame

#: A feed that never reports (it died without a word) is looked at again after so long.
_LOOK_AGAIN_S = 0.5


@dataclass(slots=True)
class Member:
    """One camera: its frames and its session. Sessions may share engines, never a sampler."""

    feed: Feed
    session: Session
    _served: int = 0
    _last: Frame | None = None


class Fleet:
    """Serves its members until all have ended. ``wake`` has to be given to each feed as ``on_change``."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.wake: Callable[[], None] = self._event.set

    def run(
        self,
        members: Sequence[Member],
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Iterator[tuple[int, Frame, list[Prediction]]]:
        """Yield (number of the member, frame, the decisions that it completed)."""
        alive = dict(enumerate(members))
        turn = 0
        while alive:
            self._event.clear()
            ready = [number for number, member in alive.items() if member.feed.is_ready]
            if not ready:
                with waiting():
                    self._event.wait(_LOOK_AGAIN_S)
                continue
            number = min(ready, key=lambda n: alive[n]._served)
            member, turn = alive[number], turn + 1
            member._served = turn
            with waiting():
                frame = next(member.feed, None)
            if frame is None:
                del alive[number]
                final = member.session.finish()
                if final and member._last is not None:
                    yield number, member._last, final
                continue
            predictions = member.session.push(frame)
            if predictions is None:
                member.feed.counts.drop("timestamp")
                continue
            member._last = frame
            yield number, frame, predictions

"""Long streams made of one subject's clips, with real idle between the actions, and how events on them are scored.

Idle is made of the still frames at a clip's ends, played forwards and backwards. Every frame, idle or not, gets fresh
sensor noise of one strength, so that noise does not tell idle from action. Subjects are never mixed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidprism_edge.calibration.data import Entry, decode
from vidprism_edge.errors import UsageError
from vidprism_edge.runtimes.streaming.events import Event
from vidprism_edge.runtimes.streaming.source import CountedSource, Frame

Picture = npt.NDArray[np.uint8]

#: A frame has begun to move when this share of its pixels changed by this many grey levels.
MOVED_SHARE, MOVED_GREY = 0.006, 14
#: Shortest and longest idle between two actions, seconds.
IDLE_S = (2.0, 20.0)
#: Strength of the sensor noise that every frame gets, grey levels.
NOISE = 1.5
#: An event that was over so long before an action, or began so long after it, has nothing to do with it.
SLACK_S = 1.0


def count_still(pictures: Sequence[Picture]) -> int:
    """How many pictures, uint8 [H, W, 3], stand still from the first one on; at least 1."""
    first = pictures[0].astype(np.int16)
    still = 1
    for picture in pictures[1:]:
        if (np.abs(picture.astype(np.int16) - first).max(axis=2) > MOVED_GREY).mean() > MOVED_SHARE:
            break
        still += 1
    return still


@dataclass(frozen=True, slots=True)
class Action:
    """What happens in a stream: the label, and where the picture begins and ceases to move."""

    label: str
    onset_ns: int
    offset_ns: int


@dataclass(frozen=True, slots=True)
class _Part:
    """Frames of one clip in the stream: the numbers of the pictures to show."""

    entry: Entry
    shown: tuple[int, ...]


def back_and_forth(first: int, last: int, count: int) -> tuple[int, ...]:
    """``count`` of the numbers first … last, forwards and backwards, beginning at ``first``."""
    turn = [*range(first, last + 1), *range(last - 1, first, -1)]
    return tuple(turn[i % len(turn)] for i in range(count))


def idle_around(
    count: int, head: int, tail: int, lengths: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Idle before and after a clip of ``count`` frames, as numbers of its ``head`` first and ``tail`` last ones.

    ``lengths``: how many frames each has. What comes before ends at the first frame, what comes after begins at the
    first one that stands still again.
    """
    before, after = lengths
    return back_and_forth(0, head - 1, before)[::-1], back_and_forth(count - tail, count - 1, after)


class SubjectStream(CountedSource):
    """A source of about ``seconds`` of one subject's clips in random order. Its ``truth`` is known before it is read.

    ``actions=False`` is the control: the same idle stretches, joined to one another, without any action.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        *,
        seconds: float,
        seed: int = 0,
        noise: float = NOISE,
        actions: bool = True,
        idle_s: tuple[float, float] = IDLE_S,
    ) -> None:
        """Errors: :class:`UsageError` where the clips are of several subjects, or none."""
        if len({e.subject for e in entries}) != 1:
            raise UsageError(
                f"a stream is of one subject; the clips are of {len({e.subject for e in entries})}"
            )
        clips = [(e, *self._measure(e)) for e in entries]
        super().__init__(f"subject {entries[0].subject}", clips[0][4])
        self._rng = np.random.default_rng((seed, 1))
        self._noise = noise
        self._frames = self._play(self._arrange(clips, seconds, seed, actions, idle_s))

    @staticmethod
    def _measure(entry: Entry) -> tuple[int, int, int, int]:
        """Number of frames of a clip, still ones at its start and end, and the period (ns)."""
        clip = decode(entry)
        pictures = [f.image for f in clip.frames]
        return len(pictures), count_still(pictures), count_still(pictures[::-1]), clip.frame_ns

    def _arrange(
        self,
        clips: Sequence[tuple[Entry, int, int, int, int]],
        seconds: float,
        seed: int,
        actions: bool,
        idle_s: tuple[float, float],
    ) -> list[_Part]:
        rng = np.random.default_rng((seed, 0))
        assert self.period_ns is not None
        parts: list[_Part] = []
        self.truth: list[Action] = []
        shown, order = 0, []  # type: int, list[int]
        while shown * self.period_ns < seconds * 1e9:
            order = order or [int(i) for i in rng.permutation(len(clips))]
            entry, count, head, tail, _ = clips[order.pop()]
            idle = rng.uniform(*idle_s, 2) / 2 * 1e9 / self.period_ns
            before, after = idle_around(count, head, tail, [round(n) for n in idle])
            middle = tuple(range(count)) if actions else ()
            if actions:
                first = shown + len(before)
                onset, offset = (first + n for n in (min(head, count - 1), max(head, count - tail)))
                self.truth.append(Action(entry.label, onset * self.period_ns, offset * self.period_ns))
            parts.append(_Part(entry, before + middle + after))
            shown += len(parts[-1].shown)
        self.frames = shown
        return parts

    def _play(self, parts: Sequence[_Part]) -> Iterator[Picture]:
        for part in parts:
            pictures = [f.image for f in decode(part.entry).frames]
            for number in part.shown:
                noisy = (
                    pictures[number] + self._rng.standard_normal(pictures[0].shape, np.float32) * self._noise
                )
                yield np.clip(np.rint(noisy), 0, 255).astype(np.uint8)

    def read(self) -> Frame | None:
        """The next frame; None at the end."""
        picture = next(self._frames, None)
        assert self.period_ns is not None
        return None if picture is None else self._frame(picture, self._index * self.period_ns)

    def close(self) -> None:
        """Show nothing more."""
        self._frames = iter(())


@dataclass(frozen=True, slots=True)
class EventScore:
    """How well events tell a stream's actions. ``delays_ms``: from an action's onset to when its event was told."""

    actions: int
    found: int
    false_alarms: int
    hours: float
    delays_ms: tuple[float, ...]

    @property
    def recall(self) -> float | None:
        return self.found / self.actions if self.actions else None

    @property
    def false_alarms_a_minute(self) -> float:
        return self.false_alarms / (60 * self.hours)


def score_events(truth: Sequence[Action], events: Sequence[Event], video_s: float) -> EventScore:
    """Match events (each at its offset) with actions: the same label, and the same time to within a second.

    An action is found by one event; an event that finds none, of a wrong label too, is a false alarm.
    """
    slack = round(SLACK_S * 1e9)
    left = list(events)
    delays = []
    for action in truth:
        for event in left:
            assert event.offset_ns is not None, "give events at their offset"
            meets = event.onset_ns < action.offset_ns + slack and event.offset_ns > action.onset_ns - slack
            if meets and event.label == action.label:
                left.remove(event)
                delays.append((event.told_ns - action.onset_ns) / 1e6)
                break
    return EventScore(len(truth), len(delays), len(left), video_s / 3600, tuple(delays))

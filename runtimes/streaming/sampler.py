"""The multi-rate sampler: the native core's pixels and grid, and what became of every frame and grid point.

A frame goes in once, with its timestamp; what is due on each stream's grid comes out as :class:`Point` values
whose pixels lie in the rings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vidprism_edge.runtimes import _native
from vidprism_edge.runtimes.streaming.geometry import BLOCK_PX, Box, Scene
from vidprism_edge.runtimes.streaming.picture import Pixels, describe_layout
from vidprism_edge.runtimes.streaming.policy import Plan, Policy
from vidprism_edge.runtimes.streaming.prediction import StreamCounts
from vidprism_edge.spec import STREAMS, ModelSpec

Float = npt.NDArray[np.float32]

#: Streams whose pixels are made from the frame itself, in the native core's order; the temporal expert's
#: crops are made from the ring of small whole frames, so that a past epoch can be replayed through another box.
DIRECT = ("analyzer", "spatial", "hybrid")
SMALL = -1

RESETS = {
    _native.RESET_START: "start",
    _native.RESET_GAP: "gap",
    _native.RESET_BACKWARD: "clock stepped back",
    _native.RESET_SIZE: "resolution",
}


@dataclass(frozen=True, slots=True)
class Point:
    """A grid point of a stream that is due: ``fresh`` took this frame, otherwise the sample before stands in."""

    stream: str
    k: int
    t_ns: int
    fresh: bool
    #: float32 [rows, regions, 3, S, S], oldest first; the newest is the point's. None on the temporal stream.
    pixels: Float | None
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Push:
    """What one frame gave. ``reset`` is why the streams started anew with it; ``refused``: its timestamp was bad."""

    refused: bool = False
    reset: str | None = None
    points: tuple[Point, ...] = ()


class StreamSampler:
    """Samples one camera for one model, as a policy says. Not for use from two threads at once."""

    def __init__(self, spec: ModelSpec, policy: Policy, *, period_ns: int | None = None) -> None:
        """``period_ns``: the source's frame period where it is known; otherwise it is estimated."""
        self._spec = spec
        self.policy = policy
        letterbox = spec.fit == "letterbox"
        # the analyzer sees a sample and its predecessor; the experts use a sample at once and keep its tokens
        self._rows = {"analyzer": 2, "spatial": 1, "hybrid": 1}
        streams, self._rings = [], []
        for name in DIRECT:
            s, rows = spec.streams[name], self._rows[name]
            streams.append((s.size_px, s.rate_mhz, s.regions, rows, s.mean, s.std, letterbox, s.resampler))
            self._rings.append(np.zeros((2 * rows, s.regions, 3, s.size_px, s.size_px), np.float32))
        temporal = spec.streams["temporal"]
        waiting = math.ceil(spec.repeat_s * temporal.rate_hz) + 2
        self._native = _native.Sampler(
            streams,
            self._rings,
            small_px=spec.small_px,
            small_rate_mhz=temporal.rate_mhz,
            small_rows=spec.receptive_field + waiting,
            repeat_ns=spec.repeat_ns,
            period_ns=period_ns or 0,
            motion=spec.motion_map,
        )
        self.counts = {name: StreamCounts() for name in STREAMS}
        self.resets: dict[str, int] = {}
        self._resolved = dict.fromkeys(STREAMS, 0)
        self._stats: Float = np.zeros((3, 0, 0), np.float32)
        self._kind: tuple[tuple[int, ...], str | None] | None = None
        self._whole: Box = (0, 0, 1, 1)
        self.scene = self.small = Scene(1, 1, spec.fit)
        self.plan = Plan()
        self._interrupted: str | None = None

    @property
    def period_ns(self) -> int:
        """The source's frame period in use."""
        return self._native.period_ns

    def interrupt(self, reason: str, t_ns: int) -> None:
        """End the streams before the frame at ``t_ns``: a corrupt frame or a reconnect lies between."""
        for event in self._native.reset(t_ns):
            self._lose(event)
        self._interrupted = reason

    def push(self, frame: Pixels, t_ns: int) -> Push:
        """Take a frame: uint8 [H, W, 3] BGR, any row stride, or a decoder's planes.

        The points come in the order of their grid times.
        """
        pixels, layout = describe_layout(frame)
        kind = (frame.shape, layout.get("format"))
        changed = kind != self._kind
        known = self._stats, self.scene, self._whole
        if changed:
            self._prepare(frame.shape[0], frame.shape[1])
        status, events = self._native.push(pixels, t_ns, self._stats, **layout)
        if status == _native.DROPPED_TIMESTAMP:
            if changed:  # nothing of a refused frame stays, its size neither
                self._stats, self.scene, self._whole = known
            return Push(refused=True)
        if changed:
            self._kind = kind
            self._measure()
        reset = RESETS.get(status)
        if reset is not None:
            reset, self._interrupted = self._interrupted or reset, None
            self.resets[reset] = self.resets.get(reset, 0) + 1
            self.policy.reset(self.scene, self.small, t_ns)
        before, after = self.plan, self.policy.observe(self._stats, t_ns)
        points = sorted(self._points(events, before, after), key=lambda point: point.t_ns)
        self._follow(after)
        return Push(reset=reset, points=tuple(points))

    def _prepare(self, height: int, width: int) -> None:
        """Make room for a frame of another size or format."""
        self._stats = np.zeros((3, -(-height // BLOCK_PX), -(-width // BLOCK_PX)), np.float32)
        self.scene = Scene(width, height, self._spec.fit)
        # boxes are checked against the frame before, so only the very first frame's can be set ahead of it
        self._whole = self.scene.whole if self._kind is None else (0, 0, width, height)
        for index in range(len(DIRECT) if self._kind is None else 0):
            self._native.set_boxes(index, (self._whole,))

    def _measure(self) -> None:
        """After a frame of another size or format the native core is back at whole frames: so is the plan."""
        assert self._native.small_shape is not None
        height, width = self._native.small_shape
        self.small = Scene(width, height, self._spec.fit)
        boxes: dict[str, tuple[Box, ...]] = dict.fromkeys(DIRECT, (self._whole,))
        boxes["temporal"] = (self.small.whole,)
        self.plan = replace(self.plan, boxes=boxes)

    def _follow(self, plan: Plan) -> None:
        """Sample the direct streams by ``plan`` from the next frame on."""
        for index, name in enumerate(DIRECT):
            if plan.boxes[name] != self.plan.boxes[name]:
                self._native.set_boxes(index, plan.boxes[name])
            self._native.set_interval(index, plan.intervals[name])
        self.plan = plan

    def _points(self, events: Sequence[_native.Event], before: Plan, after: Plan) -> Iterable[Point]:
        """Count every event, and every stream's use of the frame, and yield the points that are due.

        The direct streams were sampled by the plan from before the frame; the temporal expert, whose pixels are kept
        in any case, follows the plan that the frame itself gave, so that motion wakes it at once.
        """
        skipped = dict.fromkeys(STREAMS, "between points")
        for event in events:
            index, k, t_ns, kind, row = event
            if kind == _native.RESET:
                self._lose(event)
                continue
            name = "temporal" if index == SMALL else DIRECT[index]
            plan, counts = (after if index == SMALL else before), self.counts[name]
            self._resolved[name] += 1
            if kind == _native.HELD or not plan.intervals[name]:
                reason = plan.reasons.get(name, "rate")
                counts.held[reason] = counts.held.get(reason, 0) + 1
                skipped[name] = skipped[name] and reason
                continue
            fresh = kind == _native.SAMPLED
            if fresh:
                counts.sampled += 1
                skipped[name] = ""
            else:
                counts.repeated += 1
            pixels = None if index == SMALL else self._rings[index][row - self._rows[name] + 1 : row + 1]
            yield Point(name, k, t_ns, fresh, pixels, plan.boxes[name])
        for name, reason in skipped.items():
            self.counts[name].delivered += 1
            if reason:
                self.counts[name].skipped[reason] = self.counts[name].skipped.get(reason, 0) + 1

    def _lose(self, event: _native.Event) -> None:
        """Count grid points that a reset left without a frame."""
        index, _, _, _, count = event
        name = "temporal" if index == SMALL else DIRECT[index]
        self.counts[name].reset += count
        self._resolved[name] += count

    def crop_small(self, k: int, box: Box, out: Float) -> None:
        """Crop the small whole frame of grid point ``k`` to the temporal expert's sample, float32 [3, S, S]."""
        s = self._spec.streams["temporal"]
        self._native.crop_small(k, box, out, s.mean, s.std, self._spec.fit == "letterbox")

    def check_counts(self) -> None:
        """Assert that every frame and every grid point of every stream is accounted for."""
        for name, c in self.counts.items():
            assert c.delivered == c.sampled + sum(c.skipped.values()), (
                f"frames of stream {name} do not add up: {c}"
            )
            total = c.points + sum(c.held.values())
            assert total == self._resolved[name], (
                f"{self._resolved[name]} grid points of stream {name}, counted {c}"
            )

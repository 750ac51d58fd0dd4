"""The stream's definitions restated over whole lists: which frame stands for which grid point, which token is seen.

Written from the definitions and not from the runtime: where the runtime keeps rings and counters, this looks at the
complete list of timestamps and at the log of what the policy said at each frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vidprism_edge.model.clip import Clip, Epoch, Samples
from vidprism_edge.runtimes import _native
from vidprism_edge.runtimes.streaming.geometry import Scene
from vidprism_edge.runtimes.streaming.policy import Plan
from vidprism_edge.spec import ModelSpec


@dataclass
class Resolved:
    """One grid point: its time, the frame that resolved it, and the frame whose picture stands for it."""

    k: int
    t_ns: int
    by: int
    picture: int
    fresh: bool


def grid_time(t0: int, rate_mhz: int, k: int) -> int:
    return t0 + k * 10**12 // rate_mhz


def resolve(times: Sequence[int], period: int, rate_mhz: int, due: object = None) -> list[Resolved]:
    """All points of one segment (frames between two resets), by searching the whole list of timestamps.

    ``due(k, by, last_due)`` says whether a point is wanted.
    """
    stamps = np.asarray(times)
    reach = max(period, 10**12 // rate_mhz)
    found: list[Resolved] = []
    used: set[int] = set()
    last_due = None
    k = 0
    while True:
        t = grid_time(times[0], rate_mhz, k)
        later = np.flatnonzero(2 * stamps + period > 2 * t)
        if len(later) == 0:
            return found
        by = int(later[0])
        if due is None or due(k, by, last_due):
            fresh = by not in used and 2 * (times[by] - t) <= reach
            if fresh:
                used.add(by)
                found.append(Resolved(k, t, by, by, True))
                last_due = k
            elif found:
                found.append(Resolved(k, t, by, found[-1].picture, False))
                last_due = k
        k += 1


def segments(times: Sequence[int], repeat_ns: int, resets: Sequence[bool]) -> list[list[int]]:
    """Indices of the accepted frames of each segment: split at gaps, marked resets and clocks that step back."""
    found: list[list[int]] = []
    previous = None
    for i, t in enumerate(times):
        if previous is None or resets[i] or t - previous > repeat_ns or previous - t > repeat_ns:
            found.append([])
        elif t <= previous:
            continue
        found[-1].append(i)
        previous = t
    return found


class Oracle:
    """Clips of every segment of a stream, from its frames, its timestamps and the log of plans."""

    def __init__(
        self,
        spec: ModelSpec,
        frames: Sequence[np.ndarray],
        times: Sequence[int],
        period: int,
        plans: dict[int, Plan],
        resets: Sequence[bool] | None = None,
    ) -> None:
        self.spec, self.frames, self.times, self.period, self.plans = spec, frames, times, period, plans
        self.segments = segments(times, spec.repeat_ns, resets or [False] * len(times))
        height, width = frames[0].shape[:2]
        scale = min(spec.small_px, max(height, width)) / max(height, width)
        self.scene = Scene(width, height, spec.fit)
        self.small = Scene(round(width * scale), round(height * scale), spec.fit)

    def _pixels(self, stream: str, image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
        s = self.spec.streams[stream]
        out = np.empty((3, s.size_px, s.size_px), np.float32)
        resize = {"area": _native.resize_area, "bicubic": _native.resize_bicubic}[s.resampler]
        resize(image, box, out, s.mean, s.std, self.spec.fit == "letterbox")
        return out

    def _small_frame(self, index: int) -> np.ndarray:
        out = np.empty((self.small.height, self.small.width, 3), np.uint8)
        _native.resize_area_u8(np.ascontiguousarray(self.frames[index]), out)
        return out

    def _plan_before(self, segment: list[int], by: int) -> Plan:
        """The direct streams follow what the policy said at the accepted frame before."""
        if by == 0:
            before = [i for i in self.plans if i < segment[0]]
            plan = (
                self.plans[max(before)]
                if before
                else Plan(boxes=dict.fromkeys(("spatial", "hybrid"), (self.scene.whole,)))
            )
            return plan
        return self.plans[segment[by - 1]]

    def samples(self, segment: list[int], stream: str) -> Samples:
        """Stateless samples: every fresh due point, one crop a region."""
        times = [self.times[i] for i in segment]
        intervals = [self._plan_before(segment, by).intervals[stream] for by in range(len(segment))]

        def due(k: int, by: int, last_due: int | None) -> bool:
            return intervals[by] > 0 and (last_due is None or k - last_due >= intervals[by])

        found = Samples(torch.zeros(0), [], [], [])
        pixels = []
        for point in resolve(times, self.period, self.spec.streams[stream].rate_mhz, due):
            if not point.fresh:
                continue
            for region, box in enumerate(self._plan_before(segment, point.by).boxes[stream]):
                pixels.append(self._pixels(stream, self.frames[segment[point.picture]], box))
                found.t_ns.append(point.t_ns)
                found.regions.append(region)
                found.boxes.append(self.scene.to_scene(box))
        if pixels:
            found.frames = torch.from_numpy(np.stack(pixels))
        return found

    def epochs(self, segment: list[int]) -> list[Epoch]:
        """Runs of temporal steps in one box with no closed gate between; each begins with one receptive field.

        In a box that is not the last run's, what is replayed is seen.
        """
        times = [self.times[i] for i in segment]
        points = resolve(times, self.period, self.spec.streams["temporal"].rate_mhz)
        runs: list[list[Resolved]] = []
        previous: Resolved | None = None
        for point in points:
            plan = self.plans[segment[point.by]]
            if not plan.intervals["temporal"]:
                previous = None
                continue
            box = plan.boxes["temporal"][0]
            joined = previous is not None and all(
                self.plans[segment[f]].intervals["temporal"] for f in range(previous.by, point.by)
            )
            if not joined or self.plans[segment[previous.by]].boxes["temporal"][0] != box:
                runs.append([])
            runs[-1].append(point)
            previous = point
        epochs: list[Epoch] = []
        before = None
        for run in runs:
            box = self.plans[segment[run[0].by]].boxes["temporal"][0]
            first = run[0].k
            replay = points[max(0, first - self.spec.receptive_field + 1) : first]
            pixels = [
                self._pixels("temporal", self._small_frame(segment[p.picture]), box) for p in (*replay, *run)
            ]
            seen = run if box == before else [*replay, *run]
            before = box
            epochs.append(
                Epoch(
                    torch.from_numpy(np.stack(pixels)),
                    len(pixels) - len(seen),
                    [p.t_ns for p in seen],
                    self.small.to_scene(box),
                    run[0].t_ns,
                )
            )
        return epochs

    def decisions(self, segment: list[int]) -> list[int]:
        """Every hop that the last frame of the segment resolves."""
        t0, last = self.times[segment[0]], self.times[segment[-1]]
        count = (2 * last + self.period - 2 * t0 - 1) // (2 * self.spec.hop_ns)
        return [t0 + (j + 1) * self.spec.hop_ns for j in range(count)]

    def clips(self) -> list[Clip]:
        return [
            Clip(self.samples(s, "spatial"), self.samples(s, "hybrid"), self.epochs(s), self.decisions(s))
            for s in self.segments
        ]

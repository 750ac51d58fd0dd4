"""What the runtime's sampler and policy take from a clip, kept as frame numbers and boxes.

The frames go through :class:`StreamSampler` and :class:`ContentPolicy` as they do on a device; only which frame each
sample shows, and where, is kept. Pixels are made from it again, by the native core, with or without augmentation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vidprism_edge.calibration.data import Clip
from vidprism_edge.runtimes.streaming.geometry import Box, Scene
from vidprism_edge.runtimes.streaming.motion import RegionRule
from vidprism_edge.runtimes.streaming.policy import ContentPolicy, Plan
from vidprism_edge.runtimes.streaming.sampler import Point, StreamSampler
from vidprism_edge.runtimes.streaming.source import Frame
from vidprism_edge.spec import ModelSpec

Float = npt.NDArray[np.float32]
#: frame, previous float32 [1, 3, S, S] → saliency, motion float32 [g, g]
Analyze = Callable[[Float, Float], tuple[Float, Float]]
#: stream, frame, box, pixels
Sink = Callable[[str, int, Box, Float], None]


def pixels_of(frame: Frame) -> Any:
    """What a session pushes of a frame: the source's own planes where it keeps them."""
    return getattr(frame, "pixels", None) if hasattr(frame, "pixels") else frame.image


@dataclass(frozen=True, slots=True)
class Variant:
    """How a clip is replayed: faster or slower, at another frame rate, with late and missing frames."""

    speed: float = 1.0
    fps: float | None = None
    late: float = 0.0
    missing: float = 0.0
    start_s: float = 0.0
    seed: int = 0

    def apply(self, clip: Clip) -> Clip:
        """Return the clip as such a camera would have given it. Frames keep their ``index`` in the whole clip.

        ``start_s`` cuts the clip's head off, at most a third of it: the stream starts cold in the midst of things.
        """
        if self == Variant(seed=self.seed):
            return clip
        head = min(round(self.start_s * 1e9), clip.frames[-1].t_ns // 3)
        clip = replace(clip, frames=[f for f in clip.frames if f.t_ns >= head])
        rng = np.random.default_rng(self.seed)
        times = np.array([f.t_ns for f in clip.frames], np.int64) / self.speed
        period = (clip.period_ns or float(np.median(np.diff(times * self.speed)))) / self.speed
        chosen = np.arange(len(times))
        if self.fps is not None and 1e9 / self.fps > period:
            period = 1e9 / self.fps
            wanted = np.arange(int(times[-1] // period) + 1) * period
            chosen = np.unique([int(np.abs(times - t).argmin()) for t in wanted])
        keep = rng.random(len(chosen)) >= self.missing
        keep[0] = True
        chosen = chosen[keep]
        stamps = times[chosen] + rng.uniform(0.0, self.late, len(chosen)) * period
        stamps -= stamps[0]
        frames = [replace(clip.frames[i], t_ns=round(t)) for i, t in zip(chosen, stamps, strict=True)]
        return replace(clip, frames=frames, period_ns=round(period))


def draw_variants(count: int, seed: int) -> list[Variant]:
    """The clip as it is, and ``count - 1`` others: rates of 8 to 30 Hz, speeds of 0.7 to 1.4, every other one cold."""
    rng = np.random.default_rng(seed)
    variants = [Variant()]
    for i in range(1, count):
        fps = float(np.exp(rng.uniform(np.log(8.0), np.log(30.0))))
        speed = float(np.exp(rng.uniform(np.log(0.7), np.log(1.4))))
        late, missing = rng.choice([0.0, 0.0, 0.2]), rng.choice([0.0, 0.0, 0.05])
        start_s = float(rng.uniform(0.1, 0.8)) if i % 2 else 0.0
        variants.append(Variant(speed, fps, float(late), float(missing), start_s, seed=seed * 1000 + i))
    return variants


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample of a stream without state: shows ``frame`` of the clip in ``box`` (pixels of the frame)."""

    t_ns: int
    frame: int
    region: int
    box: Box


@dataclass(frozen=True, slots=True)
class Step:
    """A grid point of the temporal stream. ``box`` is in pixels of the small frame, None where the gate was closed."""

    t_ns: int
    frame: int
    box: Box | None


@dataclass(frozen=True, slots=True)
class Run:
    """One epoch of the temporal expert: ``warm`` replayed frames, then one frame for each of ``t_ns``, in one box.

    From ``begin_ns`` on, its tokens are seen. An epoch in another box than the one before looks back: the tokens of
    what it replays are seen too, in the place of all that was there.
    """

    frames: tuple[int, ...]
    warm: int
    t_ns: tuple[int, ...]
    box: Box
    begin_ns: int


@dataclass(slots=True)
class Recording:
    """One stretch of a clip between two resets."""

    scene: Scene
    small: Scene
    spatial: list[Sample] = field(default_factory=list)
    hybrid: list[Sample] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    #: Times of the decisions; the first ``warming`` of them come before a full window and are not ready.
    decisions_ns: list[int] = field(default_factory=list)
    warming: int = 0

    def runs(self, receptive_field: int) -> list[Run]:
        """The temporal expert's epochs: each begins by replaying what one receptive field needs."""
        found: list[Run] = []
        first = 0
        for k in range(len(self.steps) + 1):
            box = self.steps[k].box if k < len(self.steps) else None
            if k > first and box != self.steps[first].box:
                opened = self.steps[first].box
                if opened is not None:
                    start = max(0, first - receptive_field + 1)
                    part = self.steps[start:k]
                    warm = first - start if found and found[-1].box == opened else 0
                    times = tuple(s.t_ns for s in part[warm:])
                    frames = tuple(s.frame for s in part)
                    found.append(Run(frames, warm, times, opened, self.steps[first].t_ns))
                first = k
        return found


class _Watched:
    """The runtime's policy; the sampler reports every temporal grid point, also where the gate is closed."""

    def __init__(self, policy: ContentPolicy) -> None:
        self._policy = policy
        self.temporal_open = True

    def observe(self, stats: Float, t_ns: int) -> Plan:
        plan = self._policy.observe(stats, t_ns)
        self.temporal_open = plan.intervals["temporal"] > 0
        plan.intervals["temporal"] = 1
        return plan

    def reset(self, scene: Scene, small: Scene, t_ns: int) -> None:
        self._policy.reset(scene, small, t_ns)

    def read_maps(self, saliency: Float, motion: Float, t_ns: int) -> None:
        self._policy.read_maps(saliency, motion, t_ns)

    def ran(self, stream: str, t_ns: int) -> None:
        self._policy.ran(stream, t_ns)


class Recorder:
    """Plays one clip as a session does, and writes down what each expert is shown."""

    def __init__(
        self,
        spec: ModelSpec,
        analyze: Analyze,
        *,
        always_open: bool = False,
        sink: Sink = lambda *_: None,
        region: RegionRule | None = None,
    ) -> None:
        """``sink`` is given the pixels, float32 [3, S, S], of every spatial and hybrid sample; it must copy them."""
        self._spec, self._analyze, self._always_open, self._sink = spec, analyze, always_open, sink
        self._region = region

    def record(self, clip: Clip) -> list[Recording]:
        """Return the recordings of the clip, one for each stretch without a reset."""
        spec = self._spec
        policy = _Watched(ContentPolicy(spec, always_open=self._always_open, region=self._region))
        self._sampler = StreamSampler(spec, policy, period_ns=clip.period_ns)
        found: list[Recording] = []
        origin_ns = last_ns = 0
        for frame in clip.frames:
            if frame.reset is not None and found:
                self._sampler.interrupt(frame.reset, frame.t_ns)
            push = self._sampler.push(pixels_of(frame), frame.t_ns)
            if push.refused:
                continue
            if push.reset is not None:
                _finish(found, last_ns)
                found.append(Recording(self._sampler.scene, self._sampler.small))
                origin_ns, self._analyzed = frame.t_ns, False
            last_ns = frame.t_ns
            for point in push.points:
                self._note(found[-1], point, frame.index, policy)
            until = (2 * frame.t_ns + self._sampler.period_ns - 1) // 2
            _decide(found[-1], spec, origin_ns, until)
        _finish(found, last_ns)
        return found

    def _note(self, recording: Recording, point: Point, frame: int, policy: _Watched) -> None:
        """Write one grid point down; the analyzer runs, because the policy needs its maps."""
        if point.stream == "temporal":
            if not point.fresh and recording.steps:
                frame = recording.steps[-1].frame
            recording.steps.append(Step(point.t_ns, frame, point.boxes[0] if policy.temporal_open else None))
            if policy.temporal_open:
                policy.ran("temporal", point.t_ns)
        elif point.fresh and point.stream == "analyzer":
            assert point.pixels is not None
            current = point.pixels[1]
            maps = self._analyze(current, point.pixels[0] if self._analyzed else current)
            self._analyzed = True
            policy.read_maps(*maps, point.t_ns)
            policy.ran("analyzer", point.t_ns)
        elif point.fresh:
            samples = recording.spatial if point.stream == "spatial" else recording.hybrid
            samples.extend(Sample(point.t_ns, frame, region, box) for region, box in enumerate(point.boxes))
            assert point.pixels is not None
            for region, box in enumerate(point.boxes):
                self._sink(point.stream, frame, box, point.pixels[-1, region])
            policy.ran(point.stream, point.t_ns)


def _decide(recording: Recording, spec: ModelSpec, origin_ns: int, until_ns: int) -> None:
    while (due := origin_ns + (len(recording.decisions_ns) + 1) * spec.hop_ns) <= until_ns:
        recording.decisions_ns.append(due)
        recording.warming += due - origin_ns < spec.window_ns


def _finish(found: Sequence[Recording], last_ns: int) -> None:
    """A stream that ends before its first full window gets one decision there."""
    if found and found[-1].warming == len(found[-1].decisions_ns):
        found[-1].decisions_ns.append(last_ns)

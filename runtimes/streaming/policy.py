"""Content-aware multi-rate sampling: from the analyzer's maps and the gates to regions, rates and epochs.

Plain numpy beside the native sampler. Training, calibration, evaluation and the device call this same code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vidprism_edge.runtimes.streaming.gates import LOOKS, Activity, Gate, GateSettings, default_settings
from vidprism_edge.runtimes.streaming.geometry import LATTICE_STEP, Box, Scene, snap, weight_inside
from vidprism_edge.runtimes.streaming.motion import MovingRegion, RegionRule
from vidprism_edge.runtimes.streaming.router import ROUTED, Knowledge, Router, Vector
from vidprism_edge.spec import STREAMS, ModelSpec

Map = npt.NDArray[np.float32]

#: A map points at something when its peak stands out of its median by this much.
SALIENT = 0.15
#: A region is kept while it holds this share of what the best region would hold: an epoch should outlast an action.
KEEP_SHARE = 0.5
#: A region reaches so many standard deviations of its map's mass, and so many cells more: a hand that reaches out
#: of the picture says less than a picture that is a little coarser.
SPREADS, MARGIN_CELLS = 6.0, 3.0


@dataclass(slots=True)
class Plan:
    """What is sampled from the next frame on. Boxes of ``temporal`` are in pixels of the small whole frame."""

    #: Every n-th grid point of the stream is sampled; 0: none.
    intervals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STREAMS, 1))
    #: Why a stream's points are not sampled.
    reasons: dict[str, str] = field(default_factory=dict)
    #: One or two boxes a stream: the whole frame, and a followed region.
    boxes: dict[str, tuple[Box, ...]] = field(default_factory=dict)
    #: Why a stream's gate is open.
    causes: dict[str, str] = field(default_factory=dict)


class Policy(Protocol):
    """Decides what is sampled. Called by the session, in this order, for every frame."""

    def reset(self, scene: Scene, small: Scene, t_ns: int) -> None:
        """The stream starts anew with frames of this size."""

    def observe(self, stats: Map, t_ns: int) -> Plan:
        """Block statistics of a frame → the plan: the temporal expert follows it at once, the others from the next."""

    def read_maps(self, saliency: Map, motion: Map, t_ns: int) -> None:
        """The analyzer's maps [g, g] of a frame."""

    def ran(self, stream: str, t_ns: int) -> None:
        """An expert ran."""


def locate(
    weights: Map, scene: Scene, smallest_px: int, current: Box | None, step: float = LATTICE_STEP
) -> Box | None:
    """Return the lattice box that holds the peak of a map [g, g], keeping ``current`` while it serves."""
    middle, peak = float(np.median(weights)), float(weights.max())
    if peak - middle < SALIENT:
        return current
    mass = np.clip(weights - (middle + 0.5 * (peak - middle)), 0.0, None)
    total = float(mass.sum())
    side = weights.shape[0]
    grid = (np.arange(side) + 0.5) / side
    x, y = float(mass.sum(axis=0) @ grid) / total, float(mass.sum(axis=1) @ grid) / total
    spread = max(
        float(np.sqrt(mass.sum(axis=0) @ (grid - x) ** 2 / total)),
        float(np.sqrt(mass.sum(axis=1) @ (grid - y) ** 2 / total)),
    )
    origin, corner = scene.to_pixels(0.0, 0.0), scene.to_pixels(1.0, 1.0)
    extent = (SPREADS * spread + MARGIN_CELLS / side) * (corner[0] - origin[0])
    best = snap(scene, scene.to_pixels(x, y), extent, smallest_px, step)
    if current is None or best == current:
        return best
    near = 0.5 <= current[2] / best[2] <= 2.0
    held, possible = (weight_inside(mass, grid, grid, scene.to_scene(box)) for box in (current, best))
    return current if near and held >= KEEP_SHARE * possible else best


class ContentPolicy:
    """The runtime's own policy.

    A salient or moving region raises the spatial and hybrid rate and is followed at full resolution; a moving region
    switches the temporal expert on. A dull scene is sampled at the floor rates, and a still one not at all, until
    a gate's ``max_skip``. With ``always_open`` every stream runs at its ceiling: the reference.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        always_open: bool = False,
        max_skip_s: float = 30.0,
        settings: GateSettings | None = None,
        region: RegionRule | None = None,
    ) -> None:
        """``region``: how the moving region follows from what has moved."""
        if not 0 < max_skip_s <= spec.max_age_s:
            raise ValueError(
                f"max_skip_s is {max_skip_s}, expected more than 0 and at most max_age_s, {spec.max_age_s}"
            )
        self._spec = spec
        self._always_open = always_open
        self._floors = {name: stream.floor_interval for name, stream in spec.streams.items()}
        self._settings = settings or default_settings(spec)
        self._activity = Activity(self._settings)
        #: What a latency budget takes: expert → ``floor`` or ``closed``.
        self.shed: dict[str, str] = {}
        weights = self._settings.router
        self._router = None if weights is None else Router(weights)
        #: What a router is told beside the last frame's statistics.
        self.known = Knowledge()
        self._stats: Map = np.zeros((3, 1, 1), np.float32)
        self._t_ns = self._warm_until_ns = 0
        self._gates = {
            name: Gate(
                hold_s=self._settings.hold_s[name],
                max_skip_s=max_skip_s,
                always_open=always_open,
                look_s=self._settings.look_s if name == "temporal" else 0.0,
                least_share=self._settings.least_share[name],
            )
            for name in STREAMS
        }
        self._rule = region or RegionRule()
        self._scene = self._small = Scene(1, 1, spec.fit)
        self._region: Box | None = None
        self._moving = MovingRegion(self._scene, self._small, 1, self._rule)
        self._motion_box: Box | None = None
        self._epoch_ns = 0
        self._salient = False

    @property
    def gates(self) -> Mapping[str, Gate]:
        return self._gates

    def reset(self, scene: Scene, small: Scene, t_ns: int) -> None:
        """Start anew: whole frames until the analyzer has seen something, all gates open for a window."""
        if (scene.width, scene.height) != (self._scene.width, self._scene.height):
            self._activity = Activity(self._settings)
        self._scene, self._small = scene, small
        self.known, self._warm_until_ns = Knowledge(t_ns), t_ns + self._spec.window_ns
        self._region = snap(
            scene, (scene.width / 2, scene.height / 2), 0.0, self._smallest("spatial"), self._rule.step
        )
        # a person who is far away is shown larger than the small frame has her, but not by much
        self._moving = MovingRegion(scene, small, self._smallest("temporal") // 2, self._rule)
        self._motion_box = None
        self._epoch_ns = t_ns
        self._salient = True
        for gate in self._gates.values():
            gate.reset(t_ns, self._spec.window_ns)

    def _smallest(self, stream: str) -> int:
        return self._spec.streams[stream].size_px

    def observe(self, stats: Map, t_ns: int) -> Plan:
        """Judge the frame and say what to sample."""
        self._activity.observe(stats)
        self._look_where_it_moves(t_ns)
        # always open, no expert has to wait for another one's look
        overdue = False
        if not self._always_open:
            for gate in self._gates.values():
                overdue |= t_ns >= gate.overdue_ns
        for gate in self._gates.values():
            gate.update(t_ns, self._activity, join=overdue)
        self._route(stats, t_ns)
        whole = self._scene.whole
        plan = Plan(boxes={"analyzer": (whole,), "temporal": (self._follow_motion(t_ns),)})
        lively = self._salient or self._activity.moving
        for name, gate in self._gates.items():
            plan.intervals[name] = self._interval(name, gate, lively, t_ns) if gate.is_open else 0
            plan.reasons[name] = "rate" if gate.is_open else gate.reason
            if gate.is_open:
                plan.causes[name] = gate.reason
            if self.shed:
                self._shed(plan, name, t_ns)
        for name in ("spatial", "hybrid"):
            plan.boxes[name] = (whole,) if self._region is None else (whole, self._region)
        return plan

    @property
    def features(self) -> Vector:
        """What a router is told of the last frame, float64 [16]."""
        activity, t_ns = self._activity, self._t_ns
        rested_s = {name: self._gates[name].rested_ns(t_ns) / 1e9 for name in ROUTED}
        return self.known.describe(self._stats, activity.share, activity.noise, rested_s, t_ns)

    def _route(self, stats: Map, t_ns: int) -> None:
        """Close what the router does not want to run; warm-up, looks and overdue experts are none of its business."""
        self._stats, self._t_ns = stats, t_ns
        if self._activity.moving:
            self.known.moved_ns = t_ns
        if self._router is None or self._always_open or t_ns < self._warm_until_ns:
            return
        for name in self._router.unwanted(self.features, t_ns):
            gate = self._gates[name]
            bound = gate.reason in LOOKS or not gate.has_run or t_ns >= gate.overdue_ns
            if gate.is_open and not bound:
                gate.is_open, gate.reason = False, "router"

    def _interval(self, name: str, gate: Gate, lively: bool, t_ns: int) -> int:
        """Every how many grid points an open gate lets a stream be sampled; 0: not now."""
        if self._always_open:
            return 1
        floor, busy = self._floors[name], self._settings.busy_interval[name]
        interval = busy if lively else max(busy, floor)
        if interval <= floor:
            return interval
        # so rare that a grid of its own would let an event pass: due by the time since the last run
        due_ns = (interval - 0.5) * 1e9 / self._spec.streams[name].rate_hz
        looks = not gate.has_run or gate.reason in LOOKS or t_ns >= gate.overdue_ns
        return int(looks or gate.rested_ns(t_ns) >= due_ns)

    def _shed(self, plan: Plan, name: str, t_ns: int) -> None:
        """Take from an expert what the latency budget does not allow; its max skip stays what it is."""
        shed, gate = self.shed.get(name), self._gates[name]
        if shed is None or not gate.is_open or t_ns >= gate.overdue_ns:
            return
        plan.intervals[name] = 0 if shed == "closed" else self._floors[name]
        plan.reasons[name] = "budget"

    def is_quiet(self) -> bool:
        """Whether tokens and a decision may be kept: nothing moves, though an expert may have a look."""
        if not self._settings.hold_decisions or self._always_open:
            return False
        gate = self._gates["temporal"]
        return not gate.is_open or gate.reason in LOOKS

    def is_looking(self) -> bool:
        """Whether an expert has yet to end its look at a picture that does not move."""
        return any(gate.is_open and gate.reason in LOOKS for gate in self._gates.values())

    def open_all(self) -> None:
        """From now on every gate is open and every rate at its ceiling; the regions stay."""
        self._always_open, self.shed = True, {}
        for gate in self._gates.values():
            gate.open_for_good()

    def _look_where_it_moves(self, t_ns: int) -> None:
        """Let the region that is followed at full resolution be around what moves, once something has moved."""
        before = self._moving.box
        self._moving.observe(self._activity.excess, t_ns)
        box = self._moving.box
        if box is not None and box != before:
            scale = self._scene.width / self._small.width
            centre = (box[0] + box[2] / 2) * scale, (box[1] + box[3] / 2) * scale
            self._region = snap(
                self._scene, centre, box[2] * scale, self._smallest("spatial"), self._rule.step
            )

    def _follow_motion(self, t_ns: int) -> Box:
        """The temporal box. It changes at most once a window: a convolution's past belongs to one crop.

        The whole frame with which a stream begins is no choice: the first moving region is followed at once.
        """
        settled = self._motion_box is None or t_ns - self._epoch_ns >= self._spec.window_ns
        if settled and self._moving.box != self._motion_box:
            self._motion_box, self._epoch_ns = self._moving.box, t_ns
        return self._small.whole if self._motion_box is None else self._motion_box

    def read_maps(self, saliency: Map, motion: Map, t_ns: int) -> None:
        """Choose the region that is followed at full resolution until something has moved: what is salient."""
        self.known.read_maps(saliency, motion)
        attention = saliency * (0.2 + motion)
        self._salient = float(attention.max() - np.median(attention)) >= SALIENT
        if self._moving.box is None:
            self._region = locate(
                attention, self._scene, self._smallest("spatial"), self._region, self._rule.step
            )

    def ran(self, stream: str, t_ns: int) -> None:
        """Remember what the expert has seen, so that slow change is noticed too."""
        self._gates[stream].ran(t_ns, self._activity)

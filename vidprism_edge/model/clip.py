"""A clip: everything that the sampler took from a stream since its first frame, as tensors."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from vidprism_edge.runtimes.streaming.geometry import SceneBox


@dataclass(slots=True)
class Samples:
    """Samples of a stream that carries no state: frames [N, 3, S, S], each with grid time, region and box."""

    frames: Tensor
    t_ns: list[int]
    regions: list[int]
    boxes: list[SceneBox]


@dataclass(slots=True)
class Epoch:
    """Consecutive steps of the temporal expert in one box.

    frames [warm + T, 3, S, S]: replayed frames, whose tokens nobody sees, and then one frame for each of ``t_ns``.
    The tokens are seen from ``begin_ns`` on; an epoch with tokens of before then takes the place of all before it.
    """

    frames: Tensor
    warm: int
    t_ns: list[int]
    box: SceneBox
    begin_ns: int


@dataclass(slots=True)
class Clip:
    """The stream from its first frame, or its last reset, to now."""

    spatial: Samples
    hybrid: Samples
    epochs: list[Epoch] = field(default_factory=list)
    decisions_ns: list[int] = field(default_factory=list)

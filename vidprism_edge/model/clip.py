"""A clip: everything that the sampler took from a stream since its first frame, as tensors."""

from __future__ import annotations

from collections.abc import Iterable
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


def looked_back_ns(tokens: Iterable[tuple[int, int]], t_ns: int) -> int:
    """When, up to ``t_ns``, the last epoch began that looks back: it stands in the place of all before it.

    ``tokens``: time of each, and when its epoch began. 0: none has looked back.
    """
    return max((begin for time, begin in tokens if time < begin <= t_ns), default=0)


@dataclass(slots=True)
class Clip:
    """The stream from its first frame, or its last reset, to now."""

    spatial: Samples
    hybrid: Samples
    epochs: list[Epoch] = field(default_factory=list)
    decisions_ns: list[int] = field(default_factory=list)

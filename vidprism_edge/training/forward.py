"""The batched forward: many clips and decisions at once, with the components of :class:`VidPrism`.

:meth:`VidPrism.forward` stays the reference; on the same samples both give the same logits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from vidprism_edge.model.experts.temporal import CausalTimeConv, TemporalExpert
from vidprism_edge.model.network import VidPrism


@dataclass(slots=True)
class Slots:
    """Slots of one expert at every decision: index of the token [D, N] (0 where masked), mask, meta [D, N, 5]."""

    index: Tensor
    mask: Tensor
    meta: Tensor


@dataclass(slots=True)
class Batch:
    """Samples of several clips, and the decisions that see them.

    patches [Ns, P, Dp] and frames [Ns, Df] of the frozen encoder; hybrid [Nh, 3, S, S]; temporal [T, 3, S, S], the
    steps of all epochs one after another, and how many each epoch has. Matrices are per box: spatial [U, 2, g, P] and
    so on, with ``spatial_box`` [D, N] and ``temporal_box`` [D, N] naming each slot's.
    """

    patches: Tensor
    frames: Tensor
    hybrid: Tensor
    temporal: Tensor
    lengths: tuple[int, ...]
    spatial_slots: Slots
    hybrid_slots: Slots
    temporal_slots: Slots
    spatial_matrices: tuple[Tensor, Tensor]
    temporal_matrices: tuple[Tensor, Tensor]
    spatial_box: Tensor
    temporal_box: Tensor
    labels: Tensor
    weights: Tensor
    #: which clip each decision belongs to, and whether it was ready
    clips: Tensor
    ready: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""

        def move(value: object) -> object:
            if isinstance(value, Tensor):
                return value.to(device)
            if isinstance(value, tuple):
                return tuple(move(v) for v in value)
            if isinstance(value, Slots):
                return Slots(value.index.to(device), value.mask.to(device), value.meta.to(device))
            return value

        return Batch(**{name: move(getattr(self, name)) for name in self.__slots__})  # type: ignore[arg-type]


class _Taps(torch.autograd.Function):
    """What a causal convolution sees at each step, side by side: [T, H, W, C] → [T, H, W, taps · C].

    ``lengths`` of the epochs that follow one another in T, each from zero state. All of them in one tensor: a light
    network spends more on small operations, and on steps that only pad, than on what it computes.
    """

    @staticmethod
    def forward(ctx: Any, video: Tensor, lengths: tuple[int, ...], taps: int, dilation: int) -> Tensor:
        ctx.late = late = [(taps - 1 - i) * dilation for i in range(taps)]
        ctx.runs = list(pairwise(accumulate(lengths, initial=0)))
        seen = video.new_empty(*video.shape[:3], taps, video.shape[3])
        seen[:, :, :, -1] = video
        for i, by in enumerate(late[:-1]):
            for begin, end in ctx.runs:
                seen[begin : min(begin + by, end), :, :, i] = 0.0
                seen[begin + by : end, :, :, i] = video[begin : max(begin, end - by)]
        return seen.flatten(3)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        each = gradients[0].unflatten(3, (len(ctx.late), -1))
        total = each[:, :, :, -1].clone()
        for i, by in enumerate(ctx.late[:-1]):
            for begin, end in ctx.runs:
                total[begin : max(begin, end - by)] += each[begin + by : end, :, :, i]
        return total, None, None, None


def _through_time(layer: CausalTimeConv, x: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """A causal convolution from zero state, as one over channels: x [T, C, H, W] → [T, C', H', W'].

    The taps of time are laid side by side as channels, which a processor convolves faster than three dimensions, and
    fastest where channels come last: so they stay from layer to layer.
    """
    video = x.permute(0, 2, 3, 1).contiguous()
    taps, dilation = layer.conv.kernel_size[0], layer.conv.dilation[0]
    seen: Tensor = _Taps.apply(video, lengths, taps, dilation)  # type: ignore[no-untyped-call]
    joined = seen.permute(0, 3, 1, 2)
    weight = layer.conv.weight.transpose(1, 2).flatten(1, 2)
    y = F.conv2d(joined, weight, stride=layer.conv.stride[1:], padding=layer.conv.padding[1:])
    norm = layer.norm
    training = norm.training or norm.running_mean is None
    return F.relu(
        F.batch_norm(
            y,
            norm.running_mean,
            norm.running_var,
            norm.weight,
            norm.bias,
            training,
            norm.momentum or 0.0,
            norm.eps,
        ),
        inplace=True,
    )


def _with_blank(values: Tensor) -> Tensor:
    """After one blank token, that empty slots point to."""
    return torch.cat((values.new_zeros(1, *values.shape[1:]), values))


def encode_temporal(
    expert: TemporalExpert, frames: Tensor, lengths: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Frames [T, 3, S, S] of any side S, each epoch from zero state → tokens [1 + T, D], motion maps [1 + T, m, m]."""
    if not lengths:
        return frames.new_zeros(1, len(expert.layout.weight)), frames.new_zeros(1, expert.grid, expert.grid)
    x = _through_time(expert.stem, frames, lengths)
    for block in cast("Iterable[Any]", expert.blocks):
        y = block.space(x)
        x = y + _through_time(block.time, y, lengths)
    tokens, maps = expert.summarise(x)
    return _with_blank(tokens), _with_blank(maps)


def forward_batch(net: VidPrism, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits of every decision [D, K], and the temporal tokens that it saw [D, N, width] for auxiliary losses."""
    tokens, maps = encode_temporal(net.temporal, batch.temporal, batch.lengths)
    slots = batch.temporal_slots
    temporal, motion = tokens[slots.index], maps[slots.index]
    spatial_tokens = _with_blank(net.spatial.project(batch.patches, batch.frames))[batch.spatial_slots.index]
    hybrid_tokens = _with_blank(net.hybrid_encode(batch.hybrid))[batch.hybrid_slots.index]
    spatial, hybrid = batch.spatial_slots, batch.hybrid_slots
    attended = net.hybrid_attend(
        hybrid_tokens, hybrid.mask, hybrid.meta,
        spatial_tokens, spatial.mask, spatial.meta,
        temporal, slots.mask, slots.meta,
    )  # fmt: skip
    _, vector = net.fusion(
        spatial_tokens, spatial.mask, spatial.meta,
        temporal, motion, slots.mask, slots.meta,
        attended, hybrid.mask, hybrid.meta,
        *(m[batch.spatial_box] for m in batch.spatial_matrices),
        *(m[batch.temporal_box] for m in batch.temporal_matrices),
    )  # fmt: skip
    return net.head(vector), temporal

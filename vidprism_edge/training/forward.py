"""The batched forward: many clips and decisions at once, with the components of :class:`VidPrism`.

:meth:`VidPrism.forward` stays the reference; on the same samples both give the same logits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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
class RunGroup:
    """Temporal epochs of similar length: frames [R, L, 3, S, S], each from zero state, the shorter ones padded."""

    frames: Tensor


@dataclass(slots=True)
class Batch:
    """Samples of several clips, and the decisions that see them.

    patches [Ns, P, Dp] and frames [Ns, Df] of the frozen encoder; hybrid [Nh, 3, S, S]; temporal tokens are
    numbered through the groups, run by run and step by step. Matrices are per box: spatial [U, 2, g, P] and so
    on, with ``spatial_box`` [D, N] and ``temporal_box`` [D, N] naming each slot's.
    """

    patches: Tensor
    frames: Tensor
    hybrid: Tensor
    groups: list[RunGroup]
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
            if isinstance(value, list):
                return [RunGroup(g.frames.to(device)) for g in value]
            if isinstance(value, Slots):
                return Slots(value.index.to(device), value.mask.to(device), value.meta.to(device))
            return value

        return Batch(**{name: move(getattr(self, name)) for name in self.__slots__})  # type: ignore[arg-type]


class _Taps(torch.autograd.Function):
    """What a causal convolution sees at each step, side by side: [R, L, H, W, C] → [R, L, H, W, taps · C].

    In one copy forth and one back; padding, slices and their gradients would be a dozen.
    """

    @staticmethod
    def forward(ctx: Any, video: Tensor, taps: int, dilation: int) -> Tensor:
        ctx.late = late = [(taps - 1 - i) * dilation for i in range(taps)]
        steps = video.shape[1]
        seen = video.new_empty(*video.shape[:4], taps, video.shape[4])
        for i, by in enumerate(late):
            seen[:, :by, :, :, i] = 0.0
            seen[:, by:, :, :, i] = video[:, : max(0, steps - by)]
        return seen.flatten(4)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        each = gradients[0].unflatten(4, (len(ctx.late), -1))
        steps = each.shape[1]
        total = each[:, :, :, :, -1].clone()
        for i, by in enumerate(ctx.late[:-1]):
            total[:, : max(0, steps - by)] += each[:, by:, :, :, i]
        return total, None, None


def _through_time(layer: CausalTimeConv, x: Tensor, runs: int) -> Tensor:
    """A causal convolution from zero state, as one over channels: x [R · L, C, H, W] → [R · L, C', H', W'].

    The taps of time are laid side by side as channels, which a processor convolves faster than three dimensions, and
    fastest where channels come last: so they stay from layer to layer.
    """
    steps, dilation = x.shape[0] // runs, layer.conv.dilation[0]
    video = x.permute(0, 2, 3, 1).contiguous().unflatten(0, (runs, steps))
    seen: Tensor = _Taps.apply(video, layer.conv.kernel_size[0], dilation)  # type: ignore[no-untyped-call]
    joined = seen.flatten(0, 1).permute(0, 3, 1, 2)
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


def run_temporal(expert: TemporalExpert, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Frames [R, L, 3, S, S] of any side S, from zero state → tokens [R, L, D], motion maps [R, L, m, m]."""
    runs, steps = frames.shape[:2]
    x = _through_time(expert.stem, frames.flatten(0, 1), runs)
    for block in cast("Iterable[Any]", expert.blocks):
        y = block.space(x)
        x = y + _through_time(block.time, y, runs)
    tokens, maps = expert.summarise(x)
    return tokens.reshape(runs, steps, -1), maps.reshape(runs, steps, *maps.shape[1:])


def encode_temporal(expert: TemporalExpert, groups: list[RunGroup]) -> tuple[Tensor, Tensor]:
    """All steps of all runs, after one blank token that empty slots point to → [1 + T, D], [1 + T, m, m]."""
    weight = expert.layout.weight
    tokens, maps = [weight.new_zeros(1, len(weight))], [weight.new_zeros(1, expert.grid, expert.grid)]
    for group in groups:
        token, motion = run_temporal(expert, group.frames)
        tokens.append(token.flatten(0, 1))
        maps.append(motion.flatten(0, 1))
    return torch.cat(tokens), torch.cat(maps)


def _with_blank(values: Tensor) -> Tensor:
    return torch.cat((values.new_zeros(1, *values.shape[1:]), values))


def forward_batch(net: VidPrism, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits of every decision [D, K], and the temporal tokens that it saw [D, N, width] for auxiliary losses."""
    tokens, maps = encode_temporal(net.temporal, batch.groups)
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

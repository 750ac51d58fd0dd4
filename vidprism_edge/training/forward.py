"""The batched forward: many clips and decisions at once, with the components of :class:`VidPrism`.

:meth:`VidPrism.forward` stays the reference; on the same samples both give the same logits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


class _MixTime(torch.autograd.Function):
    """A causal convolution over time alone: video [T, H, W, C], weight [taps, C, C'] → [T, H, W, C'].

    ``lengths`` of the epochs that follow one another in T, each from zero state. All of them in one tensor, and each
    tap one product of matrices added to the last: a light network spends more on small operations, on copies of what
    a convolution sees and on steps that only pad, than on what it computes.
    """

    @staticmethod
    def forward(ctx: Any, video: Tensor, weight: Tensor, lengths: tuple[int, ...], dilation: int) -> Tensor:
        ctx.save_for_backward(video, weight)
        ctx.pairs = list(_pair_steps(lengths, len(weight), dilation))
        mixed = video @ weight[-1]
        for tap, now, past, _ in ctx.pairs:
            mixed[now].flatten(0, 2).addmm_(video[past].flatten(0, 2), weight[tap])
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        video, weight = ctx.saved_tensors
        each = gradients[0].contiguous()
        of_video, of_weight = each @ weight[-1].T, torch.zeros_like(weight)
        torch.mm(video.flatten(0, 2).T, each.flatten(0, 2), out=of_weight[-1])
        for tap, now, past, _ in ctx.pairs:
            gradient = each[now].flatten(0, 2)
            of_video[past].flatten(0, 2).addmm_(gradient, weight[tap].T)
            of_weight[tap].addmm_(video[past].flatten(0, 2).T, gradient)
        return of_video, of_weight, None, None


def _pair_steps(lengths: tuple[int, ...], taps: int, dilation: int) -> Iterator[tuple[int, slice, slice, slice]]:
    """Of each tap but the last and each epoch: the steps that it adds to, those that it reads, and those too early."""
    for tap in range(taps - 1):
        by = (taps - 1 - tap) * dilation
        for begin, end in pairwise(accumulate(lengths, initial=0)):
            first = min(begin + by, end)
            yield tap, slice(first, end), slice(begin, begin + end - first), slice(begin, first)


def _stack_time(video: Tensor, lengths: tuple[int, ...], taps: int, dilation: int) -> Tensor:
    """What a causal convolution sees at each step, side by side: [T, H, W, C] → [T, H, W, taps · C]."""
    seen = video.new_empty(*video.shape[:3], taps, video.shape[3])
    seen[:, :, :, -1] = video
    for tap, now, past, early in _pair_steps(lengths, taps, dilation):
        seen[now, :, :, tap], seen[early, :, :, tap] = video[past], 0.0
    return seen.flatten(3)


def _through_time(layer: CausalTimeConv, x: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """A causal convolution from zero state: x [T, C, H, W] → [T, C', H', W'].

    Channels come last, which a processor computes fastest, and stay there from layer to layer.
    """
    video = x.permute(0, 2, 3, 1).contiguous()
    conv, norm = layer.conv, layer.norm
    (taps, *space), dilation = conv.kernel_size, conv.dilation[0]
    if space == [1, 1]:
        weight = conv.weight.flatten(2).permute(2, 1, 0).contiguous()
        mixed: Tensor = _MixTime.apply(video, weight, lengths, dilation)  # type: ignore[no-untyped-call]
        y = mixed.permute(0, 3, 1, 2)
    else:
        joined = _stack_time(video, lengths, taps, dilation).permute(0, 3, 1, 2)
        y = F.conv2d(
            joined,
            conv.weight.transpose(1, 2).flatten(1, 2),
            stride=conv.stride[1:],
            padding=conv.padding[1:],
        )
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

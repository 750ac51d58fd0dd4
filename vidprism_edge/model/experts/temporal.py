"""Temporal expert: light causal 3-D convolutions whose past is held in explicit state tensors.

The convolutions are factorised into space and time (R(2+1)D, Tran et al. 2018) and causal in time
(continual inference, Hedegaard and Iosifidis 2022): a step with its state equals the whole-clip forward.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidprism_edge.model.layers import SeparableConv, conv_bn
from vidprism_edge.spec import ModelSpec

TIME_KERNEL = 3
#: Channels whose layout in the box goes into a token.
LAYOUT_WIDTH = 16


class CausalTimeConv(nn.Module):
    """A causal convolution over time; its state is the last (kernel - 1) · dilation inputs."""

    def __init__(
        self, in_width: int, out_width: int, space_kernel: int = 1, space_stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        pad = space_kernel // 2
        self.past = (TIME_KERNEL - 1) * dilation
        self.conv = nn.Conv3d(
            in_width,
            out_width,
            (TIME_KERNEL, space_kernel, space_kernel),
            (1, space_stride, space_stride),
            (0, pad, pad),
            (dilation, 1, 1),
            bias=False,
        )
        self.norm = nn.BatchNorm3d(out_width)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, T, H, W], state [B, C, past, H, W] → output [B, C', T, H', W'], next state."""
        joined = torch.cat((state, x), dim=2)
        return torch.relu(self.norm(self.conv(joined))), joined[:, :, -self.past :]


class _Block(nn.Module):
    """Separable convolution in space, then a residual causal convolution in time."""

    def __init__(self, in_width: int, out_width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.space = SeparableConv(in_width, out_width, stride)
        self.time = CausalTimeConv(out_width, out_width, dilation=dilation)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        batch, _, steps = x.shape[:3]
        flat = self.space(x.transpose(1, 2).flatten(0, 1))
        y = flat.reshape(batch, steps, *flat.shape[1:]).transpose(1, 2)
        mixed, next_state = self.time(y, state)
        return y + mixed, next_state


class TemporalExpert(nn.Module):
    """How it moves: a motion token and a coarse motion map per step."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        widths = spec.temporal.widths
        self.stem = CausalTimeConv(3, widths[0], space_kernel=3, space_stride=2)
        blocks = [
            _Block(*shape)
            for shape in zip(
                widths[:-1], widths[1:], spec.temporal.strides, spec.temporal.dilations, strict=True
            )
        ]
        self.blocks = nn.ModuleList(blocks)
        self.map = nn.Conv2d(widths[-1], 1, 1)
        self.token = nn.Sequential(nn.LayerNorm(2 * widths[-1]), nn.Linear(2 * widths[-1], spec.width))
        self.grid = spec.temporal.grid
        # means over the picture forget where in the box it moves: a few channels keep their layout
        self.squeeze = conv_bn(widths[-1], LAYOUT_WIDTH, 1)
        self.layout = nn.Linear(LAYOUT_WIDTH * self.grid**2, spec.width)
        side = spec.streams["temporal"].size_px
        #: shape [C, past, H, W] of the state of each causal convolution, the stem's first
        self.state_shapes: list[tuple[int, ...]] = [(3, self.stem.past, side, side)]
        side //= 2
        for block, width, stride in zip(blocks, widths[1:], spec.temporal.strides, strict=True):
            side //= stride
            self.state_shapes.append((width, block.time.past, side, side))

    def initial_state(self, batch: int = 1) -> list[Tensor]:
        """Return the state before the first frame: zeros, one tensor [B, C, past, H, W] a causal convolution."""
        return [torch.zeros(batch, *shape) for shape in self.state_shapes]

    def forward(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """x [B, 3, T, S, S] → tokens [B, T, D], motion maps [B, T, m, m] (0 … 1), next state.

        T = 1 is the streaming step; a clip is one call from :meth:`initial_state`.
        """
        x, stem_state = self.stem(x, state[0])
        after = [stem_state]
        for block, past in zip(self.blocks, state[1:], strict=True):
            x, next_state = block(x, past)
            after.append(next_state)
        batch, _, steps = x.shape[:3]
        tokens, maps = self.summarise(x.transpose(1, 2).flatten(0, 1))
        return tokens.reshape(batch, steps, -1), maps.reshape(batch, steps, self.grid, self.grid), after

    def summarise(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features of steps [N, C, m, m] → tokens [N, D] and motion maps [N, m, m].

        Training begins with smaller pictures, whose features are enlarged to the grid.
        """
        if features.shape[-1] != self.grid:
            features = F.interpolate(
                features, size=(self.grid, self.grid), mode="bilinear", align_corners=False
            )
        maps = torch.sigmoid(self.map(features))[:, 0]
        weights = maps[:, None]
        moving = (features * weights).sum(dim=(2, 3)) / (weights.sum(dim=(2, 3)) + 1e-3)
        tokens = self.token(torch.cat((features.mean(dim=(2, 3)), moving), dim=1))
        return tokens + self.layout(self.squeeze(features).flatten(1)), maps

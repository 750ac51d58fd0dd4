"""Networks that others would run on each window, by their published shapes, with random weights: for latency only.

TimeSformer (divided space-time attention, arXiv 2102.05095): ViT-B/16 on 8 frames of 224 pixels. X3D-M (arXiv
2004.04730): 16 frames of 224 pixels. Both are written from their papers' tables.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention over the second to last axis of [B, N, D]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return self.out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))


class DividedBlock(nn.Module):
    """Attention over time at each place, then over space in each frame, then the perceptron."""

    def __init__(self, width: int, heads: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.norm_t, self.norm_s, self.norm_m = (nn.LayerNorm(width) for _ in range(3))
        self.time, self.space = Attention(width, heads), Attention(width, heads)
        self.join = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, token: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """``token`` [1, 1, D]; ``x`` [1, T, P, D]."""
        _, t, p, d = x.shape
        over_time = x[0].transpose(0, 1)  # [P, T, D]
        x = x + self.join(self.time(self.norm_t(over_time))).transpose(0, 1).unsqueeze(0)
        frames = torch.cat([token.expand(t, 1, d), x[0]], 1)  # [T, 1 + P, D]
        seen = self.space(self.norm_s(frames))
        token, x = token + seen[:, :1].mean(0, keepdim=True), x + seen[:, 1:].unsqueeze(0)
        both = torch.cat([token, x.reshape(1, t * p, d)], 1)
        both = both + self.mlp(self.norm_m(both))
        return both[:, :1], both[:, 1:].reshape(1, t, p, d)


class TimeSformer(nn.Module):
    """A clip [1, T, 3, 224, 224] → logits [1, K]."""

    frames, size_px = 8, 224

    def __init__(self, labels: int = 400, width: int = 768, depth: int = 12, heads: int = 12) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.place = nn.Parameter(torch.zeros(1, 1, 196, width))
        self.when = nn.Parameter(torch.zeros(1, self.frames, 1, width))
        self.blocks = nn.ModuleList(DividedBlock(width, heads, self.frames) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, labels)

    def forward(self, frame: Tensor) -> Tensor:
        x = self.patches(frame[0]).flatten(2).transpose(1, 2).unsqueeze(0) + self.place + self.when
        token = self.token
        for block in self.blocks:
            token, x = block(token, x)
        return self.head(self.norm(token[:, 0]))


class Excite(nn.Module):
    """Squeeze and excitation with the published ratio, rounded to eight channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(8, int(width / 16 + 4) // 8 * 8)
        self.down, self.up = nn.Conv3d(width, inner, 1), nn.Conv3d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3, 4), keepdim=True)
        return x * torch.sigmoid(self.up(torch.relu(self.down(mean))))


def _conv(into: int, out: int, kernel: int = 1, groups: int = 1, stride: int = 1) -> nn.Sequential:
    """A convolution and its normalisation, which the exporter folds into it."""
    strides, pad = (1, stride, stride), kernel // 2
    return nn.Sequential(
        nn.Conv3d(into, out, kernel, strides, pad, groups=groups, bias=False), nn.BatchNorm3d(out)
    )


class X3DBlock(nn.Module):
    """Expand, depthwise 3×3×3, every other block with excitation, project."""

    def __init__(self, into: int, out: int, stride: int, excite: bool) -> None:
        super().__init__()
        inner = int(out * 2.25)
        self.expand, self.depthwise = _conv(into, inner), _conv(inner, inner, 3, inner, stride)
        self.excite = Excite(inner) if excite else nn.Identity()
        self.project = _conv(inner, out)
        self.skip = _conv(into, out, stride=stride) if stride > 1 or into != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.excite(self.depthwise(torch.relu(self.expand(x))))
        return torch.relu(self.skip(x) + self.project(nn.functional.silu(y)))


class X3D(nn.Module):
    """X3D-M: a clip [1, T, 3, 224, 224] → logits [1, K]."""

    frames, size_px = 16, 224

    def __init__(self, labels: int = 400) -> None:
        super().__init__()
        width, stages = 24, ((24, 3), (48, 5), (96, 11), (192, 7))
        self.space = nn.Conv3d(3, width, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        self.time = nn.Sequential(
            nn.Conv3d(width, width, (5, 1, 1), padding=(2, 0, 0), groups=width, bias=False),
            nn.BatchNorm3d(width),
        )
        blocks = []
        for out, depth in stages:
            for i in range(depth):
                blocks.append(X3DBlock(width, out, 2 if i == 0 else 1, excite=i % 2 == 0))
                width = out
        self.blocks, self.last = nn.Sequential(*blocks), _conv(width, int(width * 2.25))
        self.hidden, self.head = nn.Linear(int(width * 2.25), 2048, bias=False), nn.Linear(2048, labels)

    def forward(self, frame: Tensor) -> Tensor:
        x = self.blocks(torch.relu(self.time(self.space(frame.transpose(1, 2)))))
        return self.head(torch.relu(self.hidden(torch.relu(self.last(x)).mean((2, 3, 4)))))


#: name → network, and what its paper says of one clip: multiply-accumulates, parameters.
PEERS: dict[str, tuple[type[nn.Module], float, float]] = {
    "TimeSformer-B/16, 8 × 224²": (TimeSformer, 196.7e9, 121.4e6),
    "X3D-M, 16 × 224²": (X3D, 4.73e9, 3.79e6),
}

"""Building blocks that more than one component uses. Shapes: B batch, N tokens, D width, H W pixels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Added to the score of a masked key: exp(-1e4) is exactly 0 in fp32 and the value is finite in fp16.
MASKED = -1.0e4
#: Age (s) at which the logarithmic age scale turns from linear to logarithmic.
AGE_KNEE_S = 0.1


def conv_bn(in_width: int, out_width: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return convolution, batch normalisation and ReLU6."""
    return nn.Sequential(
        nn.Conv2d(in_width, out_width, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_width),
        nn.ReLU6(),
    )


class SeparableConv(nn.Module):
    """Depthwise 3 × 3 and pointwise convolution, with a residual where the shapes allow (MobileNet)."""

    def __init__(self, in_width: int, out_width: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv_bn(in_width, in_width, 3, stride, groups=in_width), conv_bn(in_width, out_width, 1)
        )
        self.residual = stride == 1 and in_width == out_width

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] → [B, out, H / stride, W / stride]."""
        y = self.layers(x)
        return x + y if self.residual else y


class InvertedResidual(nn.Module):
    """Pointwise expansion, depthwise convolution, linear projection (MobileNetV2)."""

    def __init__(self, in_width: int, out_width: int, stride: int, expansion: int = 3) -> None:
        super().__init__()
        inner = in_width * expansion
        self.layers = nn.Sequential(
            conv_bn(in_width, inner, 1),
            conv_bn(inner, inner, 3, stride, groups=inner),
            nn.Conv2d(inner, out_width, 1, bias=False),
            nn.BatchNorm2d(out_width),
        )
        self.residual = stride == 1 and in_width == out_width

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] → [B, out, H / stride, W / stride]."""
        y = self.layers(x)
        return x + y if self.residual else y


class MetaEmbedding(nn.Module):
    """Embeds what a slot knows of its sample: age (s) and box (x, y, w, h) in scene coordinates."""

    def __init__(self, width: int, max_age_s: float) -> None:
        super().__init__()
        self.max_age_s = max_age_s
        self.scale = 1.0 / math.log1p(max_age_s / AGE_KNEE_S)
        self.layers = nn.Sequential(nn.Linear(5, 64), nn.GELU(), nn.Linear(64, width))

    def forward(self, meta: Tensor) -> Tensor:
        """[B, N, 5] → [B, N, D]; the age is clipped to 0 … max_age_s and log-scaled to 0 … 1."""
        age = torch.log1p(meta[..., :1].clamp(0.0, self.max_age_s) / AGE_KNEE_S) * self.scale
        return self.layers(torch.cat((age, meta[..., 1:]), dim=-1))


class Attention(nn.Module):
    """Multi-head attention over a masked context and one learned null token that is never masked.

    The null token gives an answer where every key is masked (an expert is absent), without a branch.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.null = nn.Parameter(torch.randn(1, 1, width) * 0.5)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """x [B, Q, D], context [B, N, D], mask [B, N] (1 visible, 0 masked) → [B, Q, D]."""
        batch, queries, width = x.shape
        context = torch.cat((self.null.expand(batch, -1, -1), context), dim=1)
        bias = F.pad((mask - 1.0) * -MASKED, (1, 0))
        head = width // self.heads
        q = self.query(x).reshape(batch, queries, self.heads, head).transpose(1, 2)
        key, value = self.key_value(context).chunk(2, dim=-1)
        k = key.reshape(batch, -1, self.heads, head).permute(0, 2, 3, 1)
        v = value.reshape(batch, -1, self.heads, head).transpose(1, 2)
        weights = torch.softmax(torch.matmul(q * head**-0.5, k) + bias[:, None, None, :], dim=-1)
        return self.output(torch.matmul(weights, v).transpose(1, 2).reshape(batch, queries, width))


class AttentionBlock(nn.Module):
    """Pre-normalised attention to a context (or to itself) and a feed-forward network, both residual."""

    def __init__(self, width: int, heads: int, expansion: int = 2) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, expansion * width),
            nn.GELU(),
            nn.Linear(expansion * width, width),
        )

    def forward(self, x: Tensor, context: Tensor | None, mask: Tensor) -> Tensor:
        """x [B, Q, D]; context [B, N, D], already normalised, or None for x itself; mask [B, N] → [B, Q, D]."""
        normed = self.norm(x)
        x = x + self.attention(normed, normed if context is None else context, mask)
        return x + self.feed_forward(x)


class SlotPool(nn.Module):
    """Sums up a window's visible tokens: their attention-weighted mean, and the largest value of each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, 1)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """tokens [B, N, D], zero where masked; mask [B, N] → [B, 2 D]; finite where every token is masked."""
        x = self.norm(tokens)
        hidden = (mask - 1.0) * -MASKED
        weights = torch.softmax(self.score(x)[..., 0] + hidden, dim=1)
        strongest = (x + hidden[..., None]).amax(dim=1).clamp(min=-10.0)
        return torch.cat(((x * weights[..., None]).sum(dim=1), strongest), dim=1)


def blank_masked(tokens: Tensor, mask: Tensor) -> Tensor:
    """Return tokens [B, N, ...] with masked slots exactly zero, whatever the buffer held there."""
    shape = mask.shape + (1,) * (tokens.dim() - mask.dim())
    return torch.where(mask.reshape(shape) > 0.5, tokens, tokens.new_zeros(()))

"""Hybrid expert: an encoder of single samples, and cross-attention to what the other two experts see."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidprism_edge.model.layers import AttentionBlock, InvertedResidual, MetaEmbedding, blank_masked, conv_bn
from vidprism_edge.spec import ModelSpec


class HybridEncoder(nn.Module):
    """One sample in, tokens out: pure, so its tokens are cached."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        widths = spec.hybrid.widths
        self.layers = nn.Sequential(
            conv_bn(3, widths[0], 3, 2),
            *(InvertedResidual(a, b, 2) for a, b in zip(widths[:-1], widths[1:], strict=True)),
            InvertedResidual(widths[-1], widths[-1], 1),
        )
        self.pool = spec.streams["hybrid"].size_px // 2 ** len(widths) - spec.hybrid.grid + 1
        self.project = nn.Sequential(nn.LayerNorm(widths[-1]), nn.Linear(widths[-1], spec.width))

    def forward(self, frame: Tensor) -> Tensor:
        """[B, 3, S, S] → tokens [B, grid², D]."""
        features = F.avg_pool2d(self.layers(frame), self.pool, 1)
        return self.project(features.flatten(2).transpose(1, 2))


class HybridAttention(nn.Module):
    """From the hybrid tokens to the current spatial and temporal tokens, run at every decision."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        width = spec.width
        # not named meta: torch's graph modules have an attribute of that name
        self.place = MetaEmbedding(width, spec.max_age_s)
        self.kind = nn.Parameter(torch.randn(3, width) * 0.1)
        self.hybrid_place = nn.Parameter(torch.randn(spec.hybrid.grid**2, width) * 0.1)
        self.spatial_place = nn.Parameter(torch.randn(1 + spec.encoder.grid**2, width) * 0.1)
        self.context_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            AttentionBlock(width, spec.hybrid.heads) for _ in range(spec.hybrid.depth)
        )
        self.pool = nn.Linear(width, 1)
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        hybrid_tokens: Tensor,
        hybrid_mask: Tensor,
        hybrid_meta: Tensor,
        spatial_tokens: Tensor,
        spatial_mask: Tensor,
        spatial_meta: Tensor,
        temporal_tokens: Tensor,
        temporal_mask: Tensor,
        temporal_meta: Tensor,
    ) -> Tensor:
        """hybrid [B, Nh, Ph, D], spatial [B, Ns, 1 + P, D], temporal [B, Nt, D]; masks [B, N]; meta [B, N, 5].

        Returns one token per hybrid slot, [B, Nh, D], zero where the slot is masked.
        """
        batch, slots, patches, width = hybrid_tokens.shape
        spatial = blank_masked(spatial_tokens, spatial_mask) + self.spatial_place
        spatial = spatial + (self.place(spatial_meta) + self.kind[0])[:, :, None]
        temporal = blank_masked(temporal_tokens, temporal_mask) + self.place(temporal_meta) + self.kind[1]
        context = self.context_norm(torch.cat((spatial.flatten(1, 2), temporal), dim=1))
        per_slot = spatial.shape[2]
        spatial_keys = spatial_mask[:, :, None].expand(-1, -1, per_slot).flatten(1)
        visible = torch.cat((spatial_keys, temporal_mask), dim=1)
        x = blank_masked(hybrid_tokens, hybrid_mask) + self.hybrid_place
        x = (x + (self.place(hybrid_meta) + self.kind[2])[:, :, None]).flatten(1, 2)
        for block in self.blocks:
            x = block(x, context, visible)
        x = x.reshape(batch, slots, patches, width)
        pooled = (x * torch.softmax(self.pool(x), dim=2)).sum(dim=2)
        return blank_masked(self.norm(pooled), hybrid_mask)

"""Bidirectional fusion loop: what is seen weights what moves, what moves sharpens what is seen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidprism_edge.model.layers import Attention, AttentionBlock, MetaEmbedding, SlotPool, blank_masked
from vidprism_edge.spec import ModelSpec

EPSILON = 1e-3


def carry(matrices: Tensor, maps: Tensor) -> Tensor:
    """Move maps from one grid to another by separable bilinear interpolation.

    matrices [B, N, 2, out, in] (axis 0 vertical, 1 horizontal), maps [B, N, in, in] → [B, N, out, out].
    """
    return torch.matmul(torch.matmul(matrices[:, :, 0], maps), matrices[:, :, 1].transpose(2, 3))


def blend(matrices: Tensor, maps: Tensor, weight: Tensor) -> Tensor:
    """Carry maps [B, N, in, in] to the scene and average them by weight [B, N] where they cover it → [B, g, g]."""
    weight = weight[:, :, None, None]
    covered = carry(matrices, torch.ones_like(maps)) * weight
    return (carry(matrices, maps) * weight).sum(dim=1) / (covered.sum(dim=1) + EPSILON)


class Fusion(nn.Module):
    """Passes of spatial → temporal and temporal → spatial with shared weights, then one fused sequence."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        width = spec.width
        self.passes = spec.fusion_passes
        self.side = spec.encoder.grid
        # not named meta: torch's graph modules have an attribute of that name
        self.place = MetaEmbedding(width, spec.max_age_s)
        self.kind = nn.Parameter(torch.randn(4, width) * 0.1)
        self.spatial_norm = nn.LayerNorm(width)
        self.temporal_norm = nn.LayerNorm(width)
        self.relevance = nn.Linear(width, 1)
        self.to_temporal_space = nn.Linear(width, width)
        self.temporal_attention = Attention(width, spec.fusion_heads)
        self.motion_weight = nn.Linear(width, 1)
        self.sharpen = nn.Linear(width, width)
        self.frame_update = nn.Linear(width, width)
        self.sequence = AttentionBlock(width, spec.fusion_heads)
        self.query = nn.Parameter(torch.randn(1, 1, width) * 0.5)
        self.context_norm = nn.LayerNorm(width)
        self.readout = AttentionBlock(width, spec.fusion_heads)
        # A short way from motion to the decision: training begins with what the temporal expert has learned by itself,
        # and what is fused is added to it, at first a little of it (LayerScale, Touvron et al. 2021).
        self.summary = SlotPool(width)
        self.summarise = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width)
        self.gain = nn.Parameter(torch.full((width,), 0.1))

    def forward(
        self,
        spatial_tokens: Tensor,
        spatial_mask: Tensor,
        spatial_meta: Tensor,
        temporal_tokens: Tensor,
        motion_maps: Tensor,
        temporal_mask: Tensor,
        temporal_meta: Tensor,
        hybrid_tokens: Tensor,
        hybrid_mask: Tensor,
        hybrid_meta: Tensor,
        spatial_to_scene: Tensor,
        scene_to_spatial: Tensor,
        temporal_to_scene: Tensor,
        scene_to_temporal: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Fuse the three experts' tokens.

        spatial_tokens [B, Ns, 1 + P, D], temporal_tokens [B, Nt, D], motion_maps [B, Nt, m, m],
        hybrid_tokens [B, Nh, D], masks [B, N], meta [B, N, 5], interpolation matrices [B, N, 2, out, in].
        Returns the fused sequence [B, 2 Ns + Nt + Nh, D] and the decision's vector [B, D].
        """
        batch, slots = spatial_mask.shape
        tokens = blank_masked(spatial_tokens, spatial_mask)
        frames, patches = tokens[:, :, 0], tokens[:, :, 1:]
        motion = moved = blank_masked(temporal_tokens, temporal_mask)
        maps = blank_masked(motion_maps, temporal_mask)
        grid = (batch, slots, self.side, self.side)
        patch_keys = spatial_mask[:, :, None].expand(-1, -1, patches.shape[2]).flatten(1)
        mask_on_patches = patches.new_zeros(grid)
        for _ in range(self.passes):
            # spatial → temporal: object relevance, carried to each step's own box, weights what moves there
            seen = self.spatial_norm(patches)
            relevance = torch.sigmoid(self.relevance(seen)).reshape(grid)
            scene_relevance = blend(spatial_to_scene, relevance, spatial_mask)
            here = carry(scene_to_temporal, scene_relevance[:, None])
            on_objects = (maps * here).sum(dim=(2, 3)) / (maps.sum(dim=(2, 3)) + EPSILON)
            context = self.to_temporal_space(seen).flatten(1, 2)
            update = self.temporal_attention(self.temporal_norm(motion), context, patch_keys)
            motion = blank_masked(motion * (0.5 + on_objects[:, :, None]) + update, temporal_mask)
            maps = maps * (0.5 + here)
            # temporal → spatial: the motion-enhanced mask, carried to each sample's box, sharpens what moves
            weight = torch.sigmoid(self.motion_weight(self.temporal_norm(motion)))[:, :, 0] * temporal_mask
            scene_motion = blend(temporal_to_scene, maps, weight)
            mask_on_patches = carry(scene_to_spatial, scene_motion[:, None])
            gain = mask_on_patches.flatten(2)[..., None]
            patches = blank_masked(patches + gain * self.sharpen(seen), spatial_mask)
            moving = (patches * gain).sum(dim=2) / (gain.sum(dim=2) + EPSILON)
            frames = blank_masked(frames + self.frame_update(moving), spatial_mask)
        focus = (0.1 + mask_on_patches).flatten(2)[..., None]
        focused = (patches * focus).sum(dim=2) / focus.sum(dim=2)
        spatial_place = self.place(spatial_meta)
        parts = (
            frames + spatial_place + self.kind[0],
            focused + spatial_place + self.kind[1],
            motion + self.place(temporal_meta) + self.kind[2],
            blank_masked(hybrid_tokens, hybrid_mask) + self.place(hybrid_meta) + self.kind[3],
        )
        visible = torch.cat((spatial_mask, spatial_mask, temporal_mask, hybrid_mask), dim=1)
        sequence = blank_masked(self.sequence(torch.cat(parts, dim=1), None, visible), visible)
        vector = self.readout(self.query.expand(batch, -1, -1), self.context_norm(sequence), visible)
        there = temporal_mask.sum(dim=1, keepdim=True).clamp(max=1.0)
        summary = self.summarise(self.summary(moved, temporal_mask)) * there
        return sequence, summary + self.gain * self.norm(vector[:, 0])

"""Spatial expert: a frozen image encoder and a trained projection to the model's width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidprism_edge.spec import ModelSpec


class SpatialExpert(nn.Module):
    """What is in the picture. A pure function of one sample, so its tokens are cached."""

    def __init__(self, spec: ModelSpec, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.patch = nn.Sequential(
            nn.LayerNorm(spec.encoder.patch_width), nn.Linear(spec.encoder.patch_width, spec.width)
        )
        self.frame = nn.Sequential(
            nn.LayerNorm(spec.encoder.frame_width), nn.Linear(spec.encoder.frame_width, spec.width)
        )

    def project(self, patches: Tensor, frame: Tensor) -> Tensor:
        """Encoder features [B, P, Dp], [B, Df] → tokens [B, 1 + P, D], the frame token first."""
        return torch.cat((self.frame(frame)[:, None], self.patch(patches)), dim=1)

    def forward(self, frame: Tensor) -> Tensor:
        """[B, 3, S, S] → tokens [B, 1 + P, D]."""
        return self.project(*self.encoder(frame))

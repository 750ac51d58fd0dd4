"""Heads on the fused vector."""

from __future__ import annotations

from torch import Tensor, nn

from vidprism_edge.spec import ModelSpec


class ClassificationHead(nn.Module):
    """K logits from the decision's vector."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.linear = nn.Linear(spec.width, len(spec.labels))

    def forward(self, vector: Tensor) -> Tensor:
        """[B, D] → logits [B, K]."""
        return self.linear(vector)

"""Content analyzer: where high-level content is, and where something moves."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidprism_edge.model.layers import SeparableConv, conv_bn
from vidprism_edge.spec import ModelSpec


class Analyzer(nn.Module):
    """A light CNN on a frame and its predecessor in the analyzer's stream (one stream period earlier).

    Each map is a prior computed from the pixels, local contrast for saliency and frame difference for motion, and a
    correction that is learned: added to saliency, but a factor of 0 … 2 to motion, because nothing moves where no
    pixel has changed. Until it is trained, the maps are the priors.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        first, second, third = spec.analyzer_widths
        self.grid = spec.analyzer_grid
        self.layers = nn.Sequential(
            conv_bn(6, first, 3, 2),
            SeparableConv(first, second, 2),
            SeparableConv(second, second),
            SeparableConv(second, third, 2),
            SeparableConv(third, third),
            SeparableConv(third, third),
        )
        # no bias: the priors' offsets are one
        self.correction = nn.Conv2d(third, 2, 1, bias=False)
        nn.init.normal_(self.correction.weight, std=0.01)
        #: slope and offset of each prior: saliency, motion
        self.slope = nn.Parameter(torch.tensor([8.0, 12.0]))
        self.offset = nn.Parameter(torch.tensor([-2.0, -3.0]))

    def forward(self, frame: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
        """frame, previous [B, 3, S, S] → saliency [B, g, g], motion [B, g, g], both 0 … 1."""
        difference = (frame - previous).abs().mean(dim=1, keepdim=True)
        local = F.avg_pool2d(frame, 3, 1, 1)
        contrast = (frame - local).abs().mean(dim=1, keepdim=True)
        prior = F.avg_pool2d(torch.cat((contrast, difference), dim=1), frame.shape[-1] // self.grid)
        learned = self.correction(self.layers(torch.cat((frame, frame - previous), dim=1)))
        told = prior * self.slope[:, None, None]
        saliency = told[:, 0] + learned[:, 0]
        motion = told[:, 1] * 2.0 * torch.sigmoid(learned[:, 1])
        return torch.sigmoid(saliency + self.offset[0]), torch.sigmoid(motion + self.offset[1])

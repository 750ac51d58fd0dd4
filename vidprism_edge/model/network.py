"""VidPrism: the whole network and its clip forward."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vidprism_edge.model.analyzer import Analyzer
from vidprism_edge.model.clip import Clip, looked_back_ns
from vidprism_edge.model.encoders import load_encoder
from vidprism_edge.model.experts.hybrid import HybridAttention, HybridEncoder
from vidprism_edge.model.experts.spatial import SpatialExpert
from vidprism_edge.model.experts.temporal import TemporalExpert
from vidprism_edge.model.fusion import Fusion
from vidprism_edge.model.heads import ClassificationHead
from vidprism_edge.runtimes.streaming.geometry import WHOLE, SceneBox, interpolation
from vidprism_edge.spec import COMPONENTS, ModelSpec


@dataclass(slots=True)
class _Token:
    """One candidate for a slot: what it holds, when and where it was sampled, and from when on it is seen."""

    values: tuple[Tensor, ...]
    t_ns: int
    region: int
    box: SceneBox
    begin_ns: int


@dataclass(slots=True)
class _Slots:
    """The slots of one expert at one decision: values [1, N, ...], mask [1, N], meta [1, N, 5], box per slot."""

    values: tuple[Tensor, ...]
    mask: Tensor
    meta: Tensor
    boxes: list[SceneBox | None]

    def matrices(self, n_map: int, n_scene: int) -> tuple[Tensor, Tensor]:
        """Interpolation slot → scene [1, N, 2, n_scene, n_map] and scene → slot [1, N, 2, n_map, n_scene]."""
        forth = torch.zeros(1, len(self.boxes), 2, n_scene, n_map)
        back = torch.zeros(1, len(self.boxes), 2, n_map, n_scene)
        for i, box in enumerate(self.boxes):
            if box is not None:
                forth[0, i] = torch.from_numpy(interpolation(box, WHOLE, n_map, n_scene))
                back[0, i] = torch.from_numpy(interpolation(WHOLE, box, n_scene, n_map))
        return forth, back


class VidPrism(nn.Module):
    """Analyzer, three experts, fusion and head. Each component becomes one graph (:data:`COMPONENTS`)."""

    def __init__(self, spec: ModelSpec, encoder: nn.Module) -> None:
        super().__init__()
        self.spec = spec
        self.analyzer = Analyzer(spec)
        self.spatial = SpatialExpert(spec, encoder)
        self.temporal = TemporalExpert(spec)
        self.hybrid_encode = HybridEncoder(spec)
        self.hybrid_attend = HybridAttention(spec)
        self.fusion = Fusion(spec)
        self.head = ClassificationHead(spec)
        for name, module in self.named_modules():
            # torch's default halves the signal at each layer; He's keeps it (He et al. 2015)
            if isinstance(module, nn.Conv2d | nn.Conv3d) and not name.startswith(
                ("spatial.encoder", "analyzer.corr")
            ):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def components(self) -> dict[str, nn.Module]:
        """Return the components by name, in the order in which data pass through them."""
        return {name: getattr(self, name) for name in COMPONENTS}

    def trained_parameters(self) -> int:
        """Number of parameters that training changes (everything but the frozen encoder)."""
        return sum(p.numel() for n, p in self.named_parameters() if not n.startswith("spatial.encoder."))

    def _candidates(self, clip: Clip) -> dict[str, list[_Token]]:
        """Encode every sample of the clip, each epoch of the temporal expert in one causal convolution."""
        tokens: dict[str, list[_Token]] = {}
        for name, encode, samples in (
            ("spatial", self.spatial, clip.spatial),
            ("hybrid", self.hybrid_encode, clip.hybrid),
        ):
            tokens[name] = [
                _Token((encode(samples.frames[i : i + 1])[0],), t, region, box, t)
                for i, (t, region, box) in enumerate(
                    zip(samples.t_ns, samples.regions, samples.boxes, strict=True)
                )
            ]
        tokens["temporal"] = []
        for epoch in clip.epochs:
            frames = epoch.frames.transpose(0, 1)[None]
            motion, maps, _ = self.temporal(frames, self.temporal.initial_state())
            for i, t in enumerate(epoch.t_ns, start=epoch.warm):
                tokens["temporal"].append(_Token((motion[0, i], maps[0, i]), t, 0, epoch.box, epoch.begin_ns))
        return tokens

    def _visible(self, name: str, tokens: list[_Token], t_ns: int) -> _Slots:
        """Select what a decision at ``t_ns`` sees: the window, and the newest sample while it is not too old."""
        stream = self.spec.streams[name]
        slots = self.spec.slots(name) * stream.regions
        back = looked_back_ns(((k.t_ns, k.begin_ns) for k in tokens), t_ns)
        past = [k for k in tokens if k.t_ns <= t_ns and back <= k.begin_ns <= t_ns]
        newest = max((token.t_ns for token in past), default=None)
        chosen = []
        for token in past:
            age_ns = t_ns - token.t_ns
            stale = token.t_ns == newest and age_ns <= stream.stale_s * 1e9
            if age_ns < self.spec.window_ns or stale:
                chosen.append(token)
        values = tuple(torch.zeros(1, slots, *shape) for shape in self._value_shapes(name))
        mask, meta = torch.zeros(1, slots), torch.zeros(1, slots, 5)
        for i, token in enumerate(chosen):
            for slot, value in zip(values, token.values, strict=True):
                slot[0, i] = value
            mask[0, i] = 1.0
            meta[0, i] = torch.tensor(((t_ns - token.t_ns) / 1e9, *token.box))
        return _Slots(values, mask, meta, [t.box for t in chosen] + [None] * (slots - len(chosen)))

    def _value_shapes(self, name: str) -> tuple[tuple[int, ...], ...]:
        spec = self.spec
        return {
            "spatial": ((1 + spec.encoder.grid**2, spec.width),),
            "hybrid": ((spec.hybrid.grid**2, spec.width),),
            "temporal": ((spec.width,), (spec.temporal.grid, spec.temporal.grid)),
        }[name]

    def _decide(self, tokens: dict[str, list[_Token]], t_ns: int) -> Tensor:
        spatial, hybrid, temporal = (
            self._visible(n, tokens[n], t_ns) for n in ("spatial", "hybrid", "temporal")
        )
        attended = self.hybrid_attend(
            *hybrid.values, hybrid.mask, hybrid.meta,
            *spatial.values, spatial.mask, spatial.meta,
            temporal.values[0], temporal.mask, temporal.meta,
        )  # fmt: skip
        scene = self.spec.scene_grid
        _, vector = self.fusion(
            *spatial.values, spatial.mask, spatial.meta,
            *temporal.values, temporal.mask, temporal.meta,
            attended, hybrid.mask, hybrid.meta,
            *spatial.matrices(self.spec.encoder.grid, scene),
            *temporal.matrices(self.spec.temporal.grid, scene),
        )  # fmt: skip
        return self.head(vector)[0]

    def forward(self, clip: Clip) -> Tensor:
        """Whole-clip forward → logits [decisions, K].

        The reference of streaming: the stream must give the same logits at every decision of the clip.
        """
        tokens = self._candidates(clip)
        return torch.stack([self._decide(tokens, t) for t in clip.decisions_ns])


def build(spec: ModelSpec, *, seed: int = 0, random_weights: bool = False) -> VidPrism:
    """Return the network of ``spec`` in evaluation mode, its untrained parts drawn from ``seed``.

    ``random_weights`` draws the frozen encoder too. Errors: :class:`UsageError` where its weights are missing.
    """
    torch.manual_seed(seed)
    return VidPrism(spec, load_encoder(spec.encoder, random_weights=random_weights)).eval()

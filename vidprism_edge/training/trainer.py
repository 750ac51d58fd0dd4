"""The training loop: stages of epochs, averaged weights, and a state on disk from which a killed run goes on."""

from __future__ import annotations

import ctypes
import gc
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidprism_edge.errors import UsageError
from vidprism_edge.model.checkpoint import trained_state
from vidprism_edge.model.layers import SlotPool
from vidprism_edge.model.network import VidPrism
from vidprism_edge.spec import NONE
from vidprism_edge.training.batches import Collator, Item, ItemMaker
from vidprism_edge.training.forward import Batch, encode_temporal, forward_batch
from vidprism_edge.training.prepare import Example
from vidprism_edge.training.recipe import Recipe, Stage
from vidprism_edge.training.teaching import hash_weights

Progress = Callable[[str, int, int], None]


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next tensors; elsewhere nothing changes.

    Given back to the system, the pages of every large tensor come anew and empty, which takes longer than what a light
    network computes in them.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return
    # no mapping of its own for what is large (M_MMAP_MAX), no trimming of the heap (M_TRIM_THRESHOLD)
    mallopt(-4, 0)
    mallopt(-1, -1)


class AuxiliaryHead(nn.Module):
    """Labels from the temporal tokens alone; used while training, so that this expert learns to stand by itself."""

    def __init__(self, width: int, labels: int) -> None:
        super().__init__()
        self.pool = SlotPool(width)
        self.dropout = nn.Dropout(0.3)
        self.linear = nn.Linear(2 * width, labels)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """tokens [D, N, width], mask [D, N] → logits [D, K]."""
        return self.linear(self.dropout(self.pool(tokens, mask)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """Top-1 of the network's decisions added up over each clip, and which clips were right."""

    top1: float
    clips: int
    right: tuple[bool, ...]
    auxiliary_top1: float


def draw_epoch(examples: Sequence[Example], rng: np.random.Generator) -> list[Example]:
    """An epoch's examples in random order: every clip of an action, and as many of none as of a class."""
    actions = [e for e in examples if e.label != NONE]
    idle = [e for e in examples if e.label == NONE]
    if actions and idle:
        classes = len({e.label for e in actions})
        count = min(len(idle), -(-len(actions) // classes))
        idle = [idle[i] for i in rng.choice(len(idle), count, replace=False)]
    chosen = actions + idle
    return [chosen[i] for i in rng.permutation(len(chosen))]


class Trainer:
    """Trains one network on prepared examples."""

    def __init__(
        self,
        net: VidPrism,
        examples: Sequence[Example],
        recipe: Recipe,
        mirror: dict[str, str],
        *,
        folder: Path | None = None,
        device: str = "cpu",
        progress: Progress = lambda *_: None,
        say: Callable[[str], None] = lambda _: None,
        begun: bool = False,
        collator: Collator | None = None,
    ) -> None:
        """``folder`` keeps the state of an unfinished run; None: a killed run is lost.

        ``begun``: the network has learned something before, and its summary says where to look.
        """
        self._net, self._recipe, self._folder, self._progress, self._say = net, recipe, folder, progress, say
        self._device = torch.device(device)
        self._examples = list(examples)
        self._maker, self._collator = ItemMaker(net.spec, recipe, mirror), collator or Collator(net.spec)
        torch.manual_seed(recipe.seed)
        self._auxiliary = AuxiliaryHead(net.spec.width, len(net.spec.labels))
        if begun:
            self._auxiliary.pool.load_state_dict(net.fusion.summary.state_dict())
        self._origin = hash_weights(net.temporal)
        self._net.to(self._device)
        self._auxiliary.to(self._device)
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(not name.startswith(("spatial.encoder.", "analyzer.")))
        self._average: dict[str, Tensor] = {}

    def _modules(self) -> dict[str, nn.Module]:
        return {"net": self._net, "auxiliary": self._auxiliary}

    def _state(self) -> dict[str, Tensor]:
        """Everything that learns, the auxiliary head too."""
        own = {f"net.{n}": v for n, v in trained_state(self._net).items()}
        return own | {f"auxiliary.{n}": v for n, v in self._auxiliary.state_dict().items()}

    def train(self, stages: int | None = None) -> None:
        """Run what is left of the first ``stages`` (None: all), then put the averaged weights into the network."""
        if self._device.type == "cpu":
            keep_freed_memory()
        # recordings are a million small objects that stay: looking through them again and again is a tenth of the time
        gc.freeze()
        try:
            self._train(stages)
        finally:
            gc.unfreeze()

    def _train(self, stages: int | None) -> None:
        done = self._resume()
        position = 0
        for number, stage in enumerate(self._recipe.stages[:stages]):
            if position + stage.epochs <= done:
                position += stage.epochs
                continue
            optimizer = self._optimizer(stage)
            steps = -(
                -len(draw_epoch(self._examples, np.random.default_rng((self._recipe.seed, 0, 0))))
                // self._recipe.batch
            )
            first = max(0, done - position)
            if first:
                self._load_optimizer(optimizer)
            elif stage.joint and not any(s.joint for s in self._recipe.stages[:number]):
                self._hand_over()
            for epoch in range(first, stage.epochs):
                loss = self._epoch(number, stage, epoch, steps, optimizer)
                self._say(f"stage {number + 1}, epoch {epoch + 1} of {stage.epochs}: loss {loss:.3f}")
                self._save(position + epoch + 1, optimizer)
            position += stage.epochs
        for name, value in self._state().items():
            if name in self._average:
                value.copy_(self._average[name])
        self._net.eval()
        self._auxiliary.eval()

    def _hand_over(self) -> None:
        """Let the decision begin as what the temporal expert says by itself: its head, on the first channels."""
        fusion, head, own = self._net.fusion, self._net.head.linear, self._auxiliary.linear
        labels = len(own.weight)
        fusion.summary.load_state_dict(self._auxiliary.pool.state_dict())
        if labels > self._net.spec.width:
            return
        with torch.no_grad():
            fusion.summarise.weight[:labels], fusion.summarise.bias[:labels] = own.weight, own.bias
            head.weight.zero_()[:, :labels].fill_diagonal_(1.0)
            head.bias.zero_()

    def _optimizer(self, stage: Stage) -> torch.optim.Optimizer:
        own, rest = [], []
        self._net.temporal.requires_grad_(stage.temporal_share > 0)
        for name, parameter in self._net.named_parameters():
            if parameter.requires_grad and name.startswith("temporal."):
                own.append(parameter)
            elif parameter.requires_grad and stage.joint:
                rest.append(parameter)
        rest += list(self._auxiliary.parameters())
        groups = [{"params": own, "share": stage.temporal_share}, {"params": rest, "share": 1.0}]
        groups = [group for group in groups if group["params"]]
        return torch.optim.AdamW(
            groups, lr=stage.rate, weight_decay=self._recipe.weight_decay, betas=(0.9, 0.98), fused=True
        )

    def _epoch(
        self, number: int, stage: Stage, epoch: int, steps: int, optimizer: torch.optim.Optimizer
    ) -> float:
        recipe = self._recipe
        torch.manual_seed(recipe.seed * 1_000_003 + number * 1009 + epoch)
        examples = draw_epoch(self._examples, np.random.default_rng((recipe.seed, number, epoch)))
        self._set_mode(stage)
        total = 0.0
        for step, items in enumerate(self._items(examples, stage, (recipe.seed, number, epoch, 1))):
            self._progress(
                f"stage {number + 1} of {len(recipe.stages)}", epoch * steps + step, stage.epochs * steps
            )
            batch = self._collator.join(items).to(self._device)
            share = (epoch * steps + step + 1) / (stage.epochs * steps)
            # one cycle: up over a tenth of the stage, then down along a cosine
            scale = min(share / 0.1, 0.5 * (1 + np.cos(np.pi * share)) + 0.01)
            for group in optimizer.param_groups:
                group["lr"] = stage.rate * group["share"] * scale
            loss = self._loss(batch, stage)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], 2.0)
            optimizer.step()
            self._constrain()
            self._follow(epoch * steps + step)
            total += float(loss.detach())
        return total / steps

    def _items(
        self, examples: Sequence[Example], stage: Stage, seed: tuple[int, ...]
    ) -> Iterator[list[Item]]:
        """An epoch's clips, a batch at a time. Each has a seed of its own: no matter which thread makes it."""

        def make(position: int) -> Item:
            rng = np.random.default_rng((*seed, position))
            return self._maker.altered(examples[position], rng, size_px=stage.size_px, joint=stage.joint)

        positions = range(len(examples))
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for first in range(0, len(examples), self._recipe.batch):
                yield list(pool.map(make, positions[first : first + self._recipe.batch]))

    def _set_mode(self, stage: Stage) -> None:
        self._net.eval()
        self._auxiliary.train()
        self._net.temporal.train(stage.temporal_share > 0)
        if stage.joint:
            self._net.hybrid_encode.train()
            # statistics of a few steps at a small rate would only be noise
            self._net.temporal.train(stage.temporal_share >= 0.5)

    def _loss(self, batch: Batch, stage: Stage) -> Tensor:
        weights = batch.weights / batch.weights.sum()
        slots = batch.temporal_slots
        if stage.joint:
            logits, tokens = forward_batch(self._net, batch)
            main = self._cross_entropy(logits, batch.labels, weights)
            # where the temporal expert is dropped, its own head has nothing to say
            there = weights * (slots.mask.sum(dim=1) > 0)
            return main + self._recipe.auxiliary * self._cross_entropy(
                self._auxiliary(tokens, slots.mask), batch.labels, there
            )
        tokens, _ = encode_temporal(self._net.temporal, batch.temporal, batch.lengths)
        return self._cross_entropy(self._auxiliary(tokens[slots.index], slots.mask), batch.labels, weights)

    def _cross_entropy(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        each = F.cross_entropy(logits, labels, label_smoothing=self._recipe.smoothing, reduction="none")
        return (each * weights).sum()

    def _constrain(self) -> None:
        weight = self._net.temporal.stem.conv.weight
        if weight.requires_grad:
            changes = weight.detach()[: round(self._recipe.motion_stem * len(weight))]
            changes -= changes.mean(dim=2, keepdim=True)

    def _follow(self, step: int) -> None:
        """Average the weights exponentially, over few steps at a stage's start; counters are taken as they are."""
        keep = min(self._recipe.average, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in self._state().items():
                if name not in self._average or not value.is_floating_point():
                    self._average[name] = value.clone()
                else:
                    self._average[name].lerp_(value, 1.0 - keep)

    def _identity(self) -> str:
        """What a state on disk must have been made with: recipe, spec, data, and the weights of the beginning."""
        keys = sorted(e.store.folder.name for e in self._examples)
        return json.dumps(
            [msgspec.to_builtins(self._recipe), self._net.spec.to_json().decode(), keys, self._origin]
        )

    def _save(self, epochs: int, optimizer: torch.optim.Optimizer) -> None:
        if self._folder is None:
            return
        from safetensors.torch import save_file

        self._folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"now/{n}": v for n, v in self._state().items()} | {
            f"mean/{n}": v for n, v in self._average.items()
        }
        for i, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{i}/{n}": v for n, v in state.items()}
        plain = {n: v.detach().cpu().clone().contiguous() for n, v in tensors.items()}
        part = self._folder / "state.part"
        save_file(plain, part, metadata={"epochs": str(epochs), "identity": self._identity()})
        os.replace(part, self._folder / "state.safetensors")

    def _resume(self) -> int:
        """Load the state of a run that was killed → epochs done. Errors: it was made with another recipe or data."""
        path = None if self._folder is None else self._folder / "state.safetensors"
        if path is None or not path.is_file():
            return 0
        from safetensors.torch import load_file, safe_open

        with safe_open(path, framework="pt") as opened:
            header = opened.metadata()
        if header["identity"] != self._identity():
            raise UsageError(
                f"{path} is of a run with another recipe, model, data or --init; remove it, or change --output"
            )
        tensors = load_file(path, device=str(self._device))
        with torch.no_grad():
            for name, value in self._state().items():
                value.copy_(tensors[f"now/{name}"])
                if f"mean/{name}" in tensors:
                    self._average[name] = tensors[f"mean/{name}"].clone()
        self._stored = {n: v for n, v in tensors.items() if n.startswith("optimizer/")}
        self._say(f"going on after {header['epochs']} epochs from {path}")
        return int(header["epochs"])

    def _load_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in self._stored.items():
            _, number, what = name.split("/")
            state.setdefault(int(number), {})[what] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})

    def evaluate(self, examples: Sequence[Example]) -> Outcome:
        """Judge clips as a device decides: argmax of the mean logits over the ready decisions."""
        self._net.eval()
        self._auxiliary.eval()
        right, by_auxiliary = [], []
        for example in examples:
            sums = torch.zeros(2, len(self._net.spec.labels))
            for recording in example.recordings[0]:
                batch = self._collator.join([self._maker.exact(example, recording)]).to(self._device)
                with torch.inference_mode():
                    logits, tokens = forward_batch(self._net, batch)
                    own = self._auxiliary(tokens, batch.temporal_slots.mask)
                sums += torch.stack((logits[batch.ready].sum(dim=0), own[batch.ready].sum(dim=0))).cpu()
            said = [self._net.spec.labels[int(s.argmax())] for s in sums]
            right.append(said[0] == example.label)
            by_auxiliary.append(said[1] == example.label)
        count = max(1, len(right))
        return Outcome(sum(right) / count, len(right), tuple(right), sum(by_auxiliary) / count)

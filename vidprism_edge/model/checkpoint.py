"""A checkpoint: the trained parts as safetensors, with the model's spec and the training's story in its header.

The frozen encoder is not in it. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from vidprism_edge.errors import UsageError, VidPrismError
from vidprism_edge.model.network import VidPrism
from vidprism_edge.spec import ModelSpec

FROZEN = "spatial.encoder."


def trained_state(net: VidPrism) -> dict[str, Tensor]:
    """Everything that training changes: parameters and running statistics, without the frozen encoder."""
    return {name: value for name, value in net.state_dict().items() if not name.startswith(FROZEN)}


def save_checkpoint(path: Path, spec: ModelSpec, state: dict[str, Tensor], story: dict[str, Any]) -> None:
    """Write the file in one step. ``story``: recipe, data, seed and whatever else explains the weights."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    plain = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    header = {"spec": spec.to_json().decode(), "story": json.dumps(story)}
    save_file(plain, part, metadata=header)
    os.replace(part, path)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An opened checkpoint. Errors are :class:`VidPrismError` and say what is wrong with the file."""

    path: Path
    spec: ModelSpec
    story: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Checkpoint:
        """Read the header alone."""
        from safetensors import SafetensorError, safe_open

        file = Path(path)
        if not file.is_file():
            raise UsageError(f"{file} does not exist; expected a checkpoint written by `vidprism-edge train`")
        try:
            with safe_open(file, framework="pt") as opened:
                header = opened.metadata() or {}
            spec = ModelSpec.from_json(header["spec"])
            story = json.loads(header.get("story", "{}"))
        except (SafetensorError, KeyError, ValueError, msgspec.MsgspecError) as error:
            raise VidPrismError(f"{file} is not a checkpoint of `vidprism-edge train`: {error}") from None
        return cls(file, spec, story)

    def check_labels(self, labels: tuple[str, ...] | None) -> None:
        """Raise :class:`UsageError` where other labels are asked for than the network has learned."""
        if labels is not None and labels != self.spec.labels:
            raise UsageError(
                f"{self.path} has learned the labels {', '.join(self.spec.labels)}; asked for {', '.join(labels)}: "
                "leave the labels out, or train a network on yours"
            )

    def _read(self) -> dict[str, Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(self.path)
        except SafetensorError as error:
            raise VidPrismError(f"{self.path} is damaged: {error}") from None

    def start(self, net: VidPrism) -> None:
        """Let a network of other labels begin with these parts. The head and the analyzer begin anew.

        Errors: :class:`UsageError` where a part has another shape there.
        """
        own = trained_state(net)
        for name, value in self._read().items():
            if name.startswith(("head.", "analyzer.")):
                continue
            if name not in own or own[name].shape != value.shape:
                raise UsageError(
                    f"{self.path} is of the preset {self.spec.preset}, whose {name} does not fit into the network that "
                    f"is to be trained, {net.spec.preset}; train the same preset"
                )
            own[name].copy_(value)

    def load_into(self, net: VidPrism) -> None:
        """Put the trained parts into a network of the same spec."""
        state, own = self._read(), trained_state(net)
        if wrong := sorted(n for n in own.keys() | state.keys() if n not in own or n not in state):
            raise VidPrismError(
                f"{self.path} does not fit its own spec: {wrong[0]} and {len(wrong) - 1} others differ"
            )
        with torch.no_grad():
            for name, value in own.items():
                if value.shape != state[name].shape:
                    raise VidPrismError(
                        f"{self.path}: {name} is {list(state[name].shape)}, expected {list(value.shape)}"
                    )
                value.copy_(state[name])

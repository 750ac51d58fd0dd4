"""How each graph of a bundle is quantised, as data: JSON, versioned, kept in the bundle, and enough to repeat it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from vidprism_edge.errors import UsageError

RECIPE_SCHEMA = 1

Precision = Literal["fp32", "bf16", "fp16", "int8", "int8+bf16"]
Observer = Literal["minmax", "percentile", "mse", "entropy"]

#: Operators that are worth quantising. With all of them, a vision transformer's cosine to fp32 fell to 0.907.
HEAVY_OPS = ("Conv", "Gemm", "MatMul")
#: Stands for every operator that the quantiser knows.
ALL_OPS = ("*",)


class GraphRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One graph. ``int8+bf16``: integers where ``ops`` says so, bf16 instead of fp32 for the rest.

    The other fields count for int8 alone: ``per_channel`` for weights, ``symmetric`` and ``observer`` for activations
    (their range is all that was seen, all but the outermost, that of least squared error, or that of least
    Kullback–Leibler divergence), ``correct_bias`` takes off each layer's bias what rounding its weights shifts on
    average, and ``keep`` names nodes that stay in floating point.
    """

    precision: Precision = "fp32"
    bits: Literal[8] = 8
    ops: tuple[str, ...] = HEAVY_OPS
    per_channel: bool = True
    symmetric: bool = False
    observer: Observer = "minmax"
    #: share of the values, in percent, that observer ``percentile`` keeps inside the range
    percentile: float = 99.99
    correct_bias: bool = True
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.ops:
            raise UsageError("a recipe's ops are empty; expected operator names, or '*' for all")
        if not 50 < self.percentile <= 100:
            raise UsageError(f"a recipe's percentile is {self.percentile:g}; expected above 50, at most 100")

    @property
    def is_int8(self) -> bool:
        return self.precision.startswith("int8")


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every target's graphs: target → component → recipe. ``samples`` and ``seed`` are those of the calibration."""

    schema: int = RECIPE_SCHEMA
    targets: dict[str, dict[str, GraphRecipe]]
    samples: int = 300
    seed: int = 0

    @property
    def needs_data(self) -> bool:
        return any(g.is_int8 for graphs in self.targets.values() for g in graphs.values())

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def from_json(cls, data: bytes, name: str = "the recipe") -> Recipe:
        """Parse a recipe; raises :class:`UsageError` naming the field that is wrong."""
        try:
            recipe = msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, UsageError) as error:
            raise UsageError(f"{name} is not valid: {error}") from None
        if recipe.schema != RECIPE_SCHEMA:
            raise UsageError(f"{name} has schema {recipe.schema}; this version reads {RECIPE_SCHEMA}")
        return recipe

    @classmethod
    def open(cls, path: Path) -> Recipe:
        """Read a recipe's file."""
        try:
            return cls.from_json(path.read_bytes(), str(path))
        except OSError as error:
            raise UsageError(f"cannot read the recipe {path}: {error.strerror}") from None

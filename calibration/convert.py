"""From a reference graph to a target's graph in a recipe's precision: one line a target that has a choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vidprism_edge.bundle import Arrays, GraphInfo, hash_file
from vidprism_edge.calibration.recipes import GraphRecipe, Precision
from vidprism_edge.errors import UsageError


@dataclass(frozen=True, slots=True)
class Kind:
    """A target whose graphs are made here: the engine that runs them, their file's suffix, what it can compute in.

    ``own_fp32``: its fp32 graph is a file of its own and not the reference.
    """

    engine: str
    suffix: str
    precisions: tuple[Precision, ...]
    own_fp32: bool


KINDS: dict[str, Kind] = {
    "onnx": Kind("onnxruntime", ".onnx", ("fp32", "fp16", "int8"), own_fp32=False),
    "openvino": Kind("openvino", ".xml", ("fp32", "bf16", "fp16", "int8", "int8+bf16"), own_fp32=True),
}


def check_precision(target: str, precision: str) -> None:
    """Raise :class:`UsageError` for a precision that a target does not have."""
    known = KINDS[target].precisions
    if precision not in known:
        raise UsageError(f"target {target} has no precision {precision}; expected {', '.join(known)} or auto")


def convert(
    target: str,
    reference: GraphInfo,
    source: Path,
    recipe: GraphRecipe,
    samples: Sequence[Arrays],
    folder: Path,
) -> GraphInfo:
    """Write ``graphs/TARGET/NAME.PRECISION`` below ``folder`` from the reference's file; return the graph's entry.

    ``samples`` count for int8 alone. A reference that needs no file of its own comes back as it is.
    """
    check_precision(target, recipe.precision)
    kind = KINDS[target]
    if recipe.precision == "fp32" and not kind.own_fp32:
        return reference
    file = f"graphs/{target}/{reference.name}.{recipe.precision}{kind.suffix}"
    path = folder / file
    weights = {}
    if target == "onnx":
        import onnx

        from vidprism_edge.calibration import quantise_onnx

        quantise_onnx.write(onnx.load(source), recipe, samples, path)
    else:
        from vidprism_edge.calibration import quantise_openvino

        quantise_openvino.write(source, recipe, samples, path)
        beside = path.with_suffix(".bin")
        weights = {"weights": beside.relative_to(folder).as_posix(), "weights_sha256": hash_file(beside)}
    return msgspec.structs.replace(
        reference, target=target, file=file, precision=recipe.precision, sha256=hash_file(path), **weights
    )

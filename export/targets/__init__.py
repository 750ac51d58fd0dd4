"""The targets that a bundle can be exported for. One line a target, or a family whose boards are data files.

The graphs' passes are imported when they are used: a device without onnx can list its targets.
"""

from __future__ import annotations

from dataclasses import dataclass

from vidprism_edge.errors import EngineError, known
from vidprism_edge.export.targets.jetson import check_old_board, list_boards


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """A target's name, what it is for, and whether this version can export for it (and if not, why)."""

    name: str
    summary: str
    available: bool
    reason: str = ""


TARGETS: dict[str, TargetInfo] = {
    target.name: target
    for target in (
        TargetInfo("onnx", "ONNX graphs for ONNX Runtime on x86-64 and ARM", available=True),
        TargetInfo(
            "openvino",
            "OpenVINO IR for Intel and ARM processors, Intel GPUs and NPUs",
            available=True,
        ),
        *(TargetInfo(board.name, board.summary, available=True) for board in list_boards().values()),
    )
}


def check_target(name: str) -> TargetInfo:
    """Return the target ``name``; errors name the known ones, or what an unfinished one cannot do yet."""
    check_old_board(name)
    if name not in TARGETS:
        raise known("target", name, TARGETS)
    target = TARGETS[name]
    if not target.available:
        raise EngineError(
            f"target {name} cannot be exported by this version: {target.reason}. "
            "Nothing was written; `--target onnx` writes portable graphs that run on ONNX Runtime today"
        )
    return target

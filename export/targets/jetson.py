"""The target family ``jetson``: boards and JetPack versions as data, and what is refused with its way out."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TypeVar

import msgspec

from vidprism_edge.errors import EngineError, known

T = TypeVar("T")
FAMILY = "jetson"


class JetPack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One JetPack: ``l4t`` are the beginnings of its L4T versions; ``refused`` says why it cannot be used, if so.

    ``source``: where the versions were read.
    """

    version: str
    l4t: tuple[str, ...]
    tensorrt: str
    python: str
    opset: int
    dla: bool
    refused: str = ""
    way_out: str = ""
    source: str = ""

    @property
    def tensorrt_version(self) -> tuple[int, ...]:
        return parse_version(self.tensorrt)

    def check(self) -> None:
        """Raise :class:`EngineError` with reason and way out for a JetPack that is too old."""
        if self.refused:
            raise EngineError(f"JetPack {self.version} is not supported: {self.refused}; {self.way_out}")


class Board(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A board, or several that take the same bundle.

    ``models``: what the board's device tree calls it. ``memory_gib``: of the smallest, shared by CPU and GPU.
    ``int8``: the components where INT8 is expected to win; a build with ``--precision auto`` measures it.
    """

    name: str
    summary: str
    models: tuple[str, ...]
    jetpacks: tuple[str, ...]
    compute_capability: str | None
    memory_gib: int
    dla_cores: int
    int8: tuple[str, ...]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What every JetPack that was asked for can do: the least of each."""

    target: str
    jetpacks: tuple[str, ...]
    tensorrt: str
    opset: int
    dla: bool
    int8: tuple[str, ...]


class _JetPacks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    jetpacks: tuple[JetPack, ...]
    old_boards: dict[str, str]


class OpTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The operators that TensorRT's ONNX parser takes, with their element types, and those that DLA takes."""

    source: str
    dla: frozenset[str]
    types: dict[str, frozenset[str]]


def parse_version(text: str) -> tuple[int, ...]:
    """Return a dotted version as numbers; what follows the numbers is left out."""
    numbers = []
    for part in text.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _read(name: str, kind: type[T]) -> T:
    data = (resources.files(__package__) / name).read_bytes()
    return msgspec.json.decode(data, type=kind)


@cache
def _jetpacks() -> _JetPacks:
    return _read("jetpacks.json", _JetPacks)


@cache
def read_ops() -> OpTable:
    """Return the table of TensorRT's operators."""
    return _read("tensorrt-ops.json", OpTable)


@cache
def list_boards() -> dict[str, Board]:
    """Return the boards by name, the common denominator first: each a file ``jetson*.json`` beside this module."""
    files = sorted(entry.name for entry in resources.files(__package__).iterdir())
    names = [name for name in files if name.startswith(FAMILY) and name.endswith(".json")]
    boards = [_read(name, Board) for name in names]
    return {board.name: board for board in sorted(boards, key=lambda b: (b.name != FAMILY, b.name))}


def list_jetpacks() -> dict[str, JetPack]:
    """Return every known JetPack by version, the refused ones too."""
    return {jetpack.version: jetpack for jetpack in _jetpacks().jetpacks}


def check_old_board(name: str) -> None:
    """Raise :class:`EngineError` for a board whose last JetPack is too old; nothing for other names."""
    if version := _jetpacks().old_boards.get(name):
        jetpack = list_jetpacks()[version]
        raise EngineError(
            f"{name} is not supported: its last JetPack is {version}, and {jetpack.refused}; {jetpack.way_out}"
        )


def find_limits(target: str, jetpack: str | None = None) -> Limits:
    """Return what a board can do with one JetPack, or with every one that it supports.

    Errors: an unknown board or JetPack, one that is refused, one that the board does not run.
    """
    boards, jetpacks = list_boards(), list_jetpacks()
    check_old_board(target)
    if target not in boards:
        raise known("board", target, boards)
    board = boards[target]
    if jetpack is not None:
        if jetpack not in jetpacks:
            raise known("JetPack", jetpack, jetpacks)
        jetpacks[jetpack].check()
        if jetpack not in board.jetpacks:
            raise EngineError(f"{target} does not run JetPack {jetpack}; it runs {', '.join(board.jetpacks)}")
    chosen = [jetpacks[version] for version in ([jetpack] if jetpack else board.jetpacks)]
    oldest = min(chosen, key=lambda j: j.tensorrt_version)
    return Limits(
        target=target,
        jetpacks=tuple(j.version for j in chosen),
        tensorrt=oldest.tensorrt,
        opset=min(j.opset for j in chosen),
        dla=board.dla_cores > 0 and all(j.dla for j in chosen),
        int8=board.int8,
    )


def find_jetpack(l4t: str) -> JetPack | None:
    """Return the JetPack of an L4T version such as ``36.4.3``, the longest match first; None for one not known here."""
    found: list[tuple[int, JetPack]] = []
    for jetpack in list_jetpacks().values():
        found += [(len(p), jetpack) for p in jetpack.l4t if f"{l4t}.".startswith(f"{p}.")]
    return max(found, key=lambda f: f[0])[1] if found else None


def find_board(model: str) -> Board | None:
    """Return the board that a device tree's model text names, None for one not known here."""
    matches = [b for b in list_boards().values() if any(m in model for m in b.models)]
    return matches[0] if matches else None

"""What an engine file is bound to: the device, its software and the graph. And the folder in which it is kept.

``engines/<device-key>/`` in the bundle holds the engine files, ``build.json`` there says what each was built from.
An engine of another device, version or graph is never loaded.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec

from vidprism_edge.bundle import Bundle, GraphInfo, hash_file
from vidprism_edge.errors import EngineError

BUILD_SCHEMA = 1
ENGINES_FOLDER = "engines"
SIDECAR = "build.json"
#: Where L4T and the board's name are, on a Jetson.
TEGRA_RELEASE = Path("/etc/nv_tegra_release")
DEVICE_MODEL = Path("/proc/device-tree/model")


class Device(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything of this machine that an engine depends on. ``l4t`` is empty where there is no Jetson."""

    board: str
    l4t: str
    compute_capability: str
    cuda: str
    tensorrt: str

    def key(self, *, dla: bool = False) -> str:
        """Name of the folder of this device's engines: readable, and a hash over every field."""
        text = msgspec.json.encode([msgspec.to_builtins(self), dla])
        board = re.sub(r"[^a-z0-9]+", "-", self.board.lower()).strip("-")[:40].strip("-") or "gpu"
        return (
            f"{board}-sm{self.compute_capability.replace('.', '')}-trt{self.tensorrt}-"
            + (hashlib.sha256(text).hexdigest()[:12])
        )


class EngineRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One engine that was built and proved: from which graph, how long it took and what it gave."""

    graph: str
    precision: str
    file: str
    sha256: str
    graph_sha256: str
    #: input name → shape; a profile has one, because every graph is static
    shapes: dict[str, tuple[int, ...]]
    dla: bool
    build_s: float
    #: median of one run on the device, copies included
    latency_ms: float
    #: largest error as a share of the precision's tolerance
    of_tolerance: float
    #: layers that were to run on DLA and run on the GPU
    gpu_fallback: tuple[str, ...] = ()


class BuildRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``build.json``: the device, every engine built there, and for each component the one that runs."""

    schema: int = BUILD_SCHEMA
    device: Device
    dla: bool
    engines: tuple[EngineRecord, ...] = ()
    #: component → precision of its engine
    chosen: dict[str, str] = msgspec.field(default_factory=dict)
    #: component → why its other precisions were dropped
    dropped: dict[str, str] = msgspec.field(default_factory=dict)

    def find(self, graph: GraphInfo) -> EngineRecord | None:
        """The record of a graph in its precision, None where it was not built."""
        found = (e for e in self.engines if (e.graph, e.precision) == (graph.name, graph.precision))
        return next(found, None)

    def write(self, folder: Path) -> None:
        """Replace the folder's sidecar; a reader sees the old one or the new one."""
        part = folder / f".{SIDECAR}.part"
        part.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")
        part.replace(folder / SIDECAR)


def read_build(folder: Path) -> BuildRecord | None:
    """Return the sidecar of a folder of engines; None where there is none, or one that this version does not read."""
    try:
        record = msgspec.json.decode((folder / SIDECAR).read_bytes(), type=BuildRecord)
    except (OSError, msgspec.MsgspecError):
        return None
    return record if record.schema == BUILD_SCHEMA else None


def read_l4t(text: str) -> str:
    """Return the L4T version in ``/etc/nv_tegra_release``: ``# R36 (release), REVISION: 4.3, …`` → 36.4.3."""
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{match[1]}.{match[2]}" if match else ""


def read_file(path: Path) -> str:
    """Return a small system file's text, empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def find_engine_file(root: Path, build: BuildRecord, graph: GraphInfo, folder: Path) -> Path:
    """Return the checked file of a graph's engine. Raises :class:`EngineError` with the command that mends it."""
    mend = f"run `vidprism-edge build {root}`"
    record = build.find(graph)
    if record is None:
        raise EngineError(
            f"graph {graph.name} ({graph.precision}) has no engine for this device in {root}; {mend}"
        )
    if record.graph_sha256 != graph.sha256:
        raise EngineError(
            f"the engine of graph {graph.name} in {root} was built from another graph (sha256 "
            f"{record.graph_sha256[:12]}, the bundle has {graph.sha256[:12]}); {mend}"
        )
    path = folder / record.file
    if "/" in record.file or not path.is_file() or path.is_symlink():
        raise EngineError(f"the engine file of graph {graph.name} is missing from {folder}; {mend}")
    if hash_file(path) != record.sha256:
        raise EngineError(
            f"{path} does not have the sha256 of {SIDECAR}: it is damaged or was changed; {mend}"
        )
    return path


def open_build(bundle: Bundle, device: Device, *, dla: bool = False) -> tuple[Path, BuildRecord]:
    """Return the folder and the sidecar of this device's engines. Raises :class:`EngineError` where there are none."""
    folder = bundle.locate(f"{ENGINES_FOLDER}/{device.key(dla=dla)}")
    build = read_build(folder)
    if build is not None and build.device == device:
        return folder, build
    others = sorted((bundle.root / ENGINES_FOLDER).glob(f"*/{SIDECAR}"))
    text = "it holds none"
    if others and (other := read_build(others[-1].parent)):
        changed = [
            f"{name} {getattr(other.device, name) or 'none'}, here {getattr(device, name) or 'none'}"
            for name in Device.__struct_fields__
            if getattr(other.device, name) != getattr(device, name)
        ]
        text = f"those that it holds are for another ({'; '.join(changed) or 'flag --dla differs'})"
    raise EngineError(
        f"{bundle.root} has no engines for this device: {text}; run `vidprism-edge build {bundle.root}`"
    )

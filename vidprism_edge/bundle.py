"""What ships: a folder with a manifest, graphs, golden vectors and reports.

Every file is checked against its sha256 before it is used, a path that leaves the bundle is refused, and nothing
is ever unpickled.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from vidprism_edge.errors import BundleError, UsageError
from vidprism_edge.spec import COMPONENTS, ModelSpec

BUNDLE_SCHEMA = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 4 << 20
#: Target and precision of the graphs that are in every bundle.
REFERENCE = ("onnx", "fp32")
#: Limits that no bundle of ours comes near: what is beyond them is refused before it costs time or memory.
MAX_GRAPHS, MAX_FILES = 256, 4096
MAX_FILE_BYTES = 2 << 30
MAX_ELEMENTS = 1 << 28
MAX_CASES = 4096

Arrays = dict[str, npt.NDArray[np.float32]]


class TensorInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name, static shape and element type of a graph's input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32"] = "float32"

    def __post_init__(self) -> None:
        if not all(side > 0 for side in self.shape) or math.prod(self.shape) > MAX_ELEMENTS:
            raise UsageError(
                f"tensor {self.name[:80]} has the shape {list(self.shape)[:8]}; expected sides of 1 or more, and at "
                f"most {MAX_ELEMENTS} numbers"
            )


class GraphInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One component's graph. ``file`` is relative to the bundle; ``macs`` are multiply-accumulates of one run.

    The fp32 ONNX graphs are always there: the reference, which every engine runs where its target has none of its own.
    """

    name: str
    file: str
    precision: str
    macs: int
    sha256: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    #: The target that the graph was made for.
    target: str = REFERENCE[0]
    #: A second file that belongs to the graph (OpenVINO's weights), with its sha256.
    weights: str = ""
    weights_sha256: str = ""

    @property
    def is_reference(self) -> bool:
        return (self.target, self.precision) == REFERENCE

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """(file, sha256) of everything that the graph consists of."""
        rest = ((self.weights, self.weights_sha256),) if self.weights else ()
        return ((self.file, self.sha256), *rest)


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bundle's table of contents."""

    schema: int = BUNDLE_SCHEMA
    created: str
    spec: ModelSpec
    #: False until the labels come from training; everything that shows a label then says "untrained".
    trained: bool
    #: True where even the frozen encoder is random: fit for latency work only.
    random_weights: bool
    seed: int
    targets: tuple[str, ...]
    graphs: tuple[GraphInfo, ...]
    #: sha256 of every other file, by path relative to the bundle.
    files: dict[str, str]
    licences: dict[str, str]
    tools: dict[str, str]
    engines: str = "portable"
    #: sha256 of the manifest's own file with nothing here. The last field, because it is looked for from the end.
    digest: str = ""

    def write(self, folder: Path) -> None:
        """Seal the manifest and write it into a bundle's folder."""
        blank = msgspec.structs.replace(self, digest="")
        data = msgspec.json.format(msgspec.json.encode(blank), indent=2) + b"\n"
        head, mark, tail = data.rpartition(_DIGEST % b"")
        digest = hashlib.sha256(data).hexdigest()
        (folder / MANIFEST).write_bytes(head + mark.replace(b'""', f'"{digest}"'.encode()) + tail)


def schema() -> str:
    """Return the manifest's JSON Schema, which ``vidprism_edge/manifest.schema.json`` publishes."""
    return msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Manifest)), indent=1).decode()


_DIGEST = b'"digest": "%s"'


def _is_sealed(data: bytes, digest: str) -> bool:
    """Whether a manifest's file is the one that was written, to the byte."""
    head, _, tail = data.rpartition(_DIGEST % digest.encode())
    return hashlib.sha256(head + _DIGEST % b"" + tail).hexdigest() == digest


def hash_file(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal text."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class Bundle:
    """An opened bundle. Errors are :class:`BundleError` and say which file is wrong and what to do."""

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root = root
        self.manifest = manifest
        #: The reference graphs by component.
        self.graphs = {graph.name: graph for graph in manifest.graphs if graph.is_reference}

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Open the bundle in a folder; files are read and checked when they are used."""
        root = Path(path)
        if not root.is_dir():
            what = "is a file" if root.exists() else "does not exist"
            raise BundleError(f"{root} {what}; expected a bundle folder written by `vidprism-edge export`")
        file = root / MANIFEST
        try:
            if file.stat().st_size > MAX_MANIFEST_BYTES:
                raise BundleError(
                    f"{file} has {file.stat().st_size} bytes, expected at most {MAX_MANIFEST_BYTES}"
                )
            data = file.read_bytes()
        except OSError as error:
            raise BundleError(
                f"{root} is not a bundle: {MANIFEST} cannot be read ({error.strerror})"
            ) from None
        try:
            manifest = msgspec.json.decode(data, type=Manifest)
        except (msgspec.MsgspecError, UsageError, UnicodeDecodeError) as error:
            raise BundleError(
                f"{file} is not a manifest that this version reads: {error}; export again"
            ) from None
        if manifest.schema != BUNDLE_SCHEMA:
            raise BundleError(
                f"{file} has schema {manifest.schema}, this version reads {BUNDLE_SCHEMA}; export again"
            )
        if not _is_sealed(data, manifest.digest):
            raise BundleError(
                f"{file} does not match its own digest: it is damaged or was changed; export again"
            )
        if len(manifest.graphs) > MAX_GRAPHS or len(manifest.files) > MAX_FILES:
            raise BundleError(
                f"{file} lists {len(manifest.graphs)} graphs and {len(manifest.files)} files; expected at most "
                f"{MAX_GRAPHS} and {MAX_FILES}"
            )
        bundle = cls(root, manifest)
        missing = [name for name in COMPONENTS if name not in bundle.graphs]
        if missing:
            raise BundleError(f"{file} lists no graph {', '.join(missing)}; expected {', '.join(COMPONENTS)}")
        for name in (*manifest.files, *(file for graph in manifest.graphs for file, _ in graph.files)):
            bundle.locate(name)
        return bundle

    def graphs_for(self, target: str, precision: str | None = None) -> dict[str, GraphInfo]:
        """The graphs that an engine of this target runs: its own where it has one, else the reference.

        Of several own graphs of a component, the one of ``precision``, or the last one listed.
        """
        listed = [g for g in self.manifest.graphs if g.target == target and not g.is_reference]
        own = {g.name: g for g in sorted(listed, key=lambda g: g.precision == precision)}
        return {name: own.get(name, reference) for name, reference in self.graphs.items()}

    @property
    def spec(self) -> ModelSpec:
        return self.manifest.spec

    @cached_property
    def macs(self) -> dict[str, int]:
        """Multiply-accumulates of one run of each component."""
        return {name: graph.macs for name, graph in self.graphs.items()}

    def locate(self, name: str) -> Path:
        """Return the path of a bundled file, refusing one that leaves the bundle."""
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name or not pure.parts:
            raise BundleError(
                f"the manifest of {self.root} names {name!r}, which leaves the bundle; do not use it"
            )
        path = self.root / pure
        try:
            inside = path.resolve().is_relative_to(self.root.resolve())
        except (OSError, RuntimeError):  # links in a circle
            inside = False
        if not inside:
            raise BundleError(f"{path} is a link that leaves the bundle; do not use it")
        return path

    def _checked(self, name: str, sha256: str) -> Path:
        path = self.locate(name)
        # unlike Path.is_file, it does not raise for a name that no system takes
        if not os.path.isfile(path):
            raise BundleError(f"{path} is missing from the bundle; export again or copy the whole folder")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BundleError(
                f"{path} has {path.stat().st_size} bytes, expected at most {MAX_FILE_BYTES}; do not use it"
            )
        if hash_file(path) != sha256:
            raise BundleError(
                f"{path} does not have the sha256 of the manifest: it is damaged or was changed; export again"
            )
        return path

    def file(self, name: str) -> Path:
        """Return the path of a bundled file after checking its sha256."""
        if name not in self.manifest.files:
            raise BundleError(f"{name} is not listed in the manifest of {self.root}")
        return self._checked(name, self.manifest.files[name])

    def graph_file(self, graph: str | GraphInfo) -> Path:
        """Return the path of a graph (of a component's reference, by its name) after checking its files' sha256."""
        info = self.graphs[graph] if isinstance(graph, str) else graph
        paths = [self._checked(file, sha256) for file, sha256 in info.files]
        return paths[0]

    def check(self) -> int:
        """Check every file against its sha256; return how many there are."""
        for graph in self.manifest.graphs:
            self.graph_file(graph)
        for name in self.manifest.files:
            self.file(name)
        return sum(len(graph.files) for graph in self.manifest.graphs) + len(self.manifest.files)

    def golden(self, name: str) -> Iterator[tuple[str, Arrays, Arrays]]:
        """Yield (case, inputs, reference outputs) of a component's golden vectors."""
        path = self.file(f"golden/{name}.npz")
        try:
            self._check_golden(name, path)
            with np.load(path, allow_pickle=False) as stored:
                cases: dict[str, list[str]] = {}
                for key in stored.files:
                    cases.setdefault(key.split("/")[0], []).append(key)
                # one case in memory at a time
                for case, keys in cases.items():
                    sides: tuple[Arrays, Arrays] = ({}, {})
                    for key in keys:
                        _, side, tensor = key.split("/")
                        sides[side == "output"][tensor] = stored[key]
                    yield (case, *sides)
        except (ValueError, OSError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
            raise BundleError(f"{path} does not hold golden vectors: {error}; export again") from None

    def _check_golden(self, name: str, path: Path) -> None:
        """Refuse an archive that would unpack to more than the graph's tensors: a few kilobytes can hold gigabytes."""
        graph = self.graphs[name]
        sides = {"input": graph.inputs, "output": graph.outputs}
        most = {(side, t.name): 4 * math.prod(t.shape) for side, tensors in sides.items() for t in tensors}
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        if len(entries) > MAX_CASES:
            raise ValueError(f"it has {len(entries)} arrays, expected at most {MAX_CASES}")
        for entry in entries:
            _, side, tensor = entry.filename.removesuffix(".npy").split("/")
            # an array's header has at most a few hundred bytes
            if (side, tensor) in most and entry.file_size > most[side, tensor] + 4096:
                raise ValueError(f"{entry.filename} has {entry.file_size} bytes, more than its tensor")
            if (side, tensor) not in most:
                raise ValueError(f"{entry.filename} is no tensor of the graph")


def _swap(new: Path, old: Path) -> bool:
    """Exchange two folders in one step, where the system can: a kill in between then leaves one of the two in place."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    at_cwd, exchange = -100, 2
    return bool(libc.renameat2(at_cwd, os.fsencode(new), at_cwd, os.fsencode(old), exchange) == 0)


@contextmanager
def writing(output: Path, *, force: bool) -> Iterator[Path]:
    """Give an empty folder beside ``output`` that takes its place only when the block ends without an error.

    An existing bundle is kept until then, and never replaced without ``force``.
    """
    if output.is_symlink() and not output.exists():
        raise UsageError(f"{output} is a link to nothing; give another --output")
    if output.exists() and not force:
        raise UsageError(f"{output} exists; give another --output, or --force to replace it")
    if output.exists() and not (output / MANIFEST).is_file():
        raise UsageError(
            f"{output} exists and is not a bundle; --force replaces bundles only, give another --output"
        )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    except OSError as error:
        raise UsageError(
            f"cannot write to {output.parent}: {error.strerror}; give another --output"
        ) from None
    try:
        folder.chmod(0o755)
        yield folder
        if output.exists() and not output.is_symlink() and _swap(folder, output):
            return  # what is in the folder now is the old bundle, and goes
        if output.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{output.name}.old.", dir=output.parent))
            os.replace(output, old / "bundle")
            os.replace(folder, output)
            shutil.rmtree(old)
        else:
            os.replace(folder, output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def add_files(bundle: Bundle, files: Mapping[str, bytes]) -> Bundle:
    """Put files into a bundle, or replace them, and seal its manifest anew; returns the bundle opened again.

    Errors: :class:`BundleError` for a path that leaves the bundle, :class:`UsageError` where it cannot be written.
    """
    try:
        for name, data in files.items():
            path = bundle.locate(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{os.getpid()}")
            part.write_bytes(data)
            os.replace(part, path)
    except OSError as error:
        raise UsageError(
            f"cannot write into {bundle.root}: {error.strerror}; copy the bundle first"
        ) from None
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = msgspec.structs.replace(bundle.manifest, files={**bundle.manifest.files, **hashes})
    manifest.write(bundle.root)
    return Bundle.open(bundle.root)

"""Measuring on another machine: a folder that runs there by itself, and ssh that carries it there and back."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from vidprism_edge.benchmark.request import Request, make_flags
from vidprism_edge.bundle import Bundle
from vidprism_edge.errors import UsageError, VidPrismError

#: Where the folder lies on the device, below the home: its environment stays there for the next time.
PLACE = ".cache/vidprism-edge/benchmark"
#: The program that connects, with options of a user's own.
SSH = "VIDPRISM_EDGE_SSH"

_SCRIPT = """\
#!/bin/sh
# Measures the bundle beside this file on this machine. Afterwards bring the folder result back, and draw it:
#   vidprism-edge benchmark --draw result
set -eu
cd "$(dirname "$0")"
python="${{VIDPRISM_EDGE_PYTHON:-python3}}"
has() {{
    "$1" -c "import importlib.metadata as m, sys; sys.exit(m.version('vidprism-edge') != '{version}')" 2>/dev/null
}}
if ! has "$python"; then
    # what the system has, such as TensorRT of JetPack, stays visible
    [ -x env/bin/python ] || "$python" -m venv --system-site-packages env
    python=env/bin/python
    if ! has "$python"; then
        wanted="vidprism-edge[{engine}]=={version}"
        for file in dist/*; do
            [ ! -e "$file" ] || wanted="$file[{engine}]"
        done
        "$python" -m pip install --quiet "$wanted" >&2
    fi
fi
rm -rf result
exec "$python" -m vidprism_edge.cli.main benchmark bundle {flags} --report result
"""


@dataclass(frozen=True, slots=True)
class Address:
    """A device that ssh reaches."""

    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse ``ssh://user@host:port``; :class:`UsageError` for any other form."""
        expected = f"--device is {text!r}; expected ssh://user@host or ssh://user@host:port"
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise UsageError(expected) from None
        extra = parts.path.strip("/") or parts.query or parts.fragment or parts.password
        if parts.scheme != "ssh" or not parts.hostname or extra or parts.netloc.startswith("-"):
            raise UsageError(expected)
        return cls(parts.netloc.rpartition(":")[0] if port is not None else parts.netloc, port)

    def command(self, script: str) -> list[str]:
        """The command that runs a shell script on the device."""
        ssh = shlex.split(os.environ.get(SSH, "ssh -o BatchMode=yes"))
        port = [] if self.port is None else ["-p", str(self.port)]
        return [*ssh, *port, "--", self.host, script]


def pack(bundle: Bundle, request: Request, folder: Path, distribution: Path | None = None) -> None:
    """Write a folder whose ``run.sh`` measures on the machine to which it is carried.

    ``distribution``: the wheel or source archive to install there; None: a source archive, where this is a checkout,
    else the version on the device, or that of the package index. Raises :class:`UsageError` for a folder in use.
    """
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not an empty folder; give another name")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(bundle.root, folder / "bundle")
    request = _with_source(request, folder)
    (folder / "dist").mkdir()
    if distribution is not None:
        shutil.copy(distribution, folder / "dist")
    else:
        archive_checkout(folder / "dist")
    script = _SCRIPT.format(
        version=version("vidprism-edge"), engine=request.engine, flags=make_flags(request)
    )
    (folder / "run.sh").write_text(script)
    (folder / "run.sh").chmod(0o755)


def _with_source(request: Request, folder: Path) -> Request:
    """Take a video file along; a synthetic source is made there."""
    path = Path(request.source)
    if not path.is_file():
        return request
    (folder / "source").mkdir()
    shutil.copy(path, folder / "source")
    return msgspec.structs.replace(request, source=f"source/{path.name}")


def archive_checkout(folder: Path) -> bool:
    """Build a source archive of the checkout that this code lies in → whether it lies in one.

    The device compiles it: the archive serves every processor, a wheel only this machine's.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "setup.py").is_file():
        return False
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "tree"
        ignored = shutil.ignore_patterns(
            ".*", "build", "dist", "*.so", "*.egg-info", "__pycache__", "*.vpbundle"
        )
        shutil.copytree(root, copy, ignore=ignored)
        code = f"import setuptools.build_meta as backend; backend.build_sdist({str(folder.resolve())!r})"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise VidPrismError(
            f"cannot build a source archive of {root}: {done.stderr.strip().splitlines()[-1]}"
        )
    return True


def run_there(address: Address, bundle: Bundle, request: Request, distribution: Path | None = None) -> bytes:
    """Carry a measurement to a device, run it, and bring its result back, encoded as in its file.

    What the device says goes to stderr as it comes. Raises :class:`VidPrismError` where no result came to be.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "packed"
        pack(bundle, request, folder, distribution)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(folder, arcname=".")
    unpack = f"mkdir -p {PLACE} && cd {PLACE} && rm -rf bundle dist source result && tar -xf -"
    _call(address, unpack, packed.getvalue())
    ran = subprocess.run(address.command(f"sh {PLACE}/run.sh >/dev/null"), check=False)
    try:
        return _call(address, f"cat {PLACE}/result/result.json")
    except VidPrismError:
        raise VidPrismError(
            f"{address.host} made no result: the benchmark there exited with {ran.returncode}; see above"
        ) from None


def _call(address: Address, script: str, given: bytes | None = None) -> bytes:
    """Run a script on the device → its output."""
    try:
        done = subprocess.run(address.command(script), input=given, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise VidPrismError(f"cannot start {error.filename}; install an ssh client") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise VidPrismError(f"{address.host}: {lines[-1] if lines else f'exit status {done.returncode}'}")
    return done.stdout

"""``vidprism-edge doctor``: what this machine is, and what to mend before anything runs on it.

Each check is a function that returns findings and never raises; nothing is sent, and no camera is opened.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

import typer

State = Literal["ok", "warn", "fail"]

#: Less free disk than this is worth a warning: a bundle and an annotated video fit in it.
LOW_DISK_BYTES = 2 * 1024**3

#: The packages that every device has, and whose absence breaks it: distribution → module.
REQUIRED = {
    "numpy": "numpy",
    "msgspec": "msgspec",
    "typer": "typer",
    "rich": "rich",
    "platformdirs": "platformdirs",
    "psutil": "psutil",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: ``advice`` says what to do about a state that is not ok."""

    name: str
    state: State
    detail: str
    advice: str = ""


def machine() -> Iterator[Finding]:
    """Report the board, its processor and memory, and the system that runs on it."""
    import psutil

    from vidprism_edge.report import count_cores

    memory_gib = psutil.virtual_memory().total / 1024**3
    board = _read("/proc/device-tree/model")
    name = board or _field("/proc/cpuinfo", "model name") or platform.processor() or "unknown processor"
    yield Finding(
        "machine", "ok", f"{name}, {platform.machine()}, {count_cores()} cores, {memory_gib:.1f} GiB"
    )
    l4t = _read("/etc/nv_tegra_release").partition(", GCID")[0].lstrip("# ")
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        system = platform.system()
    yield Finding("system", "ok", ", ".join(filter(None, (system, f"kernel {platform.release()}", l4t))))


def python() -> Iterator[Finding]:
    """Report the interpreter and the packages that everything needs."""
    yield Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")
    found, broken = [], []
    for distribution, module in REQUIRED.items():
        try:
            importlib.import_module(module)
            found.append(f"{distribution} {_version(distribution)}")
        except Exception as error:
            broken.append(f"{distribution} ({_one_line(error)})")
    yield Finding("package", "ok", f"vidprism-edge {_version('vidprism-edge')}")
    if broken:
        yield Finding(
            "packages",
            "fail",
            "broken: " + ", ".join(broken),
            "reinstall: pip install --upgrade vidprism-edge",
        )
    else:
        yield Finding("packages", "ok", ", ".join(found))


def native() -> Iterator[Finding]:
    """Report the native core and the kernels that it chose."""
    try:
        core = importlib.import_module("vidprism_edge.runtimes._native")
        selected, available = core.simd_selected(), ", ".join(core.simd_available())
    except Exception as error:
        advice = (
            "reinstall: pip install --force-reinstall vidprism-edge (from source, that takes a C compiler)"
        )
        yield Finding("native core", "fail", _one_line(error), advice)
    else:
        yield Finding("native core", "ok", f"kernels {selected} (available: {available})")


def _onnxruntime() -> str:
    # first, because it keeps the library from reporting home
    importlib.import_module("vidprism_edge.runtimes.engines")
    module = importlib.import_module("onnxruntime")
    return f"{module.__version__}, providers {', '.join(module.get_available_providers())}"


def _openvino() -> str:
    module = importlib.import_module("openvino")
    return f"{module.__version__}, devices {', '.join(module.Core().available_devices)}"


def _tensorrt() -> str:
    return str(importlib.import_module("tensorrt").__version__)


def _tensorrt_rtx() -> str:
    return str(importlib.import_module("tensorrt_rtx").__version__)


#: What may execute graphs on this machine: module → what describes it. Ours are those of ``runtimes.engines``.
ENGINES: dict[str, Callable[[], str]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "tensorrt": _tensorrt,
    "tensorrt_rtx": _tensorrt_rtx,
}


def engines() -> Iterator[Finding]:
    """Report the engines that are installed; a machine without one that runs bundles is broken."""
    from vidprism_edge.runtimes.engines import ENGINES as OURS

    packages = {package for _, package, _ in OURS.values()}
    running = False
    for module, describe in ENGINES.items():
        try:
            text = describe()
        except Exception as error:
            if not (isinstance(error, ModuleNotFoundError) and error.name == module):
                yield Finding(f"engine {module}", "fail", _one_line(error), "reinstall it")
            continue
        running = running or module in packages
        yield Finding(
            f"engine {module}", "ok", text if module in packages else f"{text}; not used by this version"
        )
    if not running:
        yield Finding(
            "engines", "fail", "none that runs a bundle", f"pip install 'vidprism-edge[{next(iter(OURS))}]'"
        )


def opencv() -> Iterator[Finding]:
    """Report OpenCV, which reads local cameras and draws the window."""
    try:
        import cv2
    except Exception as error:
        advice = "pip install opencv-python; on Debian also: apt-get install libgl1 libglib2.0-0"
        yield Finding("opencv", "fail", _one_line(error), advice)
        return
    built = cv2.getBuildInformation()
    gui = _build_line(built, "GUI") or "NONE"
    gstreamer = (_build_line(built, "GStreamer") or "NO").startswith("YES")
    text = f"{cv2.__version__} at {cv2.__file__}, GUI {gui}, GStreamer {'yes' if gstreamer else 'no'}"
    if gui.upper() == "NONE":
        advice = "a headless build: `run --video FILE` writes what it sees; for a window, pip install opencv-python"
        yield Finding("opencv", "warn", text, advice)
    else:
        yield Finding("opencv", "ok", text)


def video() -> Iterator[Finding]:
    """Report PyAV, which reads files and network streams and writes the annotated video."""
    try:
        import av
    except Exception as error:
        yield Finding("video", "fail", _one_line(error), "reinstall it: pip install --force-reinstall av")
        return
    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    decoders = [name for name in ("h264", "hevc", "mjpeg", "vp9", "av1") if name in av.codecs_available]
    text = f"PyAV {av.__version__}, libavcodec {codec}, decodes {', '.join(decoders)}"
    if "h264" in decoders:
        yield Finding("video", "ok", text)
    else:
        yield Finding(
            "video", "warn", text, "H.264 files and streams cannot be read: install PyAV from its wheel"
        )


def gstreamer() -> Iterator[Finding]:
    """Report ``gst-launch-1.0``, which reads CSI cameras and decodes in hardware, and what our pipelines lack."""
    from vidprism_edge.runtimes.streaming.source_gstreamer import PROGRAM, find_missing, list_kinds

    path = shutil.which(PROGRAM)
    if path is None:
        advice = (
            "needed for gst: sources such as a Jetson's CSI camera alone: apt-get install gstreamer1.0-tools"
        )
        yield Finding("gstreamer", "warn", "no gst-launch-1.0 on PATH", advice)
        return
    yield Finding("gstreamer", "ok", path)
    for name, kind in list_kinds().items():
        missing = find_missing(kind)
        if missing:
            lacking = ", ".join(element for elements in missing.values() for element in elements)
            advice = f"needed for --source {name}: alone: apt-get install {' '.join(missing)}"
            if any(package.startswith("nvidia-l4t") for package in missing):
                advice += " (nvidia-l4t-gstreamer comes with JetPack)"
            yield Finding(f"pipeline {name}", "warn", f"{kind.help}: no {lacking}", advice)
        else:
            yield Finding(f"pipeline {name}", "ok", kind.help)


def cameras(devices: Path = Path("/dev")) -> Iterator[Finding]:
    """Report the local cameras and whether this user may open them."""
    found = sorted(devices.glob("video*"), key=lambda path: (len(path.name), path.name))
    if not found:
        advice = "none is needed for files and network streams; in a container, pass the device in (--device)"
        yield Finding("cameras", "warn", f"no {devices}/video*", advice)
    for path in found:
        name = _read(f"/sys/class/video4linux/{path.name}/name")
        text = f"{path} {name}".rstrip()
        if os.access(path, os.R_OK | os.W_OK):
            yield Finding("camera", "ok", text)
        else:
            yield Finding(
                "camera",
                "warn",
                f"{text}: no permission",
                "add this user to the group video, then log in anew",
            )


def display() -> Iterator[Finding]:
    """Report whether a window can be shown, as ``run`` itself finds out."""
    from vidprism_edge.runtimes.display.window import Window

    available, reason = Window.available()
    if available:
        yield Finding(
            "display", "ok", os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or "yes"
        )
    else:
        advice = "no window is shown: `run` prints a live table, and --video FILE writes an annotated video"
        yield Finding("display", "warn", reason, advice)


def disk() -> Iterator[Finding]:
    """Report the room in the working directory and the cache."""
    import platformdirs

    cache = Path(platformdirs.user_cache_dir("vidprism-edge", appauthor=False))
    for name, path in (("working directory", Path.cwd()), ("cache", cache)):
        existing = next(p for p in (path, *path.parents) if p.exists())
        free = shutil.disk_usage(existing).free
        text = f"{path}, {free / 1024**3:.1f} GiB free"
        if not os.access(existing, os.W_OK):
            yield Finding(
                name, "warn", f"{text}, not writable", "run from a folder that this user may write to"
            )
        elif free < LOW_DISK_BYTES:
            yield Finding(name, "warn", text, "free some space: a bundle and an annotated video want 2 GiB")
        else:
            yield Finding(name, "ok", text)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    machine, python, native, engines, opencv, video, gstreamer, cameras, display, disk,
)  # fmt: skip


def examine(checks: tuple[Callable[[], Iterator[Finding]], ...] = CHECKS) -> list[Finding]:
    """Run every check; one that breaks is a finding itself and stops no other."""
    findings: list[Finding] = []
    for check in checks:
        try:
            findings.extend(check())
        except Exception as error:
            findings.append(
                Finding(check.__name__, "warn", f"the check broke: {_one_line(error)}", "please report it")
            )
    return findings


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Check this machine and say what to mend; exit 1 when something essential is broken."""
    findings = examine()
    broken = any(finding.state == "fail" for finding in findings)
    if as_json:
        print(json.dumps({"ok": not broken, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        _print(findings)
    if broken:
        raise typer.Exit(1)


def _print(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    colour = {"ok": "green", "warn": "yellow", "fail": "red"}
    table = Table(box=None, show_header=False, pad_edge=False)
    for column in ("state", "name"):
        table.add_column(column, no_wrap=True)
    table.add_column("detail", overflow="fold")
    for finding in findings:
        text = escape(finding.detail) + (f"\n→ {escape(finding.advice)}" if finding.advice else "")
        table.add_row(f"[{colour[finding.state]}]{finding.state}[/]", finding.name, text)
    Console(highlight=False).print(table)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "(version unknown)"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _read(path: str) -> str:
    """Return the first line of a file of the kernel's, empty when there is none."""
    try:
        return Path(path).read_text(errors="replace").strip("\0\n ").partition("\n")[0]
    except OSError:
        return ""


def _field(path: str, name: str) -> str:
    try:
        match = re.search(
            rf"^{re.escape(name)}\s*: (.*)$", Path(path).read_text(errors="replace"), re.MULTILINE
        )
    except OSError:
        return ""
    return match[1].strip() if match else ""


def _build_line(information: str, name: str) -> str:
    match = re.search(rf"^\s*{re.escape(name)}:[ \t]*(\S.*)?$", information, re.MULTILINE)
    return (match[1] or "").strip() if match else ""

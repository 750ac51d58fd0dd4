"""Which name opens which source."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.runtimes.streaming.fake_camera import FakeSource
from vidprism_edge.errors import SourceError
from vidprism_edge.runtimes.streaming import source as module
from vidprism_edge.runtimes.streaming.source import Source, open_source


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("0", "open_camera"),
        ("12", "open_camera"),
        ("/dev/video3", "open_camera"),
        ("/dev/v4l/by-id/usb-Camera-video-index0", "open_camera"),
        ("rtsp://camera/1", "open_network"),
        ("RTSP://camera/1", "open_network"),
        ("http://camera/video", "open_network"),
        ("udp://239.0.0.1:1234", "open_network"),
        ("synthetic:10", "open_synthetic"),
        ("synthetic", "open_synthetic"),
        ("a.mp4", "open_file"),
        ("./0", "open_file"),
        ("/dev/null", "open_file"),
        ("my synthetic:10.mp4", "open_file"),
        ("12a", "open_file"),
    ],
)
def test_names(monkeypatch: pytest.MonkeyPatch, name: str, function: str) -> None:
    asked: list[Any] = []

    class Module:
        def __getattr__(self, wanted: str) -> Any:
            return lambda given, **options: asked.append((wanted, given, options))

    monkeypatch.setattr(module, "import_module", lambda _: Module())
    open_source(name, stall_timeout_s=3.0, loop=True, max_reconnects=5)
    assert asked == [(function, name, {"stall_timeout_s": 3.0, "loop": True, "max_reconnects": 5})]


@pytest.mark.parametrize("name", ["", "  "])
def test_no_name(name: str) -> None:
    with pytest.raises(SourceError, match="no source was given; expected"):
        open_source(name)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_stall_timeout_must_be_positive(seconds: float) -> None:
    with pytest.raises(SourceError, match="expected more than 0"):
        open_source("synthetic:1", stall_timeout_s=seconds)


def test_sources_keep_the_interface() -> None:
    assert isinstance(open_source("synthetic:1:8x8@5"), Source)
    assert isinstance(FakeSource([]), Source)


def test_neither_opencv_nor_pyav_is_imported_before_it_is_needed(tmp_path: Path) -> None:
    code = """
import sys
from vidprism_edge.runtimes.streaming import feed, source, source_camera, source_decode, source_file
from vidprism_edge.runtimes.streaming import source_live, source_network, source_synthetic
source.open_source("synthetic:1:8x8@5").read()
print(sorted({"cv2", "av", "torch", "onnx"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_table_of_camera_failures_names_tests_that_exist() -> None:
    here = Path(__file__).parent
    table = (here.parents[2] / "docs" / "cameras.md").read_text()
    written = "".join(path.read_text() for path in here.glob("test_*.py"))
    rows = re.findall(r"^\| (\d+) \|", table, re.MULTILINE)
    assert [int(row) for row in rows] == list(range(1, 24))
    named = re.findall(r"`(?:test_\w+::)?([tT]est_?\w+)(?:…)?`", table)
    assert len(named) > 30
    assert [name for name in named if f"def {name}" not in written and f"class {name}" not in written] == []

"""Whether a window can be opened, in processes of their own: a window system may end the process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from vidprism_edge.runtimes.display import window
from vidprism_edge.runtimes.display.window import Window

ASK = "from vidprism_edge.runtimes.display.window import Window; print(*Window.available())"
SHOW = """
import cv2, numpy as np
from vidprism_edge.runtimes.display.window import Window
assert Window.available() == (True, ""), Window.available()
image = np.zeros((300, 2000, 3), np.uint8)
with Window("made for a test") as window:
    assert all(window.show(image) for _ in range(5))
    keys = iter([ord("x"), ord("q"), 27])
    cv2.waitKey, wait = (lambda _ms: next(keys)), cv2.waitKey
    assert [window.show(image) for _ in range(3)] == [True, False, False]
    cv2.waitKey = wait
    cv2.destroyAllWindows()
    assert not window.show(image)
with Window("never shown"):
    pass
print("done")
"""


def run(code: str, **display: str) -> subprocess.CompletedProcess[str]:
    names = ("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "QT_QPA_PLATFORM")
    env = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**env, **display},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no DISPLAY")
@pytest.mark.parametrize(
    ("display", "told"),
    [
        ({}, "neither DISPLAY nor WAYLAND_DISPLAY is set"),
        ({"DISPLAY": ":4711"}, "cannot be opened"),
        ({"WAYLAND_DISPLAY": "wayland-4711"}, "cannot be opened"),
    ],
)
def test_without_a_display_there_is_a_reason_and_no_abort(display, told):
    done = run(ASK, **display)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("False ")
    assert told in done.stdout


def test_a_build_of_opencv_without_windows_is_told(monkeypatch):
    monkeypatch.setattr("cv2.getBuildInformation", lambda: "\n  GUI:                           NONE\n")
    assert Window.available() == (False, "this build of OpenCV has no windows (opencv-python-headless)")


def test_a_display_that_does_not_answer_is_told(monkeypatch):
    def hang(*_args, **_kwargs):
        raise subprocess.TimeoutExpired("probe", 1)

    monkeypatch.setattr("cv2.getBuildInformation", lambda: "  GUI:   QT5\n")
    monkeypatch.setattr(subprocess, "run", hang)
    monkeypatch.setenv("DISPLAY", ":4712")
    window._probe.cache_clear()
    found, reason = Window.available()
    window._probe.cache_clear()
    assert not found
    assert "did not answer" in reason


@pytest.fixture
def display():
    server = shutil.which("Xvfb")
    if server is None:
        pytest.skip("Xvfb is not installed (Debian: apt-get install xvfb)")
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [server, "-displayfd", str(writing), "-screen", "0", "800x600x24", "-nolisten", "tcp"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as numbers:
            number = numbers.readline().strip()
        if not number:
            pytest.skip("Xvfb does not start here")
        yield f":{number}"
    finally:
        process.terminate()
        process.wait(20)


def test_with_a_display_pictures_are_shown_until_the_user_ends_it(display):
    done = run(SHOW, DISPLAY=display)
    assert done.stdout == "done\n", done.stderr

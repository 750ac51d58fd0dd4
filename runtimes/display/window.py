"""A window with the annotated picture, where there is a screen to show it on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import lru_cache
from types import TracebackType

import numpy as np

_PROBE_S = 20
# opens the window system in a process of its own: Qt ends the whole process where it cannot connect
_PROBE = "import cv2; cv2.namedWindow('vidprism-edge', cv2.WINDOW_NORMAL); cv2.destroyAllWindows()"
#: A larger picture is shown smaller; the user can enlarge the window.
_MOST_WIDTH, _MOST_HEIGHT = 1280, 800
_ENDING_KEYS = {ord("q"), ord("Q"), 27}


@lru_cache(maxsize=8)
def _probe(_display: tuple[str | None, ...]) -> str:
    """Return why no window can be opened, empty where one can."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"the display did not answer within {_PROBE_S} s"
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    told = next(
        (line for line in lines if "display" in line.lower()), lines[0] if lines else "no reason given"
    )
    return f"the display cannot be opened: {told[:200]}"


class Window:
    """A window that shows pictures until the user presses q or Esc or closes it. A context manager.

    Make one only where :meth:`available` says so: elsewhere the window system may end the process.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._shown = False

    @staticmethod
    def available() -> tuple[bool, str]:
        """Return whether a window can be opened here, and if not, why. Never ends the process; takes up to a second."""
        import cv2

        found = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
        if found is None or found[1].upper() == "NONE":
            return False, "this build of OpenCV has no windows (opencv-python-headless)"
        names = ("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "QT_QPA_PLATFORM")
        display = tuple(os.environ.get(name) for name in names)
        if sys.platform.startswith("linux") and not any(display[:2]):
            return False, "no display: neither DISPLAY nor WAYLAND_DISPLAY is set"
        reason = _probe(display)
        return not reason, reason

    def show(self, image: np.ndarray) -> bool:
        """Show ``image`` (uint8 [H, W, 3] BGR); False once the user has ended the window."""
        import cv2

        if not self._shown:
            cv2.namedWindow(self.title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            scale = min(1.0, _MOST_WIDTH / image.shape[1], _MOST_HEIGHT / image.shape[0])
            cv2.resizeWindow(
                self.title, max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
            )
        elif not self._visible():
            return False
        cv2.imshow(self.title, image)
        key = cv2.waitKey(1)
        self._shown = True
        return key < 0 or key & 0xFF not in _ENDING_KEYS

    def _visible(self) -> bool:
        import cv2

        try:
            return cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:  # it was the last window, and the window system is gone with it
            return False

    def close(self) -> None:
        """Close the window. More than once is harmless."""
        import cv2

        if self._shown:
            self._shown = False
            try:
                cv2.destroyWindow(self.title)
                cv2.waitKey(1)
            except cv2.error:  # the user was faster
                pass

    def __enter__(self) -> Window:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

"""Ctrl-C between two frames: work on a frame is finished first, so that every count still adds up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Holds SIGINT and SIGTERM back, except inside :meth:`allowed`, where they raise ``KeyboardInterrupt``.

    A second signal ends the program at once. As a context manager it gives the signals back at the end; in any other
    thread than the main one, which gets no signals, it does nothing.
    """

    def __init__(self) -> None:
        self._previous: dict[int, Any] = {}
        self._allowed = self._pending = False

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._pending:
            raise SystemExit(130)
        self._pending = True
        if self._allowed:
            raise KeyboardInterrupt

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """A stretch that may be broken off anywhere, such as waiting for a frame."""
        try:
            self._allowed = True
            if self._pending:
                raise KeyboardInterrupt
            yield
        finally:
            self._allowed = False

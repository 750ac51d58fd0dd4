"""Where ``run --metrics`` puts its figures: an HTTP port for Prometheus, or a file for a collector of text files."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

from vidprism_edge.cli.console import check_file
from vidprism_edge.errors import UsageError

_EVERY_S = 1.0
_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricsOutput:
    """A context manager. ``where``: ``PORT`` (on this machine alone), ``HOST:PORT`` or a file.

    Errors: :class:`UsageError` for a port that cannot be had, and a file that cannot be written.
    """

    def __init__(self, where: str) -> None:
        self._text = ""
        self._written_s = 0.0
        self._file: Path | None = None
        self._server: ThreadingHTTPServer | None = None
        found = re.fullmatch(r"(?:(.+):)?(\d+)", where)
        if found is None:
            self._file = Path(where)
            check_file(self._file)
            return
        host, port = found[1] or "127.0.0.1", int(found[2])
        try:
            self._server = ThreadingHTTPServer((host, port), self._handler())
        except (OSError, OverflowError) as error:
            raise UsageError(f"--metrics {where}: cannot listen there: {error}; give another port") from None

    @property
    def port(self) -> int | None:
        """The port in use; None for a file."""
        return None if self._server is None else self._server.server_port

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        output = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.partition("?")[0] != "/metrics":
                    self.send_error(404, "only /metrics is here")
                    return
                body = output._text.encode()
                self.send_response(200)
                self.send_header("Content-Type", _TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Requests are not logged."""

        return Handler

    def __enter__(self) -> MetricsOutput:
        if self._server is not None:
            threading.Thread(target=self._server.serve_forever, name="vidprism-metrics", daemon=True).start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def update(self, make: Callable[[], str], *, last: bool = False) -> None:
        """Publish what ``make`` gives, at most once a second; the last one in any case."""
        now = time.monotonic()
        if not last and now - self._written_s < _EVERY_S and self._text:
            return
        self._written_s, self._text = now, make()
        if self._file is not None:
            part = self._file.with_name(f".{self._file.name}.{os.getpid()}")
            part.write_text(self._text, encoding="utf-8")
            os.replace(part, self._file)

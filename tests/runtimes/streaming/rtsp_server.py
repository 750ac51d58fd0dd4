"""A small RTSP server on the loopback: one H.264 stream, RTP interleaved in the TCP connection (RFC 2326)."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

_SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track0\r\n"
)


class RtspServer:
    """Serves coded pictures (H.264 with start codes) to one client after the other, ``rate`` a second.

    ``plan(n)`` says what the n-th client gets: the pictures from a first index up to (not with) a last one,
    and then ``"hang up"`` or ``"stall"``.
    """

    def __init__(
        self, coded: list[bytes], plan: Callable[[int], tuple[int, int, str]], *, rate: int = 25
    ) -> None:
        self._coded = coded
        self._plan = plan
        self._rate = rate
        self._stop = threading.Event()
        self.clients = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self._socket.getsockname()[1]}/camera"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> RtspServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError):
                self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        while True:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                part = client.recv(4096)
                if not part:
                    return
                request += part
            verb = request.split(b" ", 1)[0].decode()
            number = next(
                line.split(b":")[1].strip().decode()
                for line in request.split(b"\r\n")
                if line.startswith(b"CSeq")
            )
            extra, body = "", ""
            if verb == "OPTIONS":
                extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            elif verb == "DESCRIBE":
                extra, body = f"Content-Base: {self.url}/\r\nContent-Type: application/sdp\r\n", _SDP
            elif verb == "SETUP":
                extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
            elif verb == "PLAY":
                extra = "Session: 1\r\n"
            answer = f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{extra}Content-Length: {len(body)}\r\n\r\n{body}"
            client.sendall(answer.encode())
            if verb == "PLAY":
                self._play(client)
                return

    def _play(self, client: socket.socket) -> None:
        first, last, end = self._plan(self.clients)
        self.clients += 1
        sequence = 0
        for index in range(first, last):
            units = _units(self._coded[index])
            for number, unit in enumerate(units):
                marker = 0x80 if number == len(units) - 1 else 0
                stamp = index * 90000 // self._rate
                rtp = (
                    struct.pack(">BBHII", 0x80, 96 | marker, sequence & 0xFFFF, stamp & 0xFFFFFFFF, 7) + unit
                )
                client.sendall(struct.pack(">cBH", b"$", 0, len(rtp)) + rtp)
                sequence += 1
            if self._stop.wait(1 / self._rate):
                return
        if end == "stall":
            self._stop.wait(30)


def _units(coded: bytes) -> list[bytes]:
    """Split at the start codes 00 00 01 and 00 00 00 01."""
    parts = coded.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return [part for part in parts if part]

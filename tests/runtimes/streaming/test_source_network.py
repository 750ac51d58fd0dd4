"""Network streams against servers of our own on the loopback."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtimes.streaming.made_videos import GOP, SIZE, packets, scene, write_video
from tests.runtimes.streaming.rtsp_server import RtspServer
from vidprism_edge.errors import SourceError
from vidprism_edge.runtimes.streaming.feed import Feed
from vidprism_edge.runtimes.streaming.source import Frame, open_source
from vidprism_edge.runtimes.streaming.source_live import LiveSource
from vidprism_edge.runtimes.streaming.source_network import ArrivalClock, open_network, redact

FAST = (0.01, 0.1)
MS = 10**6


@pytest.fixture(scope="module")
def coded() -> list[bytes]:
    return packets((scene(k) for k in range(60)), gop=GOP)


def read(source: LiveSource, number: int) -> list[Frame]:
    frames = []
    while len(frames) < number:
        frame = source.read()
        assert frame is not None
        frames.append(frame)
    return frames


def test_rtsp(coded: list[bytes]) -> None:
    with RtspServer(coded, lambda _: (0, 60, "stall"), rate=50) as server:
        source = open_source(server.url)
        with Feed(source) as feed:
            frames = [next(feed) for _ in range(10)]
        assert source.live
        assert source.events == {}
    times = np.diff([frame.t_ns for frame in frames])
    assert (times > 0).all()
    assert frames[0].image.shape == (SIZE[1], SIZE[0], 3)
    assert np.abs(frames[0].image.astype(int) - scene(frames[0].index)).mean() < 12
    assert abs(frames[-1].t_ns - time.monotonic_ns()) < 5 * 10**9


def test_rtsp_that_hangs_up_is_connected_again(coded: list[bytes]) -> None:
    with RtspServer(coded, lambda n: (0, 12, "hang up" if n == 0 else "stall"), rate=100) as server:
        source = open_network(server.url, backoff_s=FAST)
        frames = read(source, 20)
        source.close()
        assert server.clients == 2
    assert [frame.index for frame in frames if frame.reset == "reconnect"] == [12]
    assert source.events == {"ended": 1, "reconnects": 1}
    times = [frame.t_ns for frame in frames]
    assert times == sorted(set(times))


def test_rtsp_that_stalls_is_connected_again(coded: list[bytes]) -> None:
    with RtspServer(coded, lambda _: (0, 12, "stall"), rate=100) as server:
        source = open_network(server.url, stall_timeout_s=0.8, backoff_s=FAST, max_reconnects=0)
        start = time.monotonic()
        with pytest.raises(SourceError, match=r"no good frame for 0\.8 s; gave up"):
            read(source, 13)
        source.close()
    assert time.monotonic() - start < 10
    assert source.events == {"stalled": 1}


def test_joining_between_key_frames_gives_no_grey_pictures(coded: list[bytes]) -> None:
    """The stream is joined 4 pictures after a key frame: what comes before the next one is dropped."""
    # the parameters are repeated, as cameras do, so that the decoder could show a grey picture
    header = coded[0][: coded[0].index(b"\0\0\1\x65") - 1]
    joined = [header + coded[4], *coded[5:]]
    with RtspServer(joined, lambda _: (0, 40, "stall"), rate=100) as server:
        source = open_network(server.url)
        frames = read(source, 12)
        source.close()
    assert source.lost == {"corrupt": 6}
    assert [frame.index for frame in frames] == list(range(6, 18))
    assert frames[0].reset == "corrupt"
    assert np.abs(frames[0].image.astype(int) - scene(10)).mean() < 12


@contextlib.contextmanager
def tcp_server(answers: list[tuple[bytes, bool]]) -> Iterator[str]:
    """Send each client its bytes; then keep the connection open and silent (True) or close it."""
    server = socket.create_server(("127.0.0.1", 0))
    kept: list[socket.socket] = []

    def serve() -> None:
        for data, keep in answers:
            try:
                client, _ = server.accept()
                client.sendall(data)
            except OSError:
                return
            if keep:
                kept.append(client)
            else:
                client.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
    with contextlib.suppress(OSError):
        server.shutdown(socket.SHUT_RDWR)
    for sock in (server, *kept):
        sock.close()
    thread.join(5)


@pytest.fixture(scope="module")
def transport_stream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path: Path = tmp_path_factory.mktemp("ts") / "a.ts"
    write_video(path, [scene(k) for k in range(40)])
    return path.read_bytes()


def test_a_silent_server_triggers_the_watchdog(transport_stream: bytes) -> None:
    with tcp_server([(transport_stream, True), (transport_stream, True)]) as url:
        source = open_network(url, stall_timeout_s=0.8, backoff_s=FAST)
        seen: list[Any] = []
        with Feed(source, drop_policy="wait", max_frame_age_s=1e6) as feed:
            for frame in feed:
                seen.append(frame.reset)
                if frame.reset == "reconnect":
                    break
        assert source.events == {"stalled": 1, "reconnects": 1}
        assert len(seen) > 30
        counts = feed.counts
        assert counts.read == counts.delivered + sum(counts.dropped.values())


def test_many_reconnections_leave_nothing_behind(coded: list[bytes]) -> None:
    """No socket, file or thread of 15 lost connections is left."""
    process = psutil.Process()
    with RtspServer(coded, lambda _: (0, 10, "hang up"), rate=1000) as server:
        source = open_network(server.url, backoff_s=(0.001, 0.002))
        read(source, 25)
        before = (process.num_fds(), threading.active_count())
        read(source, 150)
        after = (process.num_fds(), threading.active_count())
        source.close()
    assert source.events["reconnects"] >= 15
    assert all(b - a <= 2 for a, b in zip(before, after, strict=True))


def test_close_does_not_wait_for_a_silent_server(transport_stream: bytes) -> None:
    with tcp_server([(transport_stream, True)]) as url:
        feed = Feed(open_network(url, stall_timeout_s=20))
        next(feed)
        start = time.monotonic()
        feed.close()
        assert time.monotonic() - start < 3


def test_a_server_that_answers_nothing_at_all() -> None:
    with tcp_server([(b"", True)]) as url:
        start = time.monotonic()
        with pytest.raises(SourceError, match="no answer in time") as caught:
            open_network(url, open_timeout_s=0.5)
        assert time.monotonic() - start < 4
        assert "\n" not in str(caught.value)


def test_a_server_that_sends_no_video() -> None:
    with tcp_server([(b"hello, I am no camera\n" * 50, False)]) as url, pytest.raises(SourceError) as caught:
        open_network(url)
    assert "\n" not in str(caught.value)


def test_nobody_there_is_one_clear_line_without_the_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(SourceError) as caught:
        open_source(f"rtsp://me:s3cret@127.0.0.1:{port}/camera")
    message = str(caught.value)
    assert f"rtsp://me:***@127.0.0.1:{port}/camera cannot be opened" in message
    assert "s3cret" not in message
    assert "\n" not in message


def test_an_unknown_scheme_lists_the_known_ones() -> None:
    with pytest.raises(
        SourceError, match=r"gopher:// is not known here; expected one of rtsp://, .*https://"
    ):
        open_source("gopher://camera")


def test_passwords_are_redacted() -> None:
    assert redact("rtsp://a:b@c/d") == "rtsp://a:***@c/d"
    assert redact("rtsp://a:p@ss:w@c:554/d@e") == "rtsp://a:***@c:554/d@e"
    assert redact("rtsp://c:554/d") == "rtsp://c:554/d"


class TestArrivalClock:
    """The camera's timestamps, put on our clock."""

    def test_jitter_of_the_network_is_taken_out(self) -> None:
        random = np.random.default_rng(0)
        clock = ArrivalClock()
        sent = np.arange(500) * 40 * MS
        late = (random.exponential(15, 500) * MS).astype(int)
        arrivals = np.maximum.accumulate(sent + late) + 77 * 10**9
        times = np.array([clock.time(int(s), int(a)) for s, a in zip(sent, arrivals, strict=True)])
        steps = np.diff(times[100:])
        assert np.abs(steps - 40 * MS).mean() < np.abs(np.diff(arrivals[100:]) - 40 * MS).mean() / 4

    def test_a_camera_clock_that_is_off_by_200_ppm_is_followed_for_an_hour(self) -> None:
        clock = ArrivalClock()
        for k in range(0, 3600 * 25, 5):
            arrival = k * 40 * MS
            lag = arrival - clock.time(round(arrival * (1 - 200e-6)), arrival)
            assert 0 <= lag < 2 * MS

    def test_a_queue_in_the_network_shows_as_age(self) -> None:
        clock = ArrivalClock()
        for k in range(100):
            clock.time(k * 40 * MS, k * 40 * MS)
        arrival = 100 * 40 * MS + 3 * 10**9  # everything is held up for 3 s, then comes at once
        ages = [arrival - clock.time(k * 40 * MS, arrival) for k in range(100, 170)]
        assert abs(ages[0] - 3 * 10**9) < 50 * MS
        assert ages == sorted(ages, reverse=True)

    def test_a_camera_that_pauses_is_believed_again_after_the_window(self) -> None:
        clock = ArrivalClock()
        for k in range(100):
            clock.time(k * 40 * MS, k * 40 * MS)
        pause = 3 * 10**9  # nothing is missing in its timestamps, and it never catches up
        ages = [k * 40 * MS + pause - clock.time(k * 40 * MS, k * 40 * MS + pause) for k in range(100, 300)]
        assert ages[0] > 2 * 10**9
        assert ages[-1] == 0

    def test_a_camera_that_restarts_its_timestamps(self) -> None:
        clock = ArrivalClock()
        for k in range(100):
            clock.time(k * 40 * MS, k * 40 * MS)
        for k in range(100, 200):
            assert clock.time((k - 100) * 40 * MS, k * 40 * MS) == k * 40 * MS

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(
            st.tuples(st.one_of(st.none(), st.integers(-(2**40), 2**40)), st.integers(1, 2**34)), max_size=40
        )
    )
    def test_times_grow_strictly_and_are_never_later_than_the_arrival(
        self, steps: list[tuple[int | None, int]]
    ) -> None:
        clock = ArrivalClock()
        arrival, last = 10**12, -1
        for stamp, gap in steps:
            arrival += gap
            now = clock.time(stamp, arrival)
            assert last < now <= arrival
            last = now

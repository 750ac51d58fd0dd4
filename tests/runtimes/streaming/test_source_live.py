"""Watchdog, reconnection and frozen pictures, with connections that fail by script."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtimes.streaming.fake_camera import FakeConnection, picture
from vidprism_edge.errors import SourceError
from vidprism_edge.runtimes.streaming.feed import Feed
from vidprism_edge.runtimes.streaming.source_decode import Bad
from vidprism_edge.runtimes.streaming.source_live import MAX_STUCK, LiveSource, _FrozenWatch

FAST = (0.001, 0.01)


def live(scripts: Iterable[Any], **options: Any) -> LiveSource:
    """Return a source whose n-th connection plays the n-th script; an error there is a failed attempt."""
    attempts = iter(scripts)

    def connect() -> FakeConnection:
        script = next(attempts)
        if isinstance(script, BaseException):
            raise script
        return FakeConnection(script)

    return LiveSource("fake", connect, **{"stall_timeout_s": 5.0, "backoff_s": FAST, **options})


def silence() -> None:
    """A driver that is busy for a while, longer than the stall timeouts here."""
    time.sleep(0.3)


def hang() -> None:
    """A driver that does not come back."""
    threading.Event().wait(30)


def test_frames_carry_monotonic_times_and_numbers() -> None:
    before = time.monotonic_ns()
    source = live([[1, 2, 3, silence]])
    frames = [source.read() for _ in range(3)]
    source.close()
    times = [frame.t_ns for frame in frames if frame]
    assert before < times[0] < times[1] < times[2] <= time.monotonic_ns()
    assert [frame.index for frame in frames if frame] == [0, 1, 2]
    assert source.live


@pytest.mark.parametrize(
    ("ending", "event"),
    [
        ([], "ended"),
        ([SourceError("unplugged")], "errors"),
        ([OSError("gone")], "errors"),
        ([hang], "stalled"),
    ],
)
def test_each_failure_connects_again_and_the_next_frame_says_so(ending: list, event: str) -> None:
    source = live([[1, 2, *ending], [3, silence]], stall_timeout_s=0.5)
    frames = [source.read() for _ in range(3)]
    source.close()
    assert [frame and frame.reset for frame in frames] == [None, None, "reconnect"]
    assert source.events == {event: 1, "reconnects": 1}


def test_nothing_but_damaged_frames_is_a_stall() -> None:
    def bad() -> Iterable[Any]:
        while True:
            yield lambda: time.sleep(0.01)
            yield Bad("corrupt")

    source = live([[0, *[Bad("corrupt")] * 3], bad(), [1, silence]], stall_timeout_s=0.4)
    source.read()
    frame = source.read()
    source.close()
    assert frame is not None
    assert frame.reset == "reconnect"
    assert source.lost["corrupt"] == frame.index - 1 > 6
    assert source.events == {"ended": 1, "stalled": 1, "reconnects": 2}


def test_known_damage_gives_exactly_those_counts() -> None:
    script = [0, Bad("corrupt"), Bad("corrupt"), 3, 4, Bad("partial"), 6, SourceError("stop")]
    source = live([script], max_reconnects=0)
    with pytest.raises(SourceError), Feed(source, drop_policy="wait") as feed:
        for frame in feed:
            last = frame
    assert feed.counts.as_dict() == {
        "read": 7,
        "delivered": 4,
        "dropped": {"corrupt": 2, "partial": 1},
    }
    assert last.index == 6


def test_the_first_connection_must_succeed() -> None:
    with pytest.raises(SourceError, match="no such camera"):
        live([SourceError("no such camera")])
    with pytest.raises(SourceError, match="cannot be opened"):
        live([PermissionError("denied")])
    with pytest.raises(ZeroDivisionError):
        live([ZeroDivisionError()])  # a bug keeps its traceback


@pytest.mark.parametrize("script", [[], [Bad("corrupt")], [OSError("busy")], [hang]])
def test_a_camera_that_opens_and_never_gives_a_picture_is_an_error(script: list) -> None:
    """A webcam in use opens on many systems, and then gives nothing."""
    source = live([script, [1]], stall_timeout_s=0.1)
    with pytest.raises(SourceError, match="opened and gave no picture"):
        source.read()
    source.close()


def test_opening_that_hangs_is_given_up() -> None:
    def connect() -> FakeConnection:
        hang()
        return FakeConnection([])

    start = time.monotonic()
    with pytest.raises(SourceError, match=r"did not answer within 0\.1 s"):
        LiveSource("fake", connect, open_timeout_s=0.1)
    assert time.monotonic() - start < 2


def test_it_gives_up_when_told_and_says_why() -> None:
    failed = SourceError("nobody there")
    source = live([[1], failed, failed, failed], max_reconnects=3)
    assert source.read() is not None
    with pytest.raises(SourceError, match=r"nobody there; gave up after 3 attempts"):
        source.read()
    assert source.events == {"ended": 1, "failed_attempts": 3}


def test_a_camera_that_connects_and_gives_nothing_counts_as_failing() -> None:
    source = live([[1], [], [], []], max_reconnects=2)
    assert source.read() is not None
    with pytest.raises(SourceError, match="gave up after 2"):
        source.read()


def test_a_good_frame_makes_the_attempts_count_anew() -> None:
    source = live([[1], [2], [3], [4], [5, silence]], max_reconnects=1)
    frames = [source.read() for _ in range(5)]
    source.close()
    assert [frame and frame.reset for frame in frames] == [None, *["reconnect"] * 4]


def test_it_tries_for_ever_otherwise() -> None:
    source = live([[1], *[SourceError("away")] * 40, [2, silence]], backoff_s=(0.0001, 0.001))
    assert source.read() is not None
    frame = source.read()
    source.close()
    assert frame is not None
    assert frame.reset == "reconnect"
    assert source.events["failed_attempts"] == 40


def test_pauses_double_up_to_a_limit_and_are_random() -> None:
    source = live([[silence]], backoff_s=(0.5, 30.0))
    for failures, longest in ((0, 0.5), (1, 1.0), (2, 2.0), (6, 30.0), (10**9, 30.0)):
        source._failures = failures
        pauses = {source._pause_s() for _ in range(20)}
        assert all(longest / 2 <= pause <= longest for pause in pauses)
        assert len(pauses) > 10
    source.close()


def test_close_wakes_a_waiting_read_although_the_driver_hangs() -> None:
    source = live([[1, hang]])
    assert source.read() is not None
    timer = threading.Timer(0.1, source.close)
    timer.start()
    start = time.monotonic()
    assert source.read() is None
    assert time.monotonic() - start < 2
    timer.join()
    assert source.read() is None


def test_close_while_reconnecting() -> None:
    source = live([[1], *[SourceError("away")] * 1000], backoff_s=(0.05, 30.0))
    assert source.read() is not None
    threading.Timer(0.2, source.close).start()
    assert source.read() is None


def test_a_driver_that_hangs_for_ever_does_not_collect_threads() -> None:
    attempts: list[int] = []
    release = threading.Event()

    def connect() -> FakeConnection:
        attempts.append(1)
        return FakeConnection(
            [1, lambda: release.wait(30)] if len(attempts) == 1 else [lambda: release.wait(30)]
        )

    source = LiveSource("fake", connect, stall_timeout_s=0.05, backoff_s=FAST)
    assert source.read() is not None
    threading.Timer(0.5, source.close).start()
    assert source.read() is None
    assert len(attempts) <= MAX_STUCK + 1
    release.set()


def test_the_connection_is_closed_in_the_end() -> None:
    connection = FakeConnection([1, lambda: time.sleep(0.05), 2, 3])
    source = LiveSource("fake", lambda: connection, backoff_s=FAST)
    assert source.read() is not None
    source.close()
    assert connection.closed


def test_timestamps_grow_over_reconnections() -> None:
    """Even when a connection's clock is behind the one before."""

    class Behind(FakeConnection):
        def read(self) -> Any:
            item = super().read()
            return item and item._replace(t_ns=item.t_ns - 10**9)

    connections = iter([FakeConnection([1, 2]), Behind([3, 4, silence])])
    source = LiveSource("fake", lambda: next(connections), backoff_s=FAST)
    times = [frame.t_ns for frame in (source.read() for _ in range(4)) if frame]
    source.close()
    assert len(times) == 4
    assert times == sorted(set(times))


def test_a_frozen_picture_is_counted_and_connects_again() -> None:
    def frozen() -> Iterable[Any]:
        while True:
            yield 7
            yield lambda: time.sleep(0.02)

    source = live([frozen(), [1, 2, silence]], stall_timeout_s=0.5)
    with Feed(source, drop_policy="wait") as feed:
        frames = []
        for frame in feed:
            frames.append(frame)
            if frame.reset:
                break
    assert frames[-1].reset == "reconnect"
    assert source.events == {"frozen": 1, "reconnects": 1}
    assert feed.counts.dropped == {"frozen": 1}


def test_a_lens_cap_is_not_taken_for_a_failure_again_and_again() -> None:
    """The time that a picture may stay the same doubles while a new connection brings the same one."""
    watch = _FrozenWatch(10.0)
    black = picture(0)
    verdicts = [second for second in range(2000) if watch.check(black, float(second))]
    steps = [b - a for a, b in zip(verdicts, verdicts[1:], strict=False)]
    assert verdicts[0] == 12
    assert all(b > 1.9 * a for a, b in zip(steps, steps[1:4], strict=False))
    assert len(verdicts) < 9
    verdicts = [second for second in range(2000, 2020) if watch.check(picture(1), float(second))]
    assert verdicts == [2012]


def test_drawing_on_a_frame_does_not_hide_that_it_is_frozen() -> None:
    watch = _FrozenWatch(1.0)
    verdicts = []
    for second in range(5):
        image = picture(0, (64, 48))
        verdicts.append(watch.check(image, float(second)))
        image[:] = second + 10
    assert verdicts == [False, False, False, True, False]


def test_a_picture_that_differs_in_one_bit_is_alive() -> None:
    watch = _FrozenWatch(1.0)
    image = picture(0, (64, 48))
    for second in range(10):
        image = image.copy()
        image[33, 21, 1] ^= 1
        assert not watch.check(image, float(second))


@settings(max_examples=25, deadline=None)
@given(
    scripts=st.lists(
        st.lists(st.sampled_from(["frame", "bad", "error"]), max_size=8), min_size=1, max_size=6
    ),
    policy=st.sampled_from(["wait", "drop-oldest"]),
)
def test_every_picture_of_every_connection_is_accounted_for(scripts: list[list[str]], policy: Any) -> None:
    numbers = count()
    make: dict[str, Callable[[], Any]] = {
        "frame": lambda: next(numbers),
        "bad": lambda: Bad("corrupt"),
        "error": lambda: SourceError("lost"),
    }
    # what stands behind an error in its connection is never reached
    reached = [script[: script.index("error")] if "error" in script else script for script in scripts]
    plans = [[make[word]() for word in script] for script in scripts]
    source = live(
        [[next(numbers)], *plans, *[SourceError("away")] * 50], max_reconnects=20, backoff_s=(1e-5, 1e-4)
    )
    with (
        pytest.raises(SourceError, match="gave up"),
        Feed(source, drop_policy=policy, max_frame_age_s=1e6) as feed,
    ):
        for frame in feed:
            del frame
    frames, bad = (sum(script.count(word) for script in reached) for word in ("frame", "bad"))
    counts = feed.counts
    assert counts.read == 1 + frames + bad == counts.delivered + sum(counts.dropped.values())
    assert counts.dropped.get("corrupt", 0) == bad

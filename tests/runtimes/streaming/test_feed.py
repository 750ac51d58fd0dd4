"""The slot between a source and its consumer: every picture is accounted for, and nothing hangs."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtimes.streaming.fake_camera import PERIOD_NS, FakeSource
from vidprism_edge.errors import SourceError
from vidprism_edge.runtimes.streaming.feed import Feed, FeedCounts
from vidprism_edge.runtimes.streaming.source import open_source

FRAMES = [k * PERIOD_NS for k in range(10)]


in_main_thread = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals reach the main thread only"
)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C works, although a program started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def adds_up(counts: FeedCounts) -> bool:
    return counts.read == counts.delivered + sum(counts.dropped.values())


def test_files_wait_and_nothing_is_dropped() -> None:
    with Feed(FakeSource(FRAMES)) as feed:
        frames = list(feed)
    assert [frame.t_ns for frame in frames] == FRAMES
    assert [frame.index for frame in frames] == list(range(10))
    assert feed.counts.as_dict() == {"read": 10, "delivered": 10, "dropped": {}}


def test_known_losses_give_exactly_those_counts() -> None:
    """3 corrupt pictures in two places, and one the driver dropped: counted, numbered, and reset after."""
    source = FakeSource([0, 1, "corrupt", 3, 4, "corrupt", "corrupt", 7, "driver", 9])
    with Feed(source) as feed:
        frames = list(feed)
    assert feed.counts.as_dict() == {
        "read": 10,
        "delivered": 6,
        "dropped": {"corrupt": 3, "driver": 1},
    }
    assert [(f.index, f.reset) for f in frames if f.reset] == [(3, "corrupt"), (7, "corrupt"), (9, "driver")]


def test_losses_at_the_end_count_too() -> None:
    with Feed(FakeSource([0, "corrupt", "corrupt"])) as feed:
        assert len(list(feed)) == 1
    assert feed.counts.as_dict() == {"read": 3, "delivered": 1, "dropped": {"corrupt": 2}}


def test_a_refused_frame_moves_to_the_dropped_ones() -> None:
    """Timestamps that run backwards are for the sampler to refuse; the session then says so."""
    times = [0, 40, 80, 60, 80, 120]
    last = -1
    with Feed(FakeSource(times)) as feed:
        for frame in feed:
            if frame.t_ns <= last:
                feed.counts.drop("timestamp")
            else:
                last = frame.t_ns
    assert feed.counts.as_dict() == {"read": 6, "delivered": 4, "dropped": {"timestamp": 2}}


def test_drop_without_a_delivery_is_refused() -> None:
    with pytest.raises(ValueError, match="no delivered frame"):
        FeedCounts().drop("timestamp")


def test_the_latest_frame_wins_and_the_reset_of_a_dropped_one_is_kept() -> None:
    """Five frames arrive while the consumer is busy: it gets the fifth, with the reset of the second."""
    read_on, all_there = threading.Event(), threading.Event()
    script = [0, read_on.wait, 1, "corrupt", 2, 3, 4, 5, all_there.set, lambda: source.closed.wait()]
    source = FakeSource(script, live=True)
    with Feed(source, max_frame_age_s=1e9) as feed:
        assert next(feed).t_ns == 0
        read_on.set()
        assert all_there.wait(5)
        frame = next(feed)
        assert (frame.t_ns, frame.index, frame.reset) == (5, 6, "corrupt")
    assert feed.counts.as_dict() == {
        "read": 7,
        "delivered": 2,
        "dropped": {"overrun": 4, "corrupt": 1},
    }


def test_the_delay_never_grows() -> None:
    """A consumer at half the camera's rate always gets the newest frame there was when it asked, or a newer one."""
    read: list[int] = []

    def camera():
        for k in range(60):
            yield lambda: time.sleep(0.01)
            read.append(k)
            yield time.monotonic_ns()

    behind = []
    with Feed(FakeSource(camera(), live=True)) as feed:
        while True:
            asked = len(read)
            if (frame := next(feed, None)) is None:
                break
            behind.append(asked - 1 - frame.index)
            time.sleep(0.02)
    assert len(behind) > 5
    # the very newest may have been read and not have come to the slot yet
    assert max(behind) <= 1
    assert feed.counts.dropped["overrun"] > 5
    assert adds_up(feed.counts)


def test_stale_frames_are_dropped_and_their_reset_is_kept() -> None:
    now = [10_000_000_000]
    source = FakeSource([7_000_000_000, "corrupt", 7_900_000_000, 8_100_000_000, 10_000_000_000], live=True)
    with Feed(source, drop_policy="wait", max_frame_age_s=2.0, clock=lambda: now[0]) as feed:
        frames = list(feed)
    assert [frame.t_ns for frame in frames] == [8_100_000_000, 10_000_000_000]
    assert [frame.reset for frame in frames] == ["corrupt", None]
    assert feed.counts.as_dict() == {"read": 5, "delivered": 2, "dropped": {"corrupt": 1, "stale": 2}}


def test_age_means_nothing_for_a_file_that_waits() -> None:
    with Feed(FakeSource(FRAMES), max_frame_age_s=1e-9) as feed:
        assert len(list(feed)) == 10


def test_realtime_holds_frames_back_to_their_time() -> None:
    start = time.monotonic()
    with Feed(FakeSource([k * 20_000_000 for k in range(11)]), pace="realtime") as feed:
        assert len(list(feed)) == 11
    assert 0.19 < time.monotonic() - start < 5.0


def test_realtime_steps_over_jumps_of_the_timestamps() -> None:
    hour = 3600 * 10**9
    start = time.monotonic()
    with Feed(FakeSource([0, hour, hour + 10**7, 0, 10**7]), pace="realtime") as feed:
        assert len(list(feed)) == 5
    assert time.monotonic() - start < 5.0


def test_realtime_with_drop_oldest_drops_for_a_slow_consumer() -> None:
    source = FakeSource([k * 5_000_000 for k in range(60)])
    with Feed(source, pace="realtime", drop_policy="drop-oldest") as feed:
        for _ in feed:
            time.sleep(0.02)
    assert feed.counts.read == 60
    assert feed.counts.dropped["overrun"] > 20
    assert adds_up(feed.counts)


def test_a_realtime_wait_is_ended_by_close() -> None:
    feed = Feed(FakeSource([0, 9 * 10**9, 18 * 10**9]), pace="realtime", drop_policy="drop-oldest")
    assert next(feed).t_ns == 0
    start = time.monotonic()
    feed.close()
    assert time.monotonic() - start < 5
    assert adds_up(feed.counts)


def test_a_feed_that_begins_later_has_read_nothing_before_and_closes_at_once() -> None:
    source = FakeSource(FRAMES)
    feed = Feed(source, drop_policy="drop-oldest", delay_s=3600.0)
    assert not feed.is_ready
    feed.close()
    assert feed.counts.as_dict() == {"read": 0, "delivered": 0, "dropped": {}}
    with Feed(FakeSource(FRAMES), drop_policy="drop-oldest", delay_s=0.01) as feed:
        assert list(feed)


@pytest.mark.parametrize("policy", ["wait", "drop-oldest"])
def test_errors_reach_the_consumer(policy: str) -> None:
    error = SourceError("the camera caught fire")
    with (
        pytest.raises(SourceError, match="caught fire"),
        Feed(FakeSource([0, error]), drop_policy=policy) as feed,
    ):
        for _ in feed:
            pass
    assert feed.counts.as_dict() == {"read": 1, "delivered": 1, "dropped": {}}


def test_close_ends_a_feed_whose_camera_is_silent() -> None:
    source = FakeSource([], live=True)
    source.read = lambda: source.closed.wait() and None  # type: ignore[method-assign]
    feed = Feed(source)
    timer = threading.Timer(0.1, feed.close)
    timer.start()
    assert list(feed) == []
    timer.join()
    assert not [thread for thread in threading.enumerate() if thread.name == "vidprism-feed"]


def test_a_frame_left_in_the_slot_is_counted_as_closed() -> None:
    there = threading.Event()
    source = FakeSource([0, 1, there.set], live=True)
    feed = Feed(source, max_frame_age_s=1e9)
    assert there.wait(5)
    feed.close()
    feed.close()
    assert feed.counts.as_dict() == {"read": 2, "delivered": 0, "dropped": {"overrun": 1, "closed": 1}}
    assert list(feed) == []


@in_main_thread
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_while_waiting_for_a_camera() -> None:
    source = FakeSource([], live=True)
    source.read = lambda: source.closed.wait() and None  # type: ignore[method-assign]
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt), Feed(source) as feed:
        next(feed)
    timer.join()
    assert not [thread for thread in threading.enumerate() if thread.name == "vidprism-feed"]


@in_main_thread
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_while_a_paced_frame_is_in_hand() -> None:
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt), Feed(FakeSource([0, 9 * 10**9]), pace="realtime") as feed:
        for _ in feed:
            pass
    timer.join()
    assert feed.counts.as_dict() == {"read": 2, "delivered": 1, "dropped": {"closed": 1}}


@pytest.mark.parametrize(
    "arguments",
    [{"drop_policy": "newest"}, {"pace": "slow"}, {"max_frame_age_s": 0.0}, {"max_frame_age_s": -1.0}],
)
def test_wrong_arguments_are_named(arguments: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        Feed(FakeSource([]), **arguments)


@settings(max_examples=60, deadline=None)
@given(
    script=st.lists(
        st.one_of(st.integers(0, 10**10), st.sampled_from(["corrupt", "frozen", "driver"])), max_size=30
    ),
    policy=st.sampled_from(["wait", "drop-oldest"]),
    refused=st.sets(st.integers(0, 30)),
    stop_after=st.integers(0, 31),
    live=st.booleans(),
    age_s=st.sampled_from([1e-3, 5.0, 1e6]),
)
def test_every_picture_is_accounted_for(script, policy, refused, stop_after, live, age_s) -> None:
    """Whatever is lost, refused, stale, overrun or left behind: the counts add up after close()."""
    source = FakeSource(script, live=live)
    feed = Feed(source, drop_policy=policy, max_frame_age_s=age_s, clock=lambda: 5 * 10**9)
    got = kept = 0
    for frame in feed:
        got += 1
        assert isinstance(script[frame.index], int)
        if frame.index in refused:
            feed.counts.drop("timestamp")
        else:
            kept += 1
        if got >= stop_after:
            break
    feed.close()
    counts = feed.counts
    assert adds_up(counts)
    assert counts.delivered == kept
    assert counts.waiting == 0
    assert counts.read <= len(script)
    if stop_after > len(script):  # it was read to the end
        assert counts.read == len(script)
        for reason in ("corrupt", "frozen", "driver"):
            assert counts.dropped.get(reason, 0) == script.count(reason)
        if policy == "wait" and not live:
            assert got == sum(isinstance(item, int) for item in script)


@settings(max_examples=40, deadline=None)
@given(
    script=st.lists(st.one_of(st.just(0), st.just("corrupt")), min_size=1, max_size=30),
    slow=st.booleans(),
)
def test_no_reset_is_ever_lost(script, slow) -> None:
    """Between two delivered frames with a corrupt picture between them, the later carries a reset."""
    last = -1
    with Feed(FakeSource(script, live=True), max_frame_age_s=1e9) as feed:
        for frame in feed:
            assert ("corrupt" in script[last + 1 : frame.index]) == (frame.reset is not None)
            last = frame.index
            if slow:
                time.sleep(0.0005)


def test_memory_does_not_grow() -> None:
    """500 pictures of 0.9 MB pass through the slot: were they kept, it would be 460 MB."""
    process = psutil.Process()
    with Feed(open_source("synthetic:20:640x480@30", loop=True), drop_policy="drop-oldest") as feed:
        for _ in range(50):
            next(feed)
        before = process.memory_info().rss
        while feed.counts.read < 550:
            next(feed)
        grown = process.memory_info().rss - before
    assert grown < 40 * 2**20

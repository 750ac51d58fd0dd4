"""What a session says and counts: every frame and grid point is accounted for, on sources with known faults."""

from __future__ import annotations

from fractions import Fraction

import msgspec
import numpy as np
import pytest

from tests.runtimes.streaming.fake_camera import FakeSource
from vidprism_edge.bundle import Bundle
from vidprism_edge.runtimes.streaming.feed import Feed
from vidprism_edge.runtimes.streaming.prediction import UNTRAINED
from vidprism_edge.runtimes.streaming.session import GRAPH_OF, Session, always_on_macs, stream
from vidprism_edge.runtimes.streaming.source import Frame, open_source
from vidprism_edge.spec import EXPERTS, STREAMS

PERIOD = 40_000_000
SECOND = 10**9


class Textured(FakeSource):
    """The scripted source with pictures that have something in them, of a size that may change."""

    def __init__(self, script, sizes=None, still=False):
        super().__init__(script)
        self._sizes, self._still = sizes or {}, still
        self._texture = np.random.default_rng(0).integers(0, 256, (160, 200, 3), dtype=np.uint8)

    def _frame(self, image, t_ns):
        height, width = self._sizes.get(self._index, (48, 64))
        shift = 0 if self._still else self._index % 32
        picture = self._texture[shift : shift + height, shift : shift + width].copy()
        return super()._frame(picture, t_ns)


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return Bundle.open(tiny_bundle)


def play(bundle, source, **options):
    session = Session(bundle, period_ns=PERIOD, **options)
    with Feed(source) as feed:
        predictions = [p for _, made in stream(session, feed) for p in made]
    return session, predictions, session.summarise(feed)


def check_identities(summary):
    frames = summary.frames
    assert frames["read"] == frames["delivered"] + sum(frames["dropped"].values())
    for name, counts in summary.streams.items():
        assert counts.delivered == frames["delivered"], name
        assert counts.delivered == counts.sampled + sum(counts.skipped.values()), name
        assert counts.points == counts.sampled + counts.repeated + counts.reset, name
        assert all(counts.skipped), "a skip without a reason"
        assert all(counts.held), "a point that was not due without a reason"
    assert set(summary.streams) == set(STREAMS)


def grid_points(spec, stream_name, first, last):
    """Points that frames from ``first`` to ``last`` resolve, counted one by one."""
    k = 0
    while 2 * (first + k * 10**12 // spec.streams[stream_name].rate_mhz) < 2 * last + PERIOD:
        k += 1
    return k


def test_a_plain_file_uses_every_grid_point(bundle, tiny_spec):
    count = 130
    _, predictions, summary = play(bundle, Textured([k * PERIOD for k in range(count)]), gates="open")
    check_identities(summary)
    assert summary.frames == {"read": count, "delivered": count, "dropped": {}}
    for name, counts in summary.streams.items():
        points = grid_points(tiny_spec, name, 0, (count - 1) * PERIOD)
        assert (counts.points, counts.repeated, counts.reset, counts.held) == (points, 0, 0, {})
        assert counts.skipped == {"between points": count - points}
    assert summary.resets == {"start": 1}
    assert [p.t_ns for p in predictions] == [k * tiny_spec.hop_ns for k in range(1, len(predictions) + 1)]
    assert len(predictions) == (2 * (count - 1) * PERIOD + PERIOD - 1) // (2 * tiny_spec.hop_ns)


def test_known_faults_give_exactly_their_counts(bundle, tiny_spec):
    """3 corrupt pictures in two places, 2 bad timestamps, a gap of a second, and a clock that steps back."""
    script: list = [k * PERIOD for k in range(40)]  # 0 … 1.56 s
    script += ["corrupt"] + [k * PERIOD for k in range(41, 60)]
    script += [55 * PERIOD, 59 * PERIOD]  # late, and the same again
    script += ["corrupt", "corrupt"] + [k * PERIOD for k in range(62, 80)]
    script += [k * PERIOD + SECOND for k in range(80, 100)]
    script += [k * PERIOD - 50 * SECOND for k in range(100, 140)]
    good = sum(isinstance(item, int) for item in script)
    session, _, summary = play(bundle, Textured(script))
    check_identities(summary)
    assert summary.frames["read"] == len(script)
    assert summary.frames["dropped"] == {"corrupt": 3, "timestamp": 2}
    assert summary.frames["delivered"] == good - 2
    assert summary.resets == {"start": 1, "corrupt": 2, "gap": 1, "clock stepped back": 1}
    # the points between the last frame of a segment and the first of the next were lost
    segments = [(0, 39), (41, 59), (62, 79)]
    times = [(a * PERIOD, b * PERIOD) for a, b in segments]
    times += [
        (80 * PERIOD + SECOND, 99 * PERIOD + SECOND),
        (100 * PERIOD - 50 * SECOND, 139 * PERIOD - 50 * SECOND),
    ]
    for name, counts in summary.streams.items():
        resolved = sum(grid_points(tiny_spec, name, a, b) for a, b in times)
        assert counts.sampled + counts.repeated + sum(counts.held.values()) == resolved, name
        lost = 0
        for (first, last), (following, _) in zip(times[:-1], times[1:], strict=True):
            rate = tiny_spec.streams[name].rate_mhz
            if following > last:
                all_until = next(k for k in range(10**6) if first + k * 10**12 // rate >= following)
                lost += max(0, all_until - grid_points(tiny_spec, name, first, last))
        assert counts.reset == lost, name
    session.sampler.check_counts()


def test_a_camera_slower_than_a_stream_repeats(bundle):
    """8 frames a second for a stream of 15: the last picture stands in, and no expert runs on it twice."""
    period = SECOND // 8
    session = Session(bundle, period_ns=period, gates="open")
    with Feed(Textured([k * period for k in range(40)])) as feed:
        for _ in stream(session, feed):
            pass
    summary = session.summarise(feed)
    check_identities(summary)
    temporal = summary.streams["temporal"]
    assert temporal.sampled == 40
    assert temporal.repeated > 20
    assert summary.streams["hybrid"].repeated == 0


def test_a_resolution_change_in_mid_stream_starts_anew(bundle, tiny_spec):
    sizes = dict.fromkeys(range(70, 200), (120, 160))
    _, predictions, summary = play(bundle, Textured([k * PERIOD for k in range(140)], sizes))
    check_identities(summary)
    assert summary.resets == {"start": 1, "resolution": 1}
    ready = [p.ready for p in predictions]
    again = predictions[ready.index(True) :]
    assert not all(p.ready for p in again), "the window must fill anew"
    late = [p for p in predictions if p.t_ns > 70 * PERIOD]
    assert [p.ready for p in late] == [p.t_ns - 70 * PERIOD >= tiny_spec.window_ns for p in late]


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 1), (17, 33), (2, 400)])
def test_odd_frames_down_to_one_pixel_are_streamed(bundle, shape):
    session = Session(bundle, period_ns=PERIOD)
    made = []
    for k in range(60):
        frame = np.full((*shape, 3), k % 256, np.uint8)
        made += session.push(Frame(frame, k * PERIOD, k)) or []
    assert made
    assert all(np.isfinite(list(p.scores.values())).all() for p in made)
    session.sampler.check_counts()


def test_strides_do_not_matter(bundle):
    """Padded rows, an odd stride, a crop and upside down: the same pixels give the same scores, bit for bit."""
    pictures = np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3), dtype=np.uint8)

    def pad(image):
        wide = np.zeros((48, 64 * 3 + 7), np.uint8)
        wide[:, : 64 * 3] = image.reshape(48, -1)
        return np.lib.stride_tricks.as_strided(wide, image.shape, (wide.strides[0], 3, 1))

    ways = {
        "plain": lambda image: image,
        "odd stride": pad,
        "crop": lambda image: np.pad(image, ((2, 3), (5, 1), (0, 0)))[2:-3, 5:-1],
        "upside down": lambda image: image[::-1].copy()[::-1],
    }
    scores = {}
    for name, way in ways.items():
        session, made = Session(bundle, period_ns=PERIOD), []
        for k, picture in enumerate(pictures):
            made += session.push(Frame(way(picture), k * PERIOD, k)) or []
        scores[name] = [p.scores for p in made]
    assert scores["plain"]
    assert all(found == scores["plain"] for found in scores.values())


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((48, 64), np.uint8),
        np.zeros((48, 64, 4), np.uint8),
        np.zeros((48, 64, 3), np.float32),
        np.zeros((48, 128, 3), np.uint8)[:, ::2],
    ],
    ids=["grey", "four channels", "float", "pixel stride"],
)
def test_what_is_no_frame_is_refused_with_what_was_expected(bundle, image):
    with pytest.raises(ValueError, match="expected"):
        Session(bundle).push(Frame(image, 0, 0))


# ---- predictions --------------------------------------------------------------------------------


def test_predictions_are_ready_after_the_first_full_window(bundle, tiny_spec):
    _, predictions, summary = play(bundle, Textured([k * PERIOD for k in range(130)]))
    for p in predictions:
        assert p.ready == (p.t_ns >= tiny_spec.window_ns)
        assert not p.partial
    assert summary.decisions == len(predictions)
    assert summary.ready == sum(p.ready for p in predictions)


@pytest.mark.parametrize("frames", [1, 2, 12, 13, 48])
def test_a_file_shorter_than_a_window_gives_one_partial_decision_at_its_end(bundle, frames):
    _, predictions, summary = play(bundle, Textured([k * PERIOD for k in range(frames)]))
    *before, last = predictions
    assert (last.ready, last.partial, last.t_ns) == (True, True, (frames - 1) * PERIOD)
    assert not any(p.ready or p.partial for p in before)
    assert summary.ready == 1
    check_identities(summary)


def test_no_frame_at_all_gives_no_decision(bundle):
    _, predictions, summary = play(bundle, Textured(["corrupt"]))
    assert predictions == []
    assert summary.frames == {"read": 1, "delivered": 0, "dropped": {"corrupt": 1}}


def test_every_decision_says_what_ran_and_why_the_rest_did_not(bundle, tiny_spec):
    """On a scene that stands still after a while."""
    source = Textured([k * PERIOD for k in range(300)], still=True)
    _, predictions, summary = play(bundle, source)
    for p in predictions:
        assert set(p.experts_fired) == set(STREAMS)
        for name in STREAMS:
            assert (p.experts_fired[name] == 0) == (name in p.skipped), "a skip has a reason, and only a skip"
        assert all(p.skipped.values())
        assert sum(p.scores.values()) == pytest.approx(1.0)
        assert set(p.scores) == set(tiny_spec.labels)
        assert p.label == max(p.scores, key=lambda label: p.scores[label])
        for name in EXPERTS:
            assert len(p.fired_ns[name]) <= p.experts_fired[name]
    assert {p.skipped.get("temporal") for p in predictions[-4:]} == {"still picture"}
    last = predictions[-1]
    assert last.ages_ms["temporal"] is None, "nothing moved within the window: the expert is absent"
    assert last.ages_ms["spatial"] is not None, "the newest picture stays in view"
    assert last.ages_ms["spatial"] > tiny_spec.window_s * 1e3
    assert summary.macs < summary.macs_always_on


def test_macs_add_up(bundle, tiny_spec):
    _, predictions, summary = play(bundle, Textured([k * PERIOD for k in range(100)]))
    macs = bundle.macs
    for p in predictions:
        experts = sum(p.experts_fired[name] * macs[graph] for name, graph in GRAPH_OF.items())
        assert p.macs == experts + macs["hybrid_attend"] + macs["fusion"] + macs["head"]
    experts = sum(summary.experts_fired[name] * macs[graph] for name, graph in GRAPH_OF.items())
    decisions = summary.decisions * (macs["hybrid_attend"] + macs["fusion"] + macs["head"])
    assert summary.macs == experts + decisions
    rates = {"analyzer": 5 * 1, "spatial": 2 * 2, "hybrid": 5 * 2, "temporal": 15 * 1}
    by_hand = sum(rate * macs[GRAPH_OF[name]] for name, rate in rates.items()) * Fraction(1, 2)
    assert always_on_macs(tiny_spec, macs) == float(by_hand) + sum(
        macs[g] for g in ("hybrid_attend", "fusion", "head")
    )


def test_replayed_steps_are_cost(bundle, tiny_spec):
    """A gate that reopens replays one receptive field, less the frame itself, and says so."""
    script = [k * PERIOD for k in range(300)]
    source = Textured(script, still=True)
    source._still = False
    session, predictions = Session(bundle, period_ns=PERIOD), []
    with Feed(source) as feed:
        for frame, made in stream(session, feed):
            source._still = 60 < frame.index < 240
            predictions += made
    replayed = [p.replayed for p in predictions]
    reopened = [p for p in predictions if p.t_ns > 240 * PERIOD and p.replayed]
    assert reopened
    assert reopened[0].replayed % (tiny_spec.receptive_field - 1) == 0
    assert session.summarise(feed).replayed == sum(replayed)


def test_nothing_says_a_label_as_if_it_were_trained(bundle):
    _, predictions, summary = play(bundle, Textured([k * PERIOD for k in range(60)]))
    for p in predictions:
        assert not p.trained
        assert UNTRAINED in p.shown_label
        assert p.as_json()["label"] == UNTRAINED
        assert p.as_json()["trained"] is False
        trained = msgspec.structs.replace(p, trained=True, ready=True)
        assert trained.shown_label == trained.as_json()["label"] == p.label
    assert not summary.trained
    assert summary.random_weights


def test_a_session_over_a_real_clip_adds_up(bundle, real_clip):
    source = open_source(str(real_clip))
    session = Session(bundle, period_ns=source.period_ns)
    with Feed(source) as feed:
        predictions = [p for _, made in stream(session, feed) for p in made]
    summary = session.summarise(feed)
    check_identities(summary)
    assert summary.frames["delivered"] == 250
    assert len(predictions) == 19
    assert all(summary.experts_fired.values())
    assert np.std([list(p.scores.values()) for p in predictions], axis=0).max() > 1e-3


@pytest.mark.parametrize("max_skip_s", [1.0, 4.0])
def test_max_skip_bounds_every_experts_rest(bundle, max_skip_s):
    """On a picture that never moves, each expert still looks once every max skip."""
    _, predictions, _ = play(
        bundle, Textured([k * PERIOD for k in range(450)], still=True), max_skip_s=max_skip_s
    )
    for name in STREAMS:
        times = sorted(t for p in predictions for t in p.fired_ns[name])
        rests = np.diff([*times, predictions[-1].t_ns]) / SECOND
        # the next grid point of the stream's floor rate may be up to an interval later
        assert rests.max() <= max_skip_s + 2.1

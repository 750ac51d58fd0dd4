"""Streaming equals the whole-clip forward: every decision, beyond the first window, whatever the gates do."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the whole-clip forward needs torch")
av = pytest.importorskip("av")

sys.path.insert(0, str(Path(__file__).parent))
from oracle import Oracle, resolve  # noqa: E402

from vidprism_edge.bundle import Bundle  # noqa: E402
from vidprism_edge.runtimes.engines import EngineOptions  # noqa: E402
from vidprism_edge.runtimes.streaming.geometry import Scene, snap  # noqa: E402
from vidprism_edge.runtimes.streaming.policy import ContentPolicy, Plan  # noqa: E402
from vidprism_edge.runtimes.streaming.session import Session  # noqa: E402
from vidprism_edge.runtimes.streaming.slots import TokenSlots  # noqa: E402
from vidprism_edge.runtimes.streaming.source import Frame  # noqa: E402
from vidprism_edge.spec import STREAMS  # noqa: E402

ATOL = RTOL = 1e-4
# the pictures are small: more threads only wait for one another
THREADS = EngineOptions(1)
SECONDS = 13.0  # five windows beyond the first, and a little
RATES = (10.0, 12.5, 15.0, 25.0, 29.97)


class Logged:
    """Any policy, with what it said at each frame."""

    def __init__(self, policy):
        self.policy, self.plans, self.frame = policy, {}, 0

    def observe(self, stats, t_ns):
        self.plans[self.frame] = self.policy.observe(stats, t_ns)
        return self.plans[self.frame]

    def __getattr__(self, name):
        return getattr(self.policy, name)


class RandomPolicy:
    """Gates that close and reopen, rates and regions that change, epochs that begin, all at random."""

    def __init__(self, spec, seed, calm_ns=0):
        self.spec, self.rng, self.calm_ns = spec, np.random.default_rng(seed), calm_ns
        self.until = dict.fromkeys(STREAMS, 0)
        self.state = {}

    def reset(self, scene, small, t_ns):
        self.scene, self.small, self.t0 = scene, small, t_ns
        self.until = dict.fromkeys(STREAMS, t_ns + self.calm_ns)
        self.state = {name: (1, self._boxes(name)) for name in STREAMS}

    def _boxes(self, name):
        scene = self.small if name == "temporal" else self.scene
        centre = self.rng.uniform(0, scene.width), self.rng.uniform(0, scene.height)
        box = snap(scene, centre, self.rng.uniform(16, 200), self.spec.streams[name].size_px)
        if name == "temporal":
            return (box if self.rng.random() < 0.8 else scene.whole,)
        both = self.rng.random() < 0.7 and self.spec.streams[name].regions == 2
        return (scene.whole, box) if both else (scene.whole,)

    def observe(self, stats, t_ns):
        for name in STREAMS:
            if t_ns >= self.until[name]:
                closed = self.rng.random() < 0.35
                # a gate that reopens on the box that it had is the hardest to tell from one that never closed
                boxes = self.state[name][1] if self.rng.random() < 0.5 else self._boxes(name)
                self.state[name] = (0 if closed else int(self.rng.integers(1, 4)), boxes)
                self.until[name] = t_ns + int(self.rng.uniform(0.1, 2.0) * 1e9)
        # the temporal expert's rate is constant: it is on or off
        intervals = {n: min(i, 1) if n == "temporal" else i for n, (i, _) in self.state.items()}
        boxes = {n: b for n, (_, b) in self.state.items()}
        return Plan(intervals, dict.fromkeys(STREAMS, "random"), {**boxes, "analyzer": (self.scene.whole,)})

    def read_maps(self, saliency, motion, t_ns):
        pass

    def ran(self, stream, t_ns):
        pass


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pictures(real_clip):
    """Real frames, half of a second's motion after another, played forwards and backwards without end."""
    with av.open(str(real_clip)) as container:
        frames = [f.to_ndarray(format="bgr24")[:, ::2][::2].copy() for f in container.decode(video=0)]
    return frames + frames[-2:0:-1]


def make_times(fps, seed, *, seconds=SECONDS, late=0.0, missing=0.0, milliseconds=False, origin=0):
    rng = np.random.default_rng(seed)
    count = int(seconds * fps)
    times = origin + np.arange(count) * 1e9 / fps
    times = times + rng.uniform(0, late, count) * 1e9 / fps
    keep = np.ones(count, bool)
    keep[1:] = rng.random(count - 1) >= missing
    if milliseconds:
        times = np.round(times / 1e6) * 1e6
    return [int(t) for t in times[keep]]


def run(bundle, policy, frames, times, period, resets=None):
    """Stream → {decision time of each segment: logits}, in order."""
    session = Session(bundle, policy=policy, period_ns=period, options=THREADS)
    head, logits = session._engines["head"], []
    infer = head.infer

    def record(inputs):
        outputs = infer(inputs)
        logits.append(outputs["logits"][0].copy())
        return outputs

    head.infer = record
    decisions = []
    for i, t in enumerate(times):
        policy.frame = i
        made = session.push(Frame(frames[i], t, i, "corrupt" if resets and resets[i] else None))
        decisions += made or []
    session.sampler.check_counts()
    return decisions, np.array(logits)


def compare(net, spec, frames, times, period, policy, decisions, logits, resets=None):
    """Whole-clip forward of every segment against the stream; returns the largest share of the tolerance."""
    oracle = Oracle(spec, frames, times, period, policy.plans, resets)
    clips = oracle.clips()
    expected_times = [t for clip in clips for t in clip.decisions_ns]
    assert [d.t_ns for d in decisions] == expected_times
    with torch.inference_mode():
        expected = torch.cat([net(clip) for clip in clips if clip.decisions_ns]).numpy()
    share = np.abs(logits - expected) / (ATOL + RTOL * np.abs(expected))
    return float(share.max()), expected


def check(net, bundle, spec, pictures, times, period, inner, resets=None):
    frames = [pictures[i % len(pictures)] for i in range(len(times))]
    policy = Logged(inner)
    decisions, logits = run(bundle, policy, frames, times, period, resets)
    share, expected = compare(net, spec, frames, times, period, policy, decisions, logits, resets)
    assert share <= 1.0, f"off by {share:.1f} times the tolerance"
    # the network must look at its input, or agreement would mean nothing
    assert expected.std(axis=0).max() > 50 * ATOL
    return decisions


@pytest.mark.parametrize("fps", RATES)
def test_all_gates_open(tiny_net, tiny_bundle, tiny_spec, pictures, fps):
    """Five windows beyond the first at every source rate."""
    decisions = check(
        tiny_net, Bundle.open(tiny_bundle), tiny_spec, pictures, make_times(fps, 1), round(1e9 / fps),
        ContentPolicy(tiny_spec, always_open=True),
    )  # fmt: skip
    assert sum(d.ready for d in decisions) >= 5 * tiny_spec.window_s / tiny_spec.hop_s


TIMINGS = {
    "exact": {},
    "milliseconds": {"milliseconds": True},
    "late": {"late": 0.4},
    "missing": {"missing": 0.2},
    "late and missing": {"late": 0.3, "missing": 0.1, "origin": 77},
}
# every rate and every timing once; the whole matrix runs with the slow tests
MATRIX = [
    pytest.param(fps, timing, id=f"{fps}-{name}", marks=() if (i + j) % len(RATES) == 0 else pytest.mark.slow)
    for i, fps in enumerate(RATES)
    for j, (name, timing) in enumerate(TIMINGS.items())
]


@pytest.mark.parametrize(("fps", "timing"), MATRIX)
def test_gates_and_epochs_at_random(tiny_net, tiny_bundle, tiny_spec, pictures, fps, timing):
    """Gates close and reopen, epochs and rates change; late, missing and rounded timestamps."""
    seed = int(fps * 10) + len(timing)
    check(
        tiny_net, Bundle.open(tiny_bundle), tiny_spec, pictures, make_times(fps, seed, **timing), round(1e9 / fps),
        RandomPolicy(tiny_spec, seed),
    )  # fmt: skip


def test_gaps_resets_and_a_clock_that_steps_back(tiny_net, tiny_bundle, tiny_spec, pictures):
    """Each reset starts a new clip; nothing of the past leaks into it."""
    times = make_times(25.0, 5)
    times[100:] = [t + 900_000_000 for t in times[100:]]
    times[200:] = [t - 5_000_000_000 for t in times[200:]]
    times[150] = times[149]
    resets = [i == 260 for i in range(len(times))]
    check(
        tiny_net,
        Bundle.open(tiny_bundle),
        tiny_spec,
        pictures,
        times,
        40_000_000,
        RandomPolicy(tiny_spec, 9),
        resets,
    )


def test_the_grid_equals_its_definition_for_regular_sources():
    """Point k takes the newest frame with timestamp ≤ t_k + half a source period, each frame at most once."""
    for fps in (8.0, *RATES, 30.0):
        period = round(1e9 / fps)
        times = make_times(fps, 0, seconds=60.0)
        doubled = 2 * np.asarray(times)
        for rate in (2000, 5000, 15000):
            used = set()
            for point in resolve(times, period, rate):
                newest = int(np.searchsorted(doubled, 2 * point.t_ns + period, side="right")) - 1
                assert point.picture == newest
                assert point.fresh == (newest not in used)
                used.add(newest)


# Planted errors: each must be seen by the comparison above, or it proves nothing.


def _late_grid(monkeypatch):
    """The temporal expert takes the small frame one grid point too early."""
    from vidprism_edge.runtimes.streaming.sampler import StreamSampler

    crop = StreamSampler.crop_small
    monkeypatch.setattr(
        StreamSampler, "crop_small", lambda self, k, box, out: crop(self, max(0, k - 1), box, out)
    )


def _stale_state(monkeypatch):
    """A closed gate keeps the temporal state instead of rebuilding it."""
    from vidprism_edge.runtimes.streaming.session import TemporalRunner

    monkeypatch.setattr(
        TemporalRunner, "stop", lambda self: None if hasattr(self, "box") else _first_stop(self)
    )


def _first_stop(runner):
    runner.box, runner._state = None, runner._zero


def _short_replay(monkeypatch):
    """An epoch replays too little of the past."""
    from vidprism_edge.runtimes.streaming import session

    original = session.TemporalRunner.__init__

    def shorter(self, spec, engine):
        original(self, spec, engine)
        self._field //= 2

    monkeypatch.setattr(session.TemporalRunner, "__init__", shorter)


def _wrong_epoch(monkeypatch):
    """Steps go on in the box of the epoch before."""
    from vidprism_edge.runtimes.streaming.session import TemporalRunner

    step = TemporalRunner.step
    monkeypatch.setattr(TemporalRunner, "step", lambda self, s, k, box: step(self, s, k, self.box or box))


def _no_clear(monkeypatch):
    """Tokens survive a reset."""
    monkeypatch.setattr(TokenSlots, "clear", lambda self: setattr(self, "_next", getattr(self, "_next", 0)))


def _old_tokens_seen(monkeypatch):
    """The window is one hop too long."""
    original = TokenSlots.view

    def longer(self, t_ns):
        self._window_ns = 2_500_000_000
        return original(self, t_ns)

    monkeypatch.setattr(TokenSlots, "view", longer)


def _swapped_regions(monkeypatch):
    """The spatial tokens of the whole frame and of the region change places: only the pictures tell."""
    put = TokenSlots.put

    def swapped(self, t_ns, boxes, tokens):
        put(self, t_ns, boxes, tokens[::-1] if self.stream == "spatial" else tokens)

    monkeypatch.setattr(TokenSlots, "put", swapped)


def _no_look_back(monkeypatch):
    """Tokens of the region before stay in the window when the region changes."""
    from vidprism_edge.runtimes.streaming.session import TemporalRunner

    step = TemporalRunner.step
    monkeypatch.setattr(TemporalRunner, "step", lambda self, s, k, box: (step(self, s, k, box)[0], False))


PLANTS = (
    _late_grid, _stale_state, _short_replay, _wrong_epoch, _no_clear, _old_tokens_seen, _swapped_regions,
    _no_look_back,
)  # fmt: skip


@pytest.mark.parametrize(
    "plant",
    PLANTS,
    ids=lambda f: f.__name__,
)
def test_a_planted_error_is_seen(tiny_net, tiny_bundle, tiny_spec, pictures, monkeypatch, plant):
    plant(monkeypatch)
    times = make_times(12.5, 4)
    times[60:] = [t + 700_000_000 for t in times[60:]]
    with pytest.raises(AssertionError, match="times the tolerance"):
        check(
            tiny_net, Bundle.open(tiny_bundle), tiny_spec, pictures, times, 80_000_000,
            RandomPolicy(tiny_spec, 6, calm_ns=500_000_000),
        )  # fmt: skip


def test_a_reopened_expert_equals_one_that_never_closed(tiny_bundle, tiny_spec, pictures):
    """Bit for bit: the tokens after reopening are those of an expert that ran all the time."""

    class Switch(RandomPolicy):
        def __init__(self, spec, closed):
            super().__init__(spec, 0)
            self.closed = closed

        def observe(self, stats, t_ns):
            whole = self.scene.whole
            on = 0 if self.closed[0] <= t_ns < self.closed[1] else 1
            boxes = {
                **dict.fromkeys(("analyzer", "spatial", "hybrid"), (whole,)),
                "temporal": (self.small.whole,),
            }
            return Plan({**dict.fromkeys(STREAMS, 1), "temporal": on}, {}, boxes)

    times = make_times(15.0, 0, seconds=7.0)
    tokens = []
    for closed in ((0, 0), (2_000_000_000, 3_500_000_000)):
        session = Session(
            Bundle.open(tiny_bundle), policy=Switch(tiny_spec, closed), period_ns=round(1e9 / 15)
        )
        seen = {}
        put = session._slots["temporal"].put
        session._slots["temporal"].put = lambda t, b, v, put=put, seen=seen: (
            seen.update({t: v[0]}),
            put(t, b, v),
        )
        for i, t in enumerate(times):
            session.push(Frame(pictures[i % len(pictures)], t, i))
        tokens.append(seen)
    always, reopened = tokens
    after = [t for t in reopened if t >= 3_500_000_000]
    assert len(after) > 40
    for t in after:
        for name in ("temporal_tokens", "motion_maps"):
            assert np.array_equal(always[t][name], reopened[t][name])


def test_scene_of_small_frames_is_the_native_cores(tiny_bundle, tiny_spec):
    """The small frame's size is computed in two places; they must agree at every aspect."""
    for shape in ((1, 1), (240, 320), (1080, 1920), (1079, 1921), (333, 57), (721, 1279)):
        session = Session(Bundle.open(tiny_bundle))
        session.push(Frame(np.zeros((*shape, 3), np.uint8), 0, 0))
        small = session.sampler.small
        assert (small.height, small.width) == session.sampler._native.small_shape
        assert isinstance(replace(session.sampler.plan), Plan)
        assert isinstance(small, Scene)


@pytest.mark.slow
@pytest.mark.parametrize("gates", ["open", "auto", "random"])
def test_preset_nano_on_real_video(tmp_path_factory, pictures, gates):
    """The network that ships, with its pretrained encoder."""
    from vidprism_edge.export.pipeline import ExportOptions, export_bundle
    from vidprism_edge.model.network import build
    from vidprism_edge.spec import load_preset

    spec = load_preset("nano")
    folder = tmp_path_factory.getbasetemp() / "nano.vpbundle"
    if not folder.exists():
        export_bundle(ExportOptions(spec, ("onnx",), folder, seed=1))
    policy = RandomPolicy(spec, 2) if gates == "random" else ContentPolicy(spec, always_open=gates == "open")
    check(
        build(spec, seed=1), Bundle.open(folder), spec, pictures, make_times(29.97, 2, milliseconds=True),
        round(1e9 / 29.97), policy,
    )  # fmt: skip

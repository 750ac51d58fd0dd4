"""The temporal expert: steps equal the clip, causal, and with exactly the receptive field that the spec states."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the network needs torch")

LENGTH = 24


@pytest.fixture(scope="module")
def expert(tiny_net):
    return tiny_net.temporal


@pytest.fixture(scope="module")
def clip(tiny_spec):
    side = tiny_spec.streams["temporal"].size_px
    return torch.randn(1, 3, LENGTH, side, side, generator=torch.Generator().manual_seed(0))


def whole(expert, clip):
    with torch.inference_mode():
        tokens, maps, _ = expert(clip, expert.initial_state())
    return tokens[0], maps[0]


def steps(expert, clip, state=None):
    tokens, maps, state = [], [], state or expert.initial_state()
    with torch.inference_mode():
        for t in range(clip.shape[2]):
            token, motion_map, state = expert(clip[:, :, t : t + 1], state)
            tokens.append(token[0, 0])
            maps.append(motion_map[0, 0])
    return torch.stack(tokens), torch.stack(maps)


def changed(a, b) -> list[int]:
    """Steps whose token or map differs at all."""
    return [
        t for t in range(len(a[0])) if not (torch.equal(a[0][t], b[0][t]) and torch.equal(a[1][t], b[1][t]))
    ]


def test_steps_equal_the_clip(expert, clip):
    for found, expected in zip(steps(expert, clip), whole(expert, clip), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert whole(expert, clip)[0].std() > 0.05, "a network that ignores its input would pass"


def test_one_frame_reaches_forward_by_exactly_the_receptive_field(expert, clip, tiny_spec):
    """It changes nothing before itself, something at every step it reaches, and nothing after."""
    at, field = 5, tiny_spec.receptive_field
    other = clip.clone()
    other[:, :, at] += 3.0
    found = changed(steps(expert, clip), steps(expert, other))
    assert found == list(range(at, at + field))
    assert field < LENGTH - at


@settings(max_examples=10, deadline=None)
@given(at=st.integers(0, LENGTH - 1), sign=st.sampled_from([-1.0, 1.0]))
def test_nothing_comes_from_the_future(expert, clip, at, sign):
    other = clip.clone()
    other[:, :, at:] += sign
    assert not [t for t in changed(steps(expert, clip), steps(expert, other)) if t < at]


def test_replaying_one_receptive_field_equals_never_having_stopped(expert, clip, tiny_spec):
    """From zero state; and a frame less does not."""
    field = tiny_spec.receptive_field
    always = steps(expert, clip)
    for end in (field, LENGTH - 1):
        replayed = steps(expert, clip[:, :, end - field + 1 : end + 1])
        assert torch.equal(always[0][end], replayed[0][-1])
        assert torch.equal(always[1][end], replayed[1][-1])
    short = steps(expert, clip[:, :, LENGTH - field + 1 :])
    assert not torch.equal(always[0][-1], short[0][-1])


def test_the_state_is_a_value(expert, clip):
    """A step changes nothing of what it was given, so a state may be kept and used again."""
    state = [torch.randn_like(s) for s in expert.initial_state()]
    kept = [s.clone() for s in state]
    first, second = steps(expert, clip[:, :, :1], state), steps(expert, clip[:, :, :1], state)
    assert not changed(first, second)
    assert all(torch.equal(a, b) for a, b in zip(state, kept, strict=True))


def test_state_shapes_are_those_of_the_tensors(expert, clip):
    _, _, state = expert(clip[:, :, :1], expert.initial_state())
    assert [tuple(s.shape[1:]) for s in state] == [tuple(s) for s in expert.state_shapes]


def test_motion_maps_are_weights(expert, clip, tiny_spec):
    maps = whole(expert, clip)[1]
    assert maps.shape == (LENGTH, tiny_spec.temporal.grid, tiny_spec.temporal.grid)
    assert 0.0 <= float(maps.min()) <= float(maps.max()) <= 1.0

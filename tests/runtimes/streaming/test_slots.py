"""Token slots: what a decision sees, against a plain list of everything that was ever put in."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vidprism_edge.runtimes.streaming.geometry import WHOLE, interpolation
from vidprism_edge.runtimes.streaming.slots import TokenSlots
from vidprism_edge.spec import load_preset

SPEC = load_preset("nano")
SECOND = 10**9
SHAPE = (3, 2)
BOXES = st.tuples(st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0.1, 0.5), st.floats(0.1, 0.5))


def make(stream: str, map_side: int = 0) -> TokenSlots:
    return TokenSlots(SPEC, stream, {f"{stream}_tokens": SHAPE}, map_side)


def token(number: int) -> np.ndarray:
    return np.full(SHAPE, number, np.float32)


PUTS = st.lists(st.tuples(st.integers(1, 3 * SECOND), st.integers(1, 2), BOXES), max_size=40)


@settings(max_examples=150, deadline=None)
@given(
    puts=PUTS, later=st.integers(0, 40 * SECOND), stream=st.sampled_from(["spatial", "hybrid", "temporal"])
)
def test_a_decision_sees_the_window_and_the_newest_sample(puts, later, stream):
    """As many samples as there are slots; each as old as it is; the newest for ``stale_s``."""
    slots, t, put = make(stream, 4), 0, []
    spec = SPEC.streams[stream]
    period = int(SECOND / spec.rate_hz)
    for step, regions, box in puts:
        t += max(step, period)  # a stream never comes faster than its ceiling
        boxes = [WHOLE, box][: min(regions, spec.regions)]
        values = [{f"{stream}_tokens": token(len(put) * 2 + r)} for r in range(len(boxes))]
        slots.put(t, boxes, values)
        put.append((t, boxes))
    now = t + later
    inputs, age = slots.view(now)
    newest = put[-1][0] if put else None
    expected = {}
    for i, (at, boxes) in enumerate(put):
        stale = at == newest and now - at <= spec.stale_s * 1e9
        if now - at < SPEC.window_ns or stale:
            for r, box in enumerate(boxes):
                expected[i * 2 + r] = ((now - at) / 1e9, *box)
    mask = inputs[f"{stream}_mask"][0]
    tokens, meta = inputs[f"{stream}_tokens"][0], inputs[f"{stream}_meta"][0]
    assert mask.shape == (SPEC.slots(stream) * spec.regions,)
    found = {int(tokens[i, 0, 0]): tuple(meta[i]) for i in np.flatnonzero(mask)}
    assert found.keys() == expected.keys()
    for number, values in expected.items():
        np.testing.assert_allclose(found[number], values, rtol=1e-5, atol=1e-6)
    assert (age is None) == (not expected)
    if age is not None:
        assert age == (now - newest) / 1e9
    for i in np.flatnonzero(mask):
        box = expected[int(tokens[i, 0, 0])][1:]
        forth = interpolation(box, WHOLE, 4, SPEC.scene_grid)
        np.testing.assert_allclose(inputs[f"{stream}_to_scene"][0, i], forth, atol=1e-5)
        back = interpolation(WHOLE, box, SPEC.scene_grid, 4)
        np.testing.assert_allclose(inputs[f"scene_to_{stream}"][0, i], back, atol=1e-5)


def test_a_full_window_uses_every_slot_and_one_sample_more_pushes_the_oldest_out():
    slots, rows = make("hybrid"), SPEC.slots("hybrid")
    period = int(SECOND / SPEC.streams["hybrid"].rate_hz)
    for i in range(rows + 1):
        slots.put(i * period, [WHOLE, WHOLE], [{"hybrid_tokens": token(i)}] * 2)
        inputs, _ = slots.view(i * period)
        assert inputs["hybrid_mask"].sum() == 2 * min(i + 1, rows)
    assert {int(v) for v in inputs["hybrid_tokens"][0, :, 0, 0]} == set(range(1, rows + 1))


def test_slots_are_oldest_first_and_regions_side_by_side():
    slots = make("spatial")
    for i in range(3):
        slots.put(i * SECOND // 2, [WHOLE, WHOLE], [{"spatial_tokens": token(2 * i + r)} for r in range(2)])
    inputs, _ = slots.view(SECOND)
    seen = inputs["spatial_tokens"][0, inputs["spatial_mask"][0] > 0, 0, 0]
    assert list(seen) == sorted(seen) == [0, 1, 2, 3, 4, 5]


def test_a_region_that_was_not_sampled_stays_masked():
    slots = make("spatial")
    slots.put(0, [WHOLE, WHOLE], [{"spatial_tokens": token(1)}] * 2)
    for _ in range(SPEC.slots("spatial")):
        slots.put(1, [WHOLE], [{"spatial_tokens": token(2)}])
    inputs, _ = slots.view(2)
    assert inputs["spatial_mask"].sum() == SPEC.slots("spatial")
    assert set(inputs["spatial_tokens"][0, inputs["spatial_mask"][0] > 0, 0, 0]) == {2.0}


def test_a_sample_of_the_future_is_not_seen():
    """A frame resolves points up to half a period beyond it; a decision before them must not know."""
    slots = make("hybrid")
    slots.put(5, [WHOLE], [{"hybrid_tokens": token(1)}])
    slots.put(200_000_000, [WHOLE], [{"hybrid_tokens": token(2)}])
    inputs, age = slots.view(100_000_000)
    assert inputs["hybrid_mask"].sum() == 1
    assert age == (100_000_000 - 5) / 1e9


def test_clear_forgets_everything():
    slots = make("temporal")
    slots.put(0, [WHOLE], [{"temporal_tokens": token(1)}])
    slots.clear()
    inputs, age = slots.view(1)
    assert age is None
    assert not inputs["temporal_mask"].any()
    assert not inputs["temporal_meta"][..., 0].any()


def test_what_a_graph_reads_is_the_buffer_itself():
    """Contiguous and uncopied, float32: a decision costs no copy of the tokens."""
    slots = make("hybrid")
    for i in range(25):
        slots.put(i, [WHOLE, WHOLE], [{"hybrid_tokens": token(i)}] * 2)
        tokens = slots.view(i)[0]["hybrid_tokens"]
        assert tokens.dtype == np.float32
        assert tokens.flags.c_contiguous
        assert np.shares_memory(tokens, slots._buffers["hybrid_tokens"])


def filled(count: int) -> tuple[TokenSlots, int]:
    """Temporal slots with ``count`` numbered samples on the grid, and the time of the last."""
    slots, t = make("temporal", 4), 0
    for number in range(count):
        t = number * 10**12 // SPEC.streams["temporal"].rate_mhz
        slots.put(t, [(number / 100, 0.0, 0.5, 0.5)], [{"temporal_tokens": token(number)}])
    return slots, t


def test_the_newest_sample_stands_for_the_grid_points_after_it():
    slots, t = filled(40)
    rows = slots.rows
    for later in (0, 3, rows - 1, rows + 7):
        slots, t = filled(40)
        now = t + later * 10**12 // SPEC.streams["temporal"].rate_mhz
        slots.repeat(now)
        inputs, age_s = slots.view(now)
        numbers = [min(39, 39 + later - n) for n in range(rows - 1, -1, -1)]
        assert inputs["temporal_mask"].all()
        assert list(inputs["temporal_tokens"][0, :, 0, 0]) == numbers
        np.testing.assert_allclose(inputs["temporal_meta"][0, :, 1], np.array(numbers) / 100, rtol=1e-6)
        ages = np.arange(rows)[::-1] / SPEC.streams["temporal"].rate_hz
        np.testing.assert_allclose(inputs["temporal_meta"][0, :, 0], ages, atol=1e-6)
        assert age_s == (now - t) / SECOND, "a token is as old as its computation"
        slots.repeat(now)
        again, _ = slots.view(now)
        assert all((again[name] == value).all() for name, value in inputs.items())


def test_a_look_stands_for_the_whole_window():
    slots, t = filled(40)
    slots.settle()
    inputs, age_s = slots.view(t)
    assert inputs["temporal_mask"].all()
    assert (inputs["temporal_tokens"] == 39).all()
    ages = np.arange(slots.rows)[::-1] / SPEC.streams["temporal"].rate_hz
    np.testing.assert_allclose(inputs["temporal_meta"][0, :, 0], ages, atol=1e-6)
    assert age_s == 0.0
    slots.put(t + SECOND // 15, [WHOLE], [{"temporal_tokens": token(50)}])
    assert slots.view(t + SECOND // 15)[0]["temporal_tokens"][0, -1, 0, 0] == 50


def test_nothing_stands_for_nothing():
    slots = make("temporal")
    slots.repeat(5 * SECOND)
    assert not slots.view(5 * SECOND)[0]["temporal_mask"].any()

"""The spec: it round-trips, refuses what makes no sense, and presets are data."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidprism_edge import spec as module
from vidprism_edge.errors import UsageError
from vidprism_edge.spec import STREAMS, ModelSpec, StreamSpec, TemporalSpec, list_presets, load_preset

RATE = st.floats(0.1, 120.0)


def edited(spec: ModelSpec, **fields: object) -> bytes:
    """The spec's JSON with other values; a dotted name reaches into it."""
    data = json.loads(spec.to_json())
    for name, value in fields.items():
        *path, last = name.split("__")
        inner = data
        for step in path:
            inner = inner[step]
        inner[last] = value
    return json.dumps(data).encode()


@pytest.mark.parametrize("name", list_presets())
def test_a_preset_round_trips_through_json(name):
    spec = load_preset(name)
    assert spec.preset == name
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_presets_are_the_data_files_and_nothing_else(root, monkeypatch, tmp_path):
    """Another file is another preset, without a line of code."""
    assert list_presets() == sorted(path.stem for path in (root / "vidprism_edge/presets").glob("*.json"))
    assert {"nano", "clip-b32", "clip-b16"} <= set(list_presets())
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets/mine.json").write_bytes(edited(load_preset("nano"), preset="mine", window_s=3.0))
    monkeypatch.setattr(module.resources, "files", lambda _: tmp_path)
    assert list_presets() == ["mine"]
    assert load_preset("mine").slots("temporal") == 45


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"'nanno'.*clip-b16, clip-b32, nano"):
        load_preset("nanno")


@pytest.mark.parametrize("labels", [(), ("a",), ("a", "a"), ("a", "b", "a")])
def test_fewer_than_two_labels_or_equal_ones_are_refused(labels):
    with pytest.raises(UsageError, match="expected 2 or more, all distinct"):
        load_preset("nano", labels)


def test_labels_replace_those_of_the_preset():
    assert load_preset("nano", ("a", "b")).labels == ("a", "b")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"schema": 2}, "schema 2"),
        ({"window_s": 0.0}, "window_s"),
        ({"hop_s": 3.0}, "hop_s"),
        ({"hop_s": -1.0}, "hop_s"),
        ({"colour": 1}, "colour"),
        ({"width": "wide"}, "width"),
        ({"arch": "other"}, "arch"),
        ({"fit": "bend"}, "fit"),
        ({"streams": {}}, "streams"),
        ({"streams__spatial__size_px": 4}, "size_px"),
        ({"streams__spatial__rate_hz": -2.0}, "rate_hz"),
        ({"streams__spatial__floor_hz": 9.0}, "floor_hz"),
        ({"streams__spatial__regions": 3}, "regions"),
        ({"streams__spatial__std": [0.5, 0.0, 0.5]}, "std"),
        ({"streams__spatial__resampler": "lanczos"}, "resampler"),
        ({"temporal__dilations": [9, 9, 9, 9, 9]}, "the temporal expert sees"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_makes_no_sense_is_refused_by_name(fields, named):
    with pytest.raises(UsageError, match=named):
        ModelSpec.from_json(edited(load_preset("nano"), **fields))


@given(data=st.binary(max_size=60))
def test_any_other_bytes_are_a_usage_error(data):
    with pytest.raises(UsageError):
        ModelSpec.from_json(data)


@given(rate=RATE, share=st.floats(0.01, 1.0))
def test_the_floor_is_reached_by_whole_intervals(rate, share):
    stream = StreamSpec(size_px=64, rate_hz=rate, floor_hz=rate * share)
    assert stream.floor_interval >= 1
    # the rate at that interval is as near to the floor as whole grid points allow
    nearest = min((1, *range(1, stream.floor_interval + 2)), key=lambda n: abs(n - 1 / share))
    assert stream.floor_interval == pytest.approx(nearest, abs=1)


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), 0.0, -1.0, 1001.0])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(UsageError):
        StreamSpec(size_px=64, rate_hz=rate, floor_hz=1.0)


def test_numbers_of_the_default_model():
    """The sizes, rates and slots that the model's description states."""
    spec = load_preset("nano")
    assert {n: spec.streams[n].size_px for n in STREAMS} == {
        "analyzer": 112, "spatial": 224, "hybrid": 160, "temporal": 112,
    }  # fmt: skip
    assert {n: (spec.streams[n].rate_hz, spec.streams[n].floor_hz) for n in ("spatial", "hybrid")} == {
        "spatial": (2.0, 0.5), "hybrid": (5.0, 1.0),
    }  # fmt: skip
    assert [(spec.slots(n), spec.streams[n].regions) for n in ("spatial", "hybrid", "temporal")] == [
        (4, 2),
        (10, 2),
        (30, 1),
    ]
    assert (spec.window_s, spec.hop_s, spec.fusion_passes, spec.fit, spec.small_px) == (
        2.0,
        0.5,
        2,
        "letterbox",
        320,
    )
    assert spec.receptive_field <= spec.slots("temporal")


@given(dilations=st.lists(st.integers(1, 8), min_size=1, max_size=6))
def test_the_receptive_field_adds_up_over_the_causal_convolutions(dilations):
    """Each kernel of three with dilation d reaches 2 d steps back; the stem's is 1."""
    n = len(dilations)
    temporal = TemporalSpec(widths=(8,) * (n + 1), strides=(1,) * n, dilations=tuple(dilations), grid=4)
    assert temporal.receptive_field == 1 + sum(2 * d for d in (1, *dilations))


def test_values_are_frozen():
    with pytest.raises(AttributeError):
        load_preset("nano").width = 3  # type: ignore[misc]
    assert msgspec.structs.replace(load_preset("nano"), width=64).width == 64

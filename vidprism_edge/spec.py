"""What a model is: frozen, versioned values that round-trip through JSON and travel with the bundle.

Sizes, rates, window, hop, resampler, mean and standard deviation are fields here and constants nowhere else.
Rates are in hertz, sizes in pixels, durations in seconds, timestamps in nanoseconds.
"""

from __future__ import annotations

import math
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from vidprism_edge.errors import UsageError, known

SPEC_SCHEMA = 1
#: The experts, in the order in which reports list them. The analyzer is run like one and gated like one.
EXPERTS = ("spatial", "hybrid", "temporal")
STREAMS = ("analyzer", *EXPERTS)
#: The class of everything that is no action. It is never an event.
NONE = "none"
#: The components of arch ``vidprism``, each one graph, in the order in which data pass through them.
COMPONENTS = ("analyzer", "spatial", "temporal", "hybrid_encode", "hybrid_attend", "fusion", "head")

Triple = tuple[float, float, float]


#: What a field may be. A spec comes with a bundle from anywhere: nothing may ask for the whole memory, or for ever.
_RANGES: dict[str, tuple[float, float]] = {
    "width": (1, 16384), "window_s": (0.01, 600), "hop_s": (0.01, 600), "repeat_s": (0, 3600), "max_age_s": (0.01, 1e6),
    "analyzer_grid": (1, 256), "scene_grid": (1, 256), "fusion_passes": (1, 64), "fusion_heads": (1, 256),
    "small_px": (16, 4096), "size_px": (8, 4096), "stale_s": (0, 1e6),
}  # fmt: skip


def _check_ranges(value: msgspec.Struct) -> None:
    for name, (least, most) in _RANGES.items():
        given = getattr(value, name, least)
        if not least <= given <= most:
            raise UsageError(f"{name} is {given}, expected at least {least:g} and at most {most:g}")


class _Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A frozen value that refuses fields it does not know."""


class StreamSpec(_Value, frozen=True, kw_only=True):
    """One sampled stream: what it is resized to, how often, and how it is normalised.

    A sample is float32 [3, size_px, size_px], planar RGB, ``(value / 255 - mean) / std``.
    """

    size_px: int
    rate_hz: float
    floor_hz: float
    regions: int = 1
    #: ``bicubic`` is Pillow's, antialiased, bit for bit: for encoders that were trained on it, as CLIP was.
    resampler: Literal["area", "bicubic"] = "area"
    mean: Triple = (0.5, 0.5, 0.5)
    std: Triple = (0.5, 0.5, 0.5)
    #: The newest sample stays visible until it is this old, even outside the window (0: not at all).
    stale_s: float = 0.0

    def __post_init__(self) -> None:
        _check_ranges(self)
        if not 0 < self.floor_hz <= self.rate_hz <= 1000:
            raise UsageError(
                f"rate_hz is {self.rate_hz} and floor_hz is {self.floor_hz}, expected 0 < floor_hz <= rate_hz <= 1000"
            )
        if not all(value > 0 for value in self.std):
            raise UsageError(
                f"std is {list(self.std)}, expected three numbers above 0: pixels are divided by them"
            )
        if self.regions not in (1, 2):
            raise UsageError(
                f"regions is {self.regions}, expected 1 (one region) or 2 (whole frame and a followed one)"
            )

    @property
    def rate_mhz(self) -> int:
        """Rate in millihertz, the integer from which the grid is computed."""
        return round(self.rate_hz * 1000)

    @property
    def floor_interval(self) -> int:
        """Number of grid points from one sample to the next at the floor rate."""
        return max(1, round(self.rate_hz / self.floor_hz))


class EncoderSpec(_Value, frozen=True, kw_only=True):
    """The frozen image encoder of the spatial expert: ``grid`` × ``grid`` patch tokens and a frame token."""

    kind: Literal["efficientnet-lite0", "clip"]
    #: A local folder or hub id (``clip``) or the package that holds the weights (``efficientnet-lite0``).
    source: str
    licence: str
    grid: int
    patch_width: int
    frame_width: int


class TemporalSpec(_Value, frozen=True, kw_only=True):
    """The causal 3-D network: a stem and factorised blocks, each with the temporal dilation given."""

    widths: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    grid: int

    @property
    def receptive_field(self) -> int:
        """Number of steps that a token depends on: 1 + 2 (stem) + 2 · dilation per block."""
        return 3 + 2 * sum(self.dilations)


class HybridSpec(_Value, frozen=True, kw_only=True):
    """The hybrid expert: encoder widths, ``grid`` × ``grid`` tokens a sample, cross-attention depth and heads."""

    widths: tuple[int, ...]
    grid: int
    depth: int
    heads: int


class EventSpec(_Value, frozen=True, kw_only=True):
    """When decisions over time are an event; see :class:`~vidprism_edge.runtimes.streaming.events.EventDetector`."""

    #: Hysteresis of the activity (1 − score of ``none``): an event begins above ``enter`` and ends below ``leave``.
    enter: float = 0.6
    leave: float = 0.4
    #: Time constant with which scores are smoothed before that; 0: not at all.
    smoothing_s: float = 0.5
    #: An event is told once it has lasted so long …
    least_s: float = 0.5
    #: … and the mean score of its label is at least this …
    least_score: float = 0.5
    #: … and its highest score at one decision at least this: who does it is told from who only resembles it.
    least_peak: float = 0.7
    #: A label that is best for so long, after another was, is an event of its own.
    split_s: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.leave <= self.enter < 1:
            raise UsageError(f"enter is {self.enter}, leave is {self.leave}; expected 0 < leave <= enter < 1")
        if min(self.smoothing_s, self.least_s, self.split_s) < 0 or not (
            0 <= self.least_score < 1 and 0 <= self.least_peak < 1
        ):
            raise UsageError(
                f"smoothing_s is {self.smoothing_s}, least_s {self.least_s}, split_s {self.split_s}, least_score "
                f"{self.least_score}, least_peak {self.least_peak}; expected durations of 0 or more and scores from 0 "
                "to less than 1"
            )


class ModelSpec(_Value, frozen=True, kw_only=True):
    """Everything that defines a VidPrism network and the sampling that it was made for."""

    schema: int = SPEC_SCHEMA
    arch: Literal["vidprism"] = "vidprism"
    preset: str
    labels: tuple[str, ...]
    width: int
    streams: dict[str, StreamSpec]
    encoder: EncoderSpec
    temporal: TemporalSpec
    hybrid: HybridSpec
    analyzer_widths: tuple[int, int, int]
    analyzer_grid: int = 14
    scene_grid: int = 14
    fusion_passes: int = 2
    fusion_heads: int = 4
    window_s: float = 2.0
    hop_s: float = 0.5
    repeat_s: float = 0.5
    #: Ages are clipped to this and log-scaled; no ``max_skip`` of a gate may be longer.
    max_age_s: float = 32.0
    fit: Literal["letterbox", "crop", "stretch"] = "letterbox"
    #: Longer side of the small whole frames from which the temporal expert's crops are made.
    small_px: int = 320
    #: How the native core measures block motion: every row, or the average of each four.
    motion_map: Literal["averaged", "exact"] = "averaged"
    #: When decisions over time are an event.
    events: EventSpec = EventSpec()

    def __post_init__(self) -> None:
        if self.schema != SPEC_SCHEMA:
            raise UsageError(f"model spec has schema {self.schema}, this version reads {SPEC_SCHEMA}")
        _check_ranges(self)
        if set(self.streams) != set(STREAMS):
            raise UsageError(f"streams are {sorted(self.streams)}, expected {sorted(STREAMS)}")
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise UsageError(
                f"{len(self.labels)} labels, {len(set(self.labels))} distinct; expected 2 or more, all distinct"
            )
        if not 0 < self.hop_s <= self.window_s:
            raise UsageError(
                f"hop_s is {self.hop_s}, window_s is {self.window_s}; expected 0 < hop_s <= window_s"
            )
        if self.streams["temporal"].resampler != "area":
            raise UsageError(
                "the temporal stream is cropped from small whole frames, which takes resampler area"
            )
        if self.receptive_field > self.slots("temporal"):
            raise UsageError(
                f"the temporal expert sees {self.receptive_field} steps, "
                f"expected at most a window, {self.slots('temporal')}"
            )

    def slots(self, stream: str) -> int:
        """Token slots of one region of a stream: the rate ceiling times the window."""
        spec = self.streams[stream]
        return math.ceil(spec.rate_hz * self.window_s - 1e-9)

    @property
    def receptive_field(self) -> int:
        """Steps of the temporal stream that one temporal token depends on."""
        return self.temporal.receptive_field

    @property
    def window_ns(self) -> int:
        return round(self.window_s * 1e9)

    @property
    def hop_ns(self) -> int:
        return round(self.hop_s * 1e9)

    @property
    def repeat_ns(self) -> int:
        return round(self.repeat_s * 1e9)

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2)

    @classmethod
    def from_json(cls, data: bytes | str) -> ModelSpec:
        """Parse a spec; raises :class:`UsageError` naming the field that is wrong."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError as error:
            raise UsageError(f"the model spec is not valid: {error}") from None


def list_presets() -> list[str]:
    """Return the names of the presets, each a JSON file in ``vidprism_edge/presets``."""
    folder = resources.files("vidprism_edge") / "presets"
    return sorted(
        entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json")
    )


def load_preset(name: str, labels: tuple[str, ...] | None = None) -> ModelSpec:
    """Return the preset ``name``, with ``labels`` in place of its own if given."""
    if name not in list_presets():
        raise known("preset", name, list_presets())
    spec = ModelSpec.from_json((resources.files("vidprism_edge") / "presets" / f"{name}.json").read_bytes())
    return spec if labels is None else msgspec.structs.replace(spec, labels=labels)


def find_shipped(preset: str) -> Path | None:
    """The trained parts that the package ships for a preset; None where it ships none."""
    path = Path(str(resources.files("vidprism_edge") / "presets" / f"{preset}.safetensors"))
    return path if path.is_file() else None

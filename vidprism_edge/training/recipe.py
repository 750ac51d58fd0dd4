"""How a network is trained: plain values that travel with the checkpoint."""

from __future__ import annotations

from pathlib import Path

import msgspec

from vidprism_edge.errors import UsageError


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Some epochs of the schedule. A stage that is not ``joint`` trains the temporal expert alone."""

    epochs: int
    joint: bool
    rate: float
    #: Side of the temporal expert's pictures; 0: the spec's own. Smaller ones make early epochs cheap.
    size_px: int = 0
    #: Learning rate of the temporal expert as a share of ``rate``; 0: it stays as it is.
    temporal_share: float = 1.0


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides the outcome of a training run beside the data."""

    stages: tuple[Stage, ...] = (
        Stage(epochs=40, joint=False, rate=3e-3, size_px=64),
        Stage(epochs=4, joint=False, rate=1e-3),
        Stage(epochs=4, joint=True, rate=2e-3, temporal_share=0.0),
    )
    seed: int = 0
    batch: int = 8
    variants: int = 4
    smoothing: float = 0.1
    weight_decay: float = 0.02
    average: float = 0.98
    #: Share of the stem's kernels that see change alone: they are kept free of a constant part over time.
    motion_stem: float = 1.0
    auxiliary: float = 0.5
    drop_expert: float = 0.15
    drop_spatial: float = 0.4
    age_expert: float = 0.15
    #: Hybrid samples that a clip encodes each time: the others are hidden.
    hybrid_samples: int = 3
    #: Decisions of a clip that are learned from at once.
    decisions: int = 2
    box_shift: float = 0.2
    box_scale: float = 0.45
    #: Pictures are made smaller by up to e to this, their border drawn out: people stand farther away.
    far: float = 0.6
    #: Turn in radians; width and height are stretched each by itself, as exponents of e.
    turn: float = 0.2
    stretch: float = 0.3
    light: float = 0.3
    noise: float = 0.02
    #: Share of the clips whose colours are mixed anew, dark and bright exchanged in half of them: how something moves
    #: does not depend on what people wear.
    recolour: float = 0.5
    erase: float = 0.3
    mirror: float = 0.5
    analyzer_steps: int = 150
    #: :class:`RegionRule` in training: tighter, coarser and sooner left than on a device, where a larger region is
    #: surer to hold the person, and one that lies exactly and stays is worth more than one that varies.
    region_room: float = 1.7
    region_step: float = 0.25
    region_too_large: float = 2.0
    #: Of so many clips one is also learned from in this form; 0: none is.
    idle_every: int = 4
    far_every: int = 4
    passing_every: int = 2
    #: Clips between their own still frames, judged decision by decision: events end when the action does.
    stream_every: int = 2


def read_mirror(pairs: list[str] | tuple[str, ...], labels: tuple[str, ...]) -> dict[str, str]:
    """Parse ``--mirror``: ``a=b`` (left-right swaps the two) or ``a`` (stays what it is). Others are never mirrored."""
    found: dict[str, str] = {}
    for pair in pairs:
        first, _, second = pair.partition("=")
        second = second or first
        if unknown := [name for name in (first, second) if name not in labels]:
            raise UsageError(f"--mirror {pair}: no class {', '.join(unknown)}; known: {', '.join(labels)}")
        for a, b in ((first, second), (second, first)):
            if found.setdefault(a, b) != b:
                raise UsageError(f"--mirror {pair}: {a} is mirrored to {found[a]} already")
    return found


def load_recipe(path: Path | None) -> Recipe:
    """Read a recipe from JSON, or return the default. Errors: :class:`UsageError` naming the field."""
    if path is None:
        return Recipe()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Recipe)
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageError(f"{path} is not a training recipe: {error}") from None

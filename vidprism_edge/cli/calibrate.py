"""``vidprism-edge calibrate``: how sparing the gates may be, measured on the user's own video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidprism_edge.cli.engine_flags import Device, EngineName, Threads, engine_options
from vidprism_edge.errors import UsageError

if TYPE_CHECKING:
    from vidprism_edge.calibration.gates import Calibration
    from vidprism_edge.runtimes.streaming.source import Source


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle; the choice is stored in it.")],
    data: Annotated[Path, typer.Option(help="A video, a folder of videos, or one with a CSV of clips.")],
    gates: Annotated[bool, typer.Option("--gates", help="Calibrate the gates.")] = False,
    router: Annotated[
        bool, typer.Option("--router", help="Also train a router, and keep it if it saves more.")
    ] = False,
    target_agreement: Annotated[float, typer.Option(help="Least share of equal labels.")] = 0.99,
    subjects: Annotated[str | None, typer.Option(help="With a CSV: only these, separated by commas.")] = None,
    seconds: Annotated[
        float, typer.Option(help="With a CSV: length of the stream that is made of each subject's clips.")
    ] = 600.0,
    max_skip: Annotated[float, typer.Option(help="Longest time a gate stays closed, seconds.")] = 30.0,
    engine: EngineName = "onnxruntime",
    threads: Threads = 0,
    device: Device = "CPU",
    picture: Annotated[Path | None, typer.Option(help="Draw the frontier to this .png, too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Run always-on and gated side by side, choose on each stream's first half and report on the second.

    The cheapest settings are taken that lose no event and use up no more than half of what may differ: labels by
    --target-agreement, scores by 0.02 on average; on too little video the defaults stay. A CSV of clips becomes
    streams with idle between the actions, one a subject. A router is a small model behind the gates, trained on the
    first halves; it is kept where it is cheaper on the second and agrees no less.
    """
    import tempfile

    import msgspec

    from vidprism_edge.bundle import Bundle
    from vidprism_edge.calibration.gates import calibrate_gates, draw_frontier, store_calibration
    from vidprism_edge.cli.console import check_file, print_json, print_table, progress_bar, say

    if not gates:
        raise UsageError("nothing to calibrate; give --gates")
    check_file(picture)
    opened = Bundle.open(bundle)
    if not 0 < max_skip <= opened.spec.max_age_s:
        raise UsageError(
            f"--max-skip is {max_skip:g}; expected more than 0 and at most {opened.spec.max_age_s:g}"
        )
    sources = open_streams(data, subjects, seconds)
    if not opened.manifest.trained:
        say("this bundle is untrained: gates that agree with it agree with noise")
    with progress_bar("calibrate") as progress:
        result = calibrate_gates(
            opened, sources, target=target_agreement, engine=engine, options=engine_options(threads, device),
            max_skip_s=max_skip,
            reopen=(lambda: open_streams(data, subjects, seconds)) if router else None,
            progress=lambda name, t: progress(name, int(t), int(t) + 1),
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "gates.png"
        draw_frontier(result, drawn, bundle.name)
        store_calibration(opened, result, drawn)
        if picture is not None:
            picture.write_bytes(drawn.read_bytes())
    if as_json:
        print_json(msgspec.to_builtins(result) | {"chosen": msgspec.to_builtins(result.chosen)})
        return
    print_table(frontier_table(result), *frontier_notes(result))


def open_streams(data: Path, subjects: str | None, seconds: float) -> list[Source]:
    """The streams behind ``--data``. Errors: :class:`UsageError`, :class:`SourceError`."""
    from vidprism_edge.calibration.data import VIDEO_SUFFIXES, read_dataset, read_folder
    from vidprism_edge.calibration.streams import SubjectStream
    from vidprism_edge.runtimes.streaming.source import open_source

    if seconds <= 0:
        raise UsageError(f"--seconds is {seconds:g}; expected more than 0")
    if data.is_file() and data.suffix.lower() in VIDEO_SUFFIXES:
        return [open_source(str(data))]
    if data.suffix == ".csv" or (data.is_dir() and any(data.glob("*.csv"))):
        part = read_dataset(data).pick([s.strip() for s in subjects.split(",")] if subjects else None)
        people = part.subjects or (None,)
        return [
            SubjectStream([e for e in part.entries if e.subject == who], seconds=seconds) for who in people
        ]
    if subjects is not None:
        raise UsageError(f"--subjects needs a CSV with a column subject; {data} has none")
    return [open_source(str(entry.path)) for entry in read_folder(data, "")]


def frontier_table(result: Calibration) -> object:
    """All candidates, cheapest first, as something that rich prints."""
    from rich.table import Table

    table = Table(
        "change", "share", "hold", "router", "spatial 1/n", "hybrid 1/n", "GMAC/s", "saving", "agree", "acting",
        "distance", "lost", title="first half; the second half of the chosen one is below",
    )  # fmt: skip
    for trial in sorted(result.trials, key=lambda t: t.first.macs_per_s):
        s, m = trial.settings, trial.first
        acting = "–" if m.action_agreement is None else f"{m.action_agreement:.1%}"
        table.add_row(
            f"{s.least_change:g}", f"{s.least_share['temporal']:.1%}, {s.least_share['spatial']:.1%}",
            f"{s.hold_s['temporal']:.1f} s", "–" if s.router is None else "yes",
            str(s.busy_interval["spatial"]), str(s.busy_interval["hybrid"]), f"{m.macs_per_s / 1e9:.3f}",
            f"{m.saving:.1f} ×", f"{m.agreement:.2%}", acting, f"{m.distance:.4f}", f"{m.lost} of {m.events}",
            style="bold" if trial is result.chosen else "",
        )  # fmt: skip
    return table


def frontier_notes(result: Calibration) -> list[str]:
    """What was chosen, on the half that it was not chosen on."""
    from vidprism_edge.calibration.gates import count_needed

    m = result.chosen.second
    acting = "" if m.action_agreement is None else f", {m.action_agreement:.1%} where something happens"
    notes = [
        f"second half: {m.saving:.1f} times fewer multiply-accumulates than always-on, {m.agreement:.2%} of "
        f"{m.decisions} labels equal{acting}, distance {m.distance:.4f}, {m.lost} of {m.events} events lost"
    ]
    had, needed = result.chosen.first.decisions, count_needed(result.target_agreement)
    if had < needed:
        notes.append(
            f"{had} decisions in the first half cannot tell an agreement of {result.target_agreement:.1%}: the "
            f"defaults stay; give {needed / had:.1f} times as much video"
        )
    elif not result.met:
        notes.append(
            f"no candidate reached {result.target_agreement:.1%} without loss on the first half: the defaults stay"
        )
    return notes

"""``vidprism-edge verify``: replay a bundle's golden vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidprism_edge.cli.engine_flags import Device, EngineCache, EngineName, Streams, Threads, engine_options
from vidprism_edge.errors import ParityError


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    engine: EngineName = "onnxruntime",
    threads: Threads = 0,
    device: Device = "CPU",
    streams: Streams = 1,
    engine_cache: EngineCache = None,
    atol: Annotated[
        float | None, typer.Option(help="Absolute part of the tolerance [by precision; fp32: 1e-4].")
    ] = None,
    rtol: Annotated[
        float | None, typer.Option(help="Part relative to the reference [by precision; fp32: 1e-4].")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Check every hash, replay the golden vectors and print the largest error of every graph; exit 4 if any fails."""
    from vidprism_edge.bundle import REFERENCE, Bundle
    from vidprism_edge.cli.console import print_json, print_table, progress_bar
    from vidprism_edge.export.verification import verify_bundle

    opened = Bundle.open(bundle)
    with progress_bar(f"verify on {engine}") as progress:
        done: list[str] = []

        def move(name: str) -> None:
            done.append(name)
            progress(name, len(done), len(opened.manifest.graphs))

        report = verify_bundle(
            opened,
            engine,
            atol=atol,
            rtol=rtol,
            progress=move,
            options=engine_options(threads, device, streams, engine_cache),
        )
    if as_json:
        print_json(report)
    else:
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for column in (
            "graph",
            "precision",
            "output",
            "cases",
            "largest error",
            "of tolerance",
            "cosine",
            "SQNR",
            "worst case",
            "",
        ):
            table.add_column(column, no_wrap=True)
        for o in report.worst():
            kind = o.precision if o.target == REFERENCE[0] else f"{o.precision} ({o.target})"
            table.add_row(
                o.graph, kind, o.output, str(o.cases), f"{o.max_error:.2e}", f"{o.of_tolerance:.1%}", f"{o.cosine:.9f}",
                f"{o.sqnr_db:.0f} dB",
                o.worst_case, "ok" if o.passed else "FAILED",
            )  # fmt: skip
        tolerances = "; ".join(
            f"{name} {t.atol:g} + {t.rtol:g} * |reference|" + (f", cosine {t.cosine:g}" if t.cosine else "")
            for name, t in report.tolerances.items()
        )
        notes = [f"tolerance {tolerances}; {report.files} files checked, engine {engine}"]
        notes += [
            f"{graph} is computed in {used} on this machine" for graph, used in report.computes_in.items()
        ]
        print_table(table, *notes)
    if not report.passed:
        worst = max(report.outputs, key=lambda o: o.of_tolerance)
        raise ParityError(
            f"graph {worst.graph} is off by {worst.max_error:.3g} on output {worst.output} (case {worst.worst_case}), "
            f"{worst.of_tolerance:.3g} times its tolerance; export again, or try another version of {engine}"
        )

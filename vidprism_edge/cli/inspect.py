"""``vidprism-edge inspect``: what is in a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vidprism_edge.bundle import Bundle


def draw_graph(bundle: Bundle) -> list[str]:
    """The graph of experts as lines of text, each with the multiply-accumulates of one run."""

    def node(name: str) -> str:
        return f"{name} ({bundle.macs[name] / 1e6:.1f} MMAC)"

    experts = [node(name) for name in ("spatial", "temporal", "hybrid_encode")]
    width = max(map(len, experts))
    rest = " ─► ".join(node(name) for name in ("hybrid_attend", "fusion", "head"))
    return [
        f"frame ─┬─ {node('analyzer')} ─► regions and rates of the others",
        f"       ├─ {experts[0]:<{width}} ─┐",
        f"       ├─ {experts[1]:<{width}} ─┼─► {rest} ─► {len(bundle.spec.labels)} labels",
        f"       └─ {experts[2]:<{width}} ─┘",
    ]


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON on stdout.")] = False,
) -> None:
    """Show a bundle's model, streams and graphs, after checking every file against its hash."""
    from vidprism_edge.bundle import Bundle
    from vidprism_edge.cli.console import print_json, print_table

    opened = Bundle.open(bundle)
    files = opened.check()
    manifest, spec = opened.manifest, opened.spec
    if as_json:
        print_json(manifest)
        return
    from rich.table import Table

    from vidprism_edge.runtimes.streaming.session import always_on_macs

    state = "trained" if manifest.trained else "untrained: its labels mean nothing yet"
    if manifest.random_weights:
        state += "; random encoder: for latency only"
    heading = (
        f"{bundle}: {spec.arch} {spec.preset}, {len(spec.labels)} labels ({', '.join(spec.labels[:8])}"
        f"{', …' if len(spec.labels) > 8 else ''})\n{state}\n"
        f"window {spec.window_s:g} s, a decision every {spec.hop_s:g} s, {spec.fusion_passes} fusion passes, "
        f"{always_on_macs(spec, opened.macs) / spec.hop_s / 1e9:.2f} GMAC a second with all gates open\n"
        f"exported {manifest.created} for {', '.join(manifest.targets)}; {files} files match their hashes\n"
    )
    streams = Table(box=None, pad_edge=False)
    for column in ("stream", "size", "rate", "floor", "regions", "slots"):
        streams.add_column(column, justify="left" if column == "stream" else "right")
    for name, stream in spec.streams.items():
        slots = str(spec.slots(name) * stream.regions) if name != "analyzer" else "–"
        streams.add_row(
            name,
            f"{stream.size_px} px",
            f"{stream.rate_hz:g} Hz",
            f"{stream.floor_hz:g} Hz",
            str(stream.regions),
            slots,
        )
    graphs = Table(box=None, pad_edge=False)
    for column in ("graph", "target", "precision", "MMAC a run", "inputs", "size", "sha256"):
        left = column in ("graph", "target", "precision", "sha256")
        graphs.add_column(column, justify="left" if left else "right", no_wrap=True)
    for graph in manifest.graphs:
        size = sum(opened.locate(file).stat().st_size for file, _ in graph.files)
        graphs.add_row(
            graph.name,
            graph.target,
            graph.precision,
            f"{graph.macs / 1e6:.2f}",
            str(len(graph.inputs)),
            f"{size / 1e6:.2f} MB",
            graph.sha256[:12],
        )
    print(heading)
    print("\n".join(draw_graph(opened)) + "\n")
    print_table(streams, "")
    print_table(graphs)

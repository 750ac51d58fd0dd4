"""``vidprism-edge benchmark``: what a decision costs on this machine, stage by stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidprism_edge.benchmark.request import (
    DEFAULT_PERCENTILES,
    DEFAULT_SOURCE,
    PROFILES,
    SCENARIOS,
    Request,
)
from vidprism_edge.cli.engine_flags import EngineCache, EngineName, Streams, Threads, engine_options
from vidprism_edge.errors import BenchmarkError, UsageError, VidPrismError

if TYPE_CHECKING:
    from vidprism_edge.benchmark.results import Limit
    from vidprism_edge.bundle import Bundle

_DEFAULT = ",".join(f"{p:g}" for p in DEFAULT_PERCENTILES)


def command(
    bundle: Annotated[Path | None, typer.Argument(help="Folder of the bundle.")] = None,
    source: Annotated[str, typer.Option(help="Video file (looped) or synthetic:….")] = DEFAULT_SOURCE,
    scenario: Annotated[str, typer.Option(help=f"{', '.join(SCENARIOS)}.")] = "single-stream",
    profile: Annotated[str, typer.Option(help=f"{', '.join(PROFILES)}: how long.")] = "normal",
    engine: EngineName = "onnxruntime",
    threads: Threads = 0,
    device: Annotated[
        str, typer.Option(help="As for run; or ssh://user@host: measure on that machine, on its CPU.")
    ] = "CPU",
    streams: Streams = 1,
    engine_cache: EngineCache = None,
    gates: Annotated[str, typer.Option(help="auto or open.")] = "auto",
    warmup_ms: Annotated[float, typer.Option(help="Shortest warm-up, milliseconds.")] = 200.0,
    percentiles: Annotated[str, typer.Option(help="Comma-separated.")] = _DEFAULT,
    deadline_ms: Annotated[
        float, typer.Option(help="Streaming: an older decision misses; 0: the time between decisions.")
    ] = 0.0,
    start: Annotated[
        bool, typer.Option("--start/--no-start", help="Measure cold and warm start of a process too.")
    ] = True,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="No measurement: ratios of two reports, second / first.", metavar="A B"),
    ] = None,
    allow_different: Annotated[
        bool, typer.Option(help="Compare runs of different devices, bundles or scenarios, or invalid ones.")
    ] = False,
    draw: Annotated[
        Path | None, typer.Option(help="No measurement: write a report folder's Markdown and pictures anew.")
    ] = None,
    pack: Annotated[
        Path | None, typer.Option(help="No measurement: a folder to carry to a device, with run.sh in it.")
    ] = None,
    wheel: Annotated[
        Path | None, typer.Option(help="With --pack or ssh: the wheel to install [an archive of the source].")
    ] = None,
    fail_above: Annotated[
        str | None, typer.Option(help="Exit 1 above a limit, as in p90=30ms,max=1s (p: by early stopping).")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="FILE.json: result and raw samples; a folder: Markdown and pictures too."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Measure decisions by MLPerf's scenarios; nothing is clipped, and an unsteady or disturbed run exits 5."""
    from vidprism_edge.benchmark.remote import Address, run_there
    from vidprism_edge.benchmark.results import limit_percentiles, parse_limits
    from vidprism_edge.bundle import Bundle

    if compare is not None:
        compare_reports(*compare, allow_different=allow_different, as_json=as_json)
        return
    if draw is not None:
        draw_report(draw)
        return
    if bundle is None:
        raise UsageError(
            "no bundle was given; expected the folder of one, or --compare A B, or --draw FOLDER"
        )
    there = Address.parse(device) if "://" in device else None
    device = "CPU" if there else device
    engine_options(threads, device, streams, engine_cache)
    check_file_exists(wheel)
    limits = parse_limits(fail_above)
    wanted = dict.fromkeys((*parse_percentiles(percentiles), *limit_percentiles(limits)))
    request = make_request(
        source=source, scenario=scenario, profile=profile, engine=engine, threads=threads, device=device,
        streams=streams, cache=None if engine_cache is None else str(engine_cache), gates=gates,
        warmup_ms=warmup_ms, percentiles=tuple(wanted), deadline_ms=deadline_ms, start=start,
    )  # fmt: skip
    check_report(report)
    if pack is not None:
        pack_for_device(bundle, request, pack, wheel)
        return
    opened = Bundle.open(bundle)
    encoded = _measure(opened, request) if there is None else run_there(there, opened, request, wheel)
    _finish(encoded, limits, report, as_json=as_json)


def pack_for_device(bundle: Path, request: Request, folder: Path, wheel: Path | None) -> None:
    """Write the folder that is carried by hand."""
    from vidprism_edge.benchmark.remote import pack
    from vidprism_edge.bundle import Bundle
    from vidprism_edge.cli.console import say

    pack(Bundle.open(bundle), request, folder, wheel)
    say(
        f"carry {folder} to the device, run sh run.sh in it, bring its folder result back: benchmark --draw result"
    )


def make_request(**fields: Any) -> Request:
    """Check the flags that form a request; :class:`UsageError` names the wrong one."""
    from vidprism_edge.cli.console import choose

    choose("scenario", fields["scenario"], tuple(SCENARIOS))
    choose("profile", fields["profile"], tuple(PROFILES))
    choose("gates", fields["gates"], ("auto", "open"))
    for name in ("warmup_ms", "deadline_ms"):
        if not 0 <= fields[name] < float("inf"):
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag} is {fields[name]:g}; expected a number of milliseconds, 0 or more")
    return Request(**fields)


def check_file_exists(path: Path | None) -> None:
    """Refuse a wheel that is not there, before anything is packed."""
    if path is not None and not path.is_file():
        raise UsageError(f"--wheel is {path}, which is no file; expected a wheel or a source archive")


def check_report(report: Path | None) -> None:
    """Refuse a report that cannot be written, before the work begins."""
    from vidprism_edge.cli.console import check_file

    if report is None:
        return
    if report.suffix == ".json":
        check_file(report)
    elif not report.absolute().parent.is_dir():
        raise UsageError(
            f"cannot write {report}: the folder {report.absolute().parent} does not exist; make it first"
        )
    elif report.is_file() or (report.is_dir() and any(report.iterdir())):
        raise UsageError(f"cannot write {report}: it exists and is not an empty folder; give another name")


def _measure(bundle: Bundle, request: Request) -> bytes:
    """Measure here → the encoded result."""
    from vidprism_edge.benchmark.measure import measure
    from vidprism_edge.benchmark.results import encode_result
    from vidprism_edge.cli.console import progress_bar

    with progress_bar(f"benchmark {bundle.spec.preset}") as progress:
        return encode_result(*measure(bundle, request, progress))


def _finish(encoded: bytes, limits: list[Limit], report: Path | None, *, as_json: bool) -> None:
    """Write and print a result, and raise where it is not valid or above a limit."""
    from vidprism_edge.benchmark.publish import publish
    from vidprism_edge.benchmark.results import check_limits
    from vidprism_edge.cli.console import print_json

    result = json.loads(encoded)
    if report is not None and report.suffix == ".json":
        report.write_bytes(encoded)
    elif report is not None:
        publish(encoded, report)
    if as_json:
        print_json({name: value for name, value in result.items() if name != "samples"})
    else:
        show(result)
    if not result["valid"]:
        raise BenchmarkError(
            f"the run is not valid: {'; '.join(result['reasons'])}; close other programs and run it again"
        )
    broken = check_limits(limits, result["latency_ms"])
    if broken:
        raise VidPrismError(f"above --fail-above: {'; '.join(broken)}")


def compare_reports(first: Path, second: Path, *, allow_different: bool, as_json: bool) -> None:
    """Print the ratios of two results; :class:`UsageError` where they may not be compared."""
    from rich.table import Table

    from vidprism_edge.benchmark.compare import compare, tell_incomparable
    from vidprism_edge.benchmark.results import read_result
    from vidprism_edge.cli.console import print_json, print_table

    one, two = read_result(first), read_result(second)
    reasons = tell_incomparable(one, two)
    if reasons and not allow_different:
        raise UsageError(
            f"these runs are not comparable: {'; '.join(reasons)}; --allow-different compares them all the same"
        )
    found = compare(one, two)
    if as_json:
        print_json({**found, "incomparable": reasons})
        return
    table = Table(box=None, pad_edge=False)
    for column in (found["measured"], "second / first", "99 % interval", ""):
        table.add_column(column)
    for name, row in found["ratios"].items():
        table.add_row(name, f"{row['ratio']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}", row["verdict"])
    for name, row in found["stages"].items():
        table.add_row(name, "", f"{row['first_ms']:.2f} → {row['second_ms']:.2f} ms", "mean, no interval")
    differing = "; ".join(found["different"]) or "none: a repetition"
    notes = [f"flags that differ: {differing}", *(f"NOT COMPARABLE: {reason}" for reason in reasons)]
    if not found["restarts_known"]:
        notes.append(
            "a run of one process is compared: the intervals know nothing of restarts; profile normal does"
        )
    print_table(table, *notes)


def draw_report(folder: Path) -> None:
    """Write the Markdown and the pictures of a folder whose result came from a machine without matplotlib."""
    from vidprism_edge.benchmark.publish import RESULT, publish
    from vidprism_edge.benchmark.results import read_result
    from vidprism_edge.cli.console import say

    read_result(folder)
    if not folder.is_dir():
        raise UsageError(f"--draw is {folder}; expected the folder of a report")
    say(f"wrote {', '.join(publish((folder / RESULT).read_bytes(), folder)[1:])} in {folder}")


def parse_percentiles(text: str) -> list[float]:
    """Parse ``--percentiles``; raises :class:`UsageError` for anything but numbers between 0 and 100."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"--percentiles is {text!r}; expected numbers separated by commas, as in 50,90,99"
        ) from None
    if not all(0 < value < 100 for value in values):
        raise UsageError(f"--percentiles is {text!r}; expected each between 0 and 100")
    return values


def show(result: dict[str, Any]) -> None:
    """Print a result for people."""
    from rich.table import Table

    from vidprism_edge.benchmark.statistics import show_percentile
    from vidprism_edge.benchmark.tell import as_request, tell_notes
    from vidprism_edge.cli.console import print_table

    percentiles = as_request(result).percentiles
    table = Table(box=None, pad_edge=False)
    table.add_column("milliseconds")
    for percentile in percentiles:
        table.add_column(f"p{percentile:g}", justify="right")
    table.add_column("mean", justify="right")
    for name, summary in {result["measured"]: result["latency_ms"], **result["stages_ms"]}.items():
        cells = [show_percentile(summary, p) for p in percentiles]
        table.add_row(name, *cells, f"{summary['mean']:.2f}")
    print_table(table, *tell_notes(result))

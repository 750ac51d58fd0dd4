"""TensorRT and CUDA's runtime in the parts that we use, under their real names: "device memory" is the host's, a stream
is a queue that runs when it is waited for, and ONNX Runtime computes. What the real modules lack, this lacks.
"""

from __future__ import annotations

import ctypes
import enum
import io
import json
import os
import sys
from collections import deque
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import onnxruntime

VERSION = "10.3.0"


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorStreamCaptureUnsupported = 900


class cudaMemcpyKind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


class cudaDeviceAttr(enum.IntEnum):
    cudaDevAttrComputeCapabilityMajor = 75
    cudaDevAttrComputeCapabilityMinor = 76


OK = (cudaError_t.cudaSuccess,)


class FakeCuda:
    """``cuda.bindings.runtime``: counts what is allocated, by handle, so that a test sees what was not released."""

    cudaMemcpyKind, cudaStreamCaptureMode, cudaDeviceAttr = (
        cudaMemcpyKind,
        cudaStreamCaptureMode,
        cudaDeviceAttr,
    )
    cudaStreamNonBlocking = 1

    def __init__(self) -> None:
        self.memory: dict[int, ctypes.Array] = {}
        self.kinds: dict[int, str] = {}
        self.handles: dict[int, object] = {}
        self.calls: list[str] = []
        self.queue: deque = deque()
        self.recording: list | None = None
        self.can_capture = True

    def _handle(self, value: object) -> int:
        handle = id(value)
        self.handles[handle] = value
        return handle

    def _allocate(self, size: int, kind: str):
        buffer = (ctypes.c_uint8 * size)()
        ctypes.memset(buffer, 0xFF, size)  # what nobody has written is NaN
        address = ctypes.addressof(buffer)
        self.memory[address], self.kinds[address] = buffer, kind
        return (*OK, address)

    def cudaMalloc(self, size):
        return self._allocate(size, "device")

    def cudaMallocHost(self, size):
        return self._allocate(size, "host")

    def _release(self, address: int, kind: str):
        if self.kinds.pop(address, None) != kind:
            return (cudaError_t.cudaErrorInvalidValue,)
        del self.memory[address]
        return OK

    def cudaFree(self, address):
        return self._release(address, "device")

    def cudaFreeHost(self, address):
        return self._release(address, "host")

    def cudaStreamCreateWithFlags(self, flags):
        return (*OK, self._handle(object()))

    def cudaStreamDestroy(self, stream):
        return self._drop(stream)

    cudaGraphDestroy = cudaGraphExecDestroy = cudaStreamDestroy

    def _drop(self, handle):
        return OK if self.handles.pop(handle, None) is not None else (cudaError_t.cudaErrorInvalidValue,)

    def enqueue(self, name: str, work) -> None:
        self.calls.append(name)
        (self.queue if self.recording is None else self.recording).append((name, work))

    def cudaMemcpyAsync(self, target, source, size, kind, stream):
        sides = {1: ("host", "device"), 2: ("device", "host"), 3: ("device", "device")}[int(kind)]
        if (self.kinds.get(source), self.kinds.get(target)) != sides:
            return (cudaError_t.cudaErrorInvalidValue,)
        self.enqueue(f"copy {kind.name}", lambda: ctypes.memmove(target, source, size))
        return OK

    def cudaStreamSynchronize(self, stream):
        while self.queue:
            self.queue.popleft()[1]()
        return OK

    def cudaStreamBeginCapture(self, stream, mode):
        if not self.can_capture:
            return (cudaError_t.cudaErrorStreamCaptureUnsupported,)
        self.recording = []
        return OK

    def cudaStreamEndCapture(self, stream):
        recorded, self.recording = self.recording, None
        return (*OK, self._handle(recorded))

    def cudaGraphInstantiate(self, graph, flags):
        return (*OK, self._handle(list(self.handles[graph])))

    def cudaGraphLaunch(self, executable, stream):
        self.calls.append("graph")
        self.queue.extend(self.handles[executable])
        return OK

    def cudaDeviceGetAttribute(self, attribute, device):
        return (*OK, 8 if attribute == cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor else 7)

    def cudaDriverGetVersion(self):
        return (*OK, 12060)

    def cudaGetDeviceProperties(self, device):
        return (*OK, SimpleNamespace(name=b"Fake Orin"))


class TensorIOMode(enum.IntEnum):
    INPUT = 1
    OUTPUT = 2


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0


class DeviceType(enum.IntEnum):
    GPU = 0
    DLA = 1


class BuilderFlag(enum.IntEnum):
    GPU_FALLBACK = 3


class Logger:
    ERROR, WARNING = 1, 2

    def __init__(self, severity) -> None:
        self.severity = severity


class IProgressMonitor:
    pass


class _Cache:
    def __init__(self, data: bytes) -> None:
        self.data = data or b"cache:"

    def serialize(self) -> bytes:
        return self.data


class _Config:
    def __init__(self) -> None:
        self.flags: list = []
        self.progress_monitor = None
        self.default_device_type, self.DLA_core = DeviceType.GPU, -1
        self.cache: _Cache | None = None

    def set_memory_pool_limit(self, pool, size) -> None:
        self.workspace = size

    def set_flag(self, flag) -> None:
        self.flags.append(flag)

    def create_timing_cache(self, data):
        return None if data == b"damaged" else _Cache(data)

    def set_timing_cache(self, cache, ignore_mismatch) -> bool:
        self.cache = cache
        return True

    def can_run_on_DLA(self, layer) -> bool:
        return layer.op in ("Conv", "Clip")


class _Network:
    def __init__(self, flags: int) -> None:
        assert flags == 1 << int(NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        self.model: onnx.ModelProto | None = None

    @property
    def num_layers(self) -> int:
        return len(self.model.graph.node)

    def get_layer(self, index):
        node = self.model.graph.node[index]
        return SimpleNamespace(name=node.name, op=node.op_type)


class OnnxParser:
    def __init__(self, network, logger) -> None:
        self.network, self.errors = network, []

    @property
    def num_errors(self) -> int:
        return len(self.errors)

    def get_error(self, index):
        return self.errors[index]

    def parse_from_file(self, path) -> bool:
        model = onnx.load(path)
        for node in model.graph.node:
            if node.op_type == "Det":
                self.errors.append(SimpleNamespace(node_name=lambda n=node: n.name, desc=lambda: "no Det"))
        self.network.model = model
        return not self.errors


class Builder:
    num_DLA_cores = 0

    def __init__(self, logger) -> None:
        pass

    def create_network(self, flags):
        return _Network(flags)

    def create_builder_config(self):
        return _Config()

    def build_serialized_network(self, network, config):
        monitor = config.progress_monitor
        monitor.phase_start("Building", None, 2)
        monitor.phase_start("Tactics", "Building", 7)
        for step in range(2):
            monitor.step_complete("Building", step)
        monitor.phase_finish("Tactics")
        monitor.phase_finish("Building")
        config.cache.data += network.model.graph.name.encode()[:8] + b";"
        return _plan(network.model)


def _plan(model: onnx.ModelProto, version: str = "") -> bytes:
    return json.dumps({"version": version or VERSION}).encode() + b"\n" + model.SerializeToString()


class _Context:
    def __init__(self, engine, cuda: FakeCuda) -> None:
        self._engine, self._cuda, self.addresses = engine, cuda, {}

    def set_tensor_address(self, name, address) -> bool:
        assert self._cuda.kinds[address] == "device"
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle) -> bool:
        assert stream_handle in self._cuda.handles
        self._cuda.enqueue("network", self._run)
        return True

    def _run(self) -> None:
        views = {name: self._view(name) for name in self.addresses}
        inputs = {
            name: view.copy() for name, view in views.items() if self._engine.get_tensor_mode(name) == 1
        }
        names = [name for name in views if name not in inputs]
        for name, value in zip(names, self._engine.session.run(names, inputs), strict=True):
            views[name][...] = value

    def _view(self, name):
        buffer = self._cuda.memory[self.addresses[name]]
        return np.frombuffer(buffer, np.float32).reshape(self._engine.get_tensor_shape(name))


class _Engine:
    def __init__(self, model: bytes, cuda: FakeCuda) -> None:
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        settings.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        self._tensors = [*self.session.get_inputs(), *self.session.get_outputs()]
        self._inputs = len(self.session.get_inputs())
        self._cuda = cuda

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index):
        return self._tensors[index].name

    def _index(self, name) -> int:
        return [t.name for t in self._tensors].index(name)

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if self._index(name) < self._inputs else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name):
        return tuple(self._tensors[self._index(name)].shape)

    def get_tensor_dtype(self, name):
        return {"tensor(float)": np.float32}.get(self._tensors[self._index(name)].type)

    def create_execution_context(self):
        return _Context(self, self._cuda)


def make_runtime(cuda: FakeCuda) -> type:
    class Runtime:
        DLA_core = -1

        def __init__(self, logger) -> None:
            pass

        def deserialize_cuda_engine(self, data):
            header, _, model = io.BytesIO(data).readline(), None, data.partition(b"\n")[2]
            try:
                known = json.loads(header)["version"] == VERSION
            except ValueError:
                known = False
            return _Engine(model, cuda) if known else None

    return Runtime


def make_modules(cuda: FakeCuda) -> dict[str, ModuleType]:
    """Modules for ``sys.modules``: ``tensorrt`` and ``cuda.bindings.runtime`` with its parents."""
    from importlib.machinery import ModuleSpec

    modules = {
        name: ModuleType(name) for name in ("tensorrt", "cuda", "cuda.bindings", "cuda.bindings.runtime")
    }
    for name, module in modules.items():
        module.__spec__ = ModuleSpec(name, None, is_package=True)
        module.__path__ = []
    trt = modules["tensorrt"]
    for value in (
        TensorIOMode, NetworkDefinitionCreationFlag, MemoryPoolType, DeviceType, BuilderFlag, Logger, IProgressMonitor,
        OnnxParser, Builder,
    ):  # fmt: skip
        setattr(trt, value.__name__, value)
    trt.__version__, trt.float32, trt.Runtime = VERSION, np.float32, make_runtime(cuda)
    runtime = modules["cuda.bindings.runtime"]
    for name in dir(cuda):
        if name.startswith("cuda"):
            setattr(runtime, name, getattr(cuda, name))
    modules["cuda"].bindings, modules["cuda.bindings"].runtime = modules["cuda.bindings"], runtime
    return modules


def main() -> int:
    """The build's worker with these modules; ``FAKE_KILL`` names the graph at which it is killed."""
    import signal

    from vidprism_edge.export import build_worker

    sys.modules.update(make_modules(FakeCuda()))
    job = json.loads(Path(sys.argv[1]).read_bytes())
    label = f"{job['graph']} {job['precision']}"
    print("a library's line on stdout")
    if label == os.environ.get("FAKE_KILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    if label == os.environ.get("FAKE_WRONG"):
        # an engine that computes something else: the golden vectors must catch it
        real = _Context._run
        _Context._run = lambda self: (real(self), [v.__imul__(1.5) for v in map(self._view, self.addresses)])
    return build_worker.main()


if __name__ == "__main__":
    sys.exit(main())

"""CUDA's runtime through ``cuda-python``: errors as exceptions, buffers with an owner, one stream, captured graphs."""

from __future__ import annotations

import ctypes
import importlib.util
import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from vidprism_edge.errors import EngineError


def import_cuda() -> Any:
    """Return the module ``cuda.bindings.runtime``. Raises :class:`EngineError` where it is not installed."""
    try:
        found = importlib.util.find_spec("cuda.bindings") is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise EngineError(
            "the package cuda-bindings is not installed; run `pip install 'vidprism-edge[tensorrt]'`"
        )
    from cuda.bindings import runtime

    return runtime


class Cuda:
    """One stream of one device, and what is allocated for it. Everything is released with it, or by :meth:`close`."""

    def __init__(self, runtime: Any) -> None:
        self.api = runtime
        self._owned: list[tuple[Callable[[Any], Any], Any]] = []
        self._finalizer = weakref.finalize(self, _release, self._owned)
        flags = runtime.cudaStreamNonBlocking
        self.stream = self.own(runtime.cudaStreamDestroy, self.call("cudaStreamCreateWithFlags", flags))

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the runtime; its results without the status. Raises :class:`EngineError`."""
        status, *results = getattr(self.api, name)(*arguments)
        if int(status) != 0:
            raise EngineError(f"{name} failed: {describe(self.api, status)}")
        return results[0] if len(results) == 1 else tuple(results)

    def own(self, release: Callable[[Any], Any], handle: Any) -> Any:
        """Release a handle when this object goes, last made first."""
        self._owned.append((release, handle))
        return handle

    def device_buffer(self, size_bytes: int) -> int:
        """Address of ``size_bytes`` of the device's memory."""
        return int(self.own(self.api.cudaFree, self.call("cudaMalloc", size_bytes)))

    def pinned_array(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """A float32 array in page-locked host memory, from which copies need no second buffer."""
        count = math.prod(shape)
        address = int(self.own(self.api.cudaFreeHost, self.call("cudaMallocHost", 4 * count)))
        array = np.ctypeslib.as_array((ctypes.c_float * count).from_address(address))
        return array.reshape(shape)

    def copy(self, target: int, source: int, size_bytes: int, kind: str) -> None:
        """Queue a copy: ``kind`` is ``HostToDevice``, ``DeviceToHost`` or ``DeviceToDevice``."""
        which = getattr(self.api.cudaMemcpyKind, f"cudaMemcpy{kind}")
        self.call("cudaMemcpyAsync", target, source, size_bytes, which, self.stream)

    def wait(self) -> None:
        """Wait until everything that was queued is done."""
        self.call("cudaStreamSynchronize", self.stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None] | None:
        """Record what ``work`` queues and return a function that queues all of it at once; None where that fails."""
        mode = self.api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        try:
            self.call("cudaStreamBeginCapture", self.stream, mode)
            try:
                work()
            finally:
                graph = self.call("cudaStreamEndCapture", self.stream)
            self.own(self.api.cudaGraphDestroy, graph)
            executable = self.own(self.api.cudaGraphExecDestroy, self.call("cudaGraphInstantiate", graph, 0))
        except EngineError:
            return None
        return lambda: self.call("cudaGraphLaunch", executable, self.stream)

    def close(self) -> None:
        """Release the stream and every buffer; nothing of it may be used afterwards."""
        self._finalizer()


def _release(owned: list[tuple[Callable[[Any], Any], Any]]) -> None:
    while owned:
        release, handle = owned.pop()
        release(handle)


def describe(api: Any, status: Any) -> str:
    """Name of a CUDA error and what it usually means for the user."""
    name = getattr(status, "name", str(status))
    hints = {
        "cudaErrorNoDevice": "this machine has no NVIDIA GPU",
        "cudaErrorInsufficientDriver": "the NVIDIA driver is missing or older than CUDA's runtime; update it",
        "cudaErrorMemoryAllocation": "the device's memory is full; close other programs",
    }
    return f"{name} ({hints[name]})" if name in hints else name

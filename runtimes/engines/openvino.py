"""OpenVINO on Intel and ARM processors, Intel GPUs and NPUs."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from vidprism_edge.bundle import Arrays, GraphInfo
from vidprism_edge.errors import BundleError, EngineError
from vidprism_edge.runtimes.engines import Engine, EngineOptions

#: What floating point is computed in, by the precision of the manifest. Always said: the plugin's own choice is bf16
#: or f16 where the machine has it, and parity would be lost unseen.
_HINTS = {
    "fp32": "f32",
    "bf16": "bf16",
    "fp16": "f16",
    "int8": "f32",
    "int8+bf16": "bf16",
    "int8+fp16": "f16",
}
_NAMES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


@cache
def core() -> openvino.Core:
    """The process's one OpenVINO core: loading its plugins takes longer than compiling a small graph."""
    return openvino.Core()


def check_device(device: str) -> str:
    """Return a device's name in OpenVINO; :class:`EngineError` lists those that are there."""
    name = device.upper()
    there = core().available_devices
    if name != "AUTO" and name.split(".")[0] not in {d.split(".")[0] for d in there}:
        raise EngineError(f"OpenVINO finds no device {device!r} here; it finds {', '.join(there)}, and AUTO")
    return name


class OpenVinoEngine(Engine):
    """One graph in OpenVINO, from its IR or from ONNX. Threads may share it: each has a request of its own."""

    def __init__(self, graph: GraphInfo, path: Path, options: EngineOptions) -> None:
        super().__init__(graph)
        device = check_device(options.device)
        try:
            model = core().read_model(path)
            self._compiled = core().compile_model(model, device, _settings(graph.precision, device, options))
        except RuntimeError as error:
            raise BundleError(
                f"OpenVINO cannot load {path} on {device}: {_last_line(error)}; export again, or use another device"
            ) from None
        self.precision = self._effective_precision()
        self.placement = dict.fromkeys(self._compiled.get_property("EXECUTION_DEVICES"))
        self._outputs = {output.name: self._compiled.output(output.name) for output in graph.outputs}
        self._own = threading.local()

    def _effective_precision(self) -> str:
        """A processor without bf16 or f16 computes in f32 and does not say so: report what it is."""
        try:
            used = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        except RuntimeError:
            return self.graph.precision  # AUTO has no precision of its own
        rest = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}.get(used, _NAMES.get(used, used))
        if not self.graph.precision.startswith("int8"):
            return rest
        return "int8" if rest == "fp32" else f"int8+{rest}"

    def infer_impl(self, inputs: Mapping[str, npt.NDArray[np.float32]]) -> Arrays:
        """Run the graph; contiguous inputs are read where they are, the outputs are new arrays."""
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        request.infer(dict(inputs), share_inputs=True)
        return {name: request.get_tensor(port).data.copy() for name, port in self._outputs.items()}


def _settings(precision: str, device: str, options: EngineOptions) -> dict[str, Any]:
    """Compile properties: precision by the manifest, one stream for latency or several for throughput."""
    if precision not in _HINTS:
        raise BundleError(f"precision {precision!r} is unknown to OpenVINO; expected {', '.join(_HINTS)}")
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY" if options.streams == 1 else "THROUGHPUT",
    }
    if device != "AUTO":
        settings["NUM_STREAMS"] = str(options.streams)
    if options.threads and device == "CPU":
        settings["INFERENCE_NUM_THREADS"] = options.threads
    if options.cache is not None:
        settings["CACHE_DIR"] = str(options.cache)
    return settings


def _last_line(error: RuntimeError) -> str:
    """The line of OpenVINO's message that says what is wrong; those before it name its own source files."""
    return [line for line in str(error).splitlines() if line.strip()][-1]

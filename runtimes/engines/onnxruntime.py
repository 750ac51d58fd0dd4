"""ONNX Runtime on the processor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from vidprism_edge.bundle import Arrays, GraphInfo
from vidprism_edge.errors import BundleError, EngineError
from vidprism_edge.runtimes.engines import Engine, EngineOptions

# for a program that loaded the library before us: see vidprism_edge.runtimes.engines
onnxruntime.disable_telemetry_events()


CPU = "CPUExecutionProvider"


def find_provider(device: str) -> str:
    """Return the execution provider for a device: ``CPU``, ``CUDA``, ``OpenVINO``, ``XNNPACK``, in any case."""
    there = onnxruntime.get_available_providers()
    for provider in there:
        if provider.lower() == f"{device.lower()}executionprovider":
            return str(provider)
    listed = ", ".join(p.removesuffix("ExecutionProvider") for p in there)
    raise EngineError(f"this ONNX Runtime has no device {device!r}; it has {listed}")


class OnnxRuntimeEngine(Engine):
    """One graph in ONNX Runtime; nodes that the device's execution provider does not take run on the processor."""

    def __init__(self, graph: GraphInfo, path: Path, options: EngineOptions) -> None:
        super().__init__(graph)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        provider = find_provider(options.device)
        settings.log_severity_level = 3
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if graph.target == "jetson":
            # TensorRT's graphs are checked here as they are written; the optimizer breaks FP16 convolutions with Q/DQ
            settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # idle threads that spin take the cores from the camera's decoder
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), settings, providers=list(dict.fromkeys((provider, CPU)))
            )
        except Exception as error:
            # onnxruntime's exceptions share no public base class
            raise BundleError(
                f"ONNX Runtime cannot load {path}: {str(error).splitlines()[0]}; export again"
            ) from None
        if self._session.get_providers()[0] != provider:
            raise EngineError(
                f"ONNX Runtime could not start {provider} on this machine; check its driver, or --device CPU"
            )
        self.placement = self._placement()
        self._outputs = [output.name for output in graph.outputs]

    def _placement(self) -> dict[str, tuple[str, ...] | None]:
        """Nodes by execution provider; versions before 1.24 tell the providers alone."""
        if not hasattr(self._session, "get_provider_graph_assignment_info"):
            return {name.removesuffix("ExecutionProvider"): None for name in self._session.get_providers()}
        placed: dict[str, tuple[str, ...] | None] = {}
        for part in self._session.get_provider_graph_assignment_info():
            name = part.ep_name.removesuffix("ExecutionProvider")
            nodes = tuple(f"{node.op_type} {node.name}" for node in part.get_nodes())
            placed[name] = (placed.get(name) or ()) + nodes
        return placed

    def infer_impl(self, inputs: Mapping[str, npt.NDArray[np.float32]]) -> Arrays:
        """Run the graph; the outputs are new arrays."""
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))

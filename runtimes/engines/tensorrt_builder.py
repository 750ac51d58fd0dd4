"""Builds one TensorRT engine from one typed graph, on the device that will run it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidprism_edge.errors import EngineError

#: (phase, steps done, steps in all)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class BuilderOptions:
    """``timing_cache``: measured kernels, shared by the engines of a device. ``dla``: the core, None for the GPU."""

    timing_cache: Path
    workspace_bytes: int = 512 << 20
    dla: int | None = None


def _monitor(trt: Any, progress: Progress) -> Any:
    """TensorRT's own report of how far it is: the outermost phase moves the bar."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.outer: str | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps
            if parent_phase is None:
                self.outer = phase_name

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name == self.outer:
                progress(phase_name, step + 1, self.steps[phase_name])
            return True

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()


@dataclass(slots=True)
class EngineBuilder:
    """One build. ``gpu_fallback`` names the layers that were to run on DLA and do not."""

    trt: Any
    options: BuilderOptions
    gpu_fallback: list[str] = field(default_factory=list)

    def build(self, graph: Path, output: Path, progress: Progress = lambda *_: None) -> None:
        """Build ``graph`` into ``output``, keep the timing cache. :class:`EngineError` has TensorRT's reason."""
        trt = self.trt
        logger = trt.Logger(trt.Logger.WARNING)
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse_from_file(str(graph)):
            errors = [parser.get_error(i) for i in range(parser.num_errors)]
            reasons = "; ".join(f"{e.node_name()}: {e.desc()}" for e in errors)
            raise EngineError(f"TensorRT {trt.__version__} refuses {graph.name}: {reasons}")
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, self.options.workspace_bytes)
        config.progress_monitor = _monitor(trt, progress)
        self._use_dla(builder, network, config)
        cache = self._use_cache(config)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise EngineError(
                f"TensorRT {trt.__version__} did not build {graph.name}; its messages above say why. With too little "
                "memory, close other programs, or give a smaller --workspace-mb"
            )
        output.write_bytes(plan)
        self._keep_cache(cache)

    def _use_dla(self, builder: Any, network: Any, config: Any) -> None:
        if self.options.dla is None:
            return
        trt = self.trt
        if self.options.dla >= builder.num_DLA_cores:
            raise EngineError(
                f"DLA core {self.options.dla} was asked for; this device has {builder.num_DLA_cores}. Leave --dla out"
            )
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = self.options.dla
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
        layers = [network.get_layer(i) for i in range(network.num_layers)]
        self.gpu_fallback = [layer.name for layer in layers if not config.can_run_on_DLA(layer)]

    def _use_cache(self, config: Any) -> Any:
        file = self.options.timing_cache
        cache = config.create_timing_cache(file.read_bytes() if file.is_file() else b"")
        # a cache of another version or GPU is refused by TensorRT itself: begin a new one
        if cache is None or not config.set_timing_cache(cache, False):
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, False)
        return cache

    def _keep_cache(self, cache: Any) -> None:
        file = self.options.timing_cache
        part = file.with_name(f".{file.name}.part")
        part.write_bytes(cache.serialize())
        part.replace(file)

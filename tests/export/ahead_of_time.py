"""Builds a graph by TensorRT for RTX, which needs no GPU for it: a gate of syntax and support, not of speed."""

from __future__ import annotations

from pathlib import Path

import pytest


def build_ahead_of_time(path: Path) -> int:
    """Parse and build for compute capability 8.6, the nearest to Orin's 8.7 that it knows; return the engine's bytes.

    Skips where the package is missing; fails with the parser's own words.
    """
    trt = pytest.importorskip(
        "tensorrt_rtx", reason="needs TensorRT for RTX: pip install 'vidprism-edge[tensorrt]'"
    )
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        errors = [
            f"{parser.get_error(i).node_name()}: {parser.get_error(i).desc()}"
            for i in range(parser.num_errors)
        ]
        pytest.fail(f"TensorRT {trt.__version__} refuses {path.name}: {'; '.join(errors)}")
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None, f"TensorRT {trt.__version__} parses {path.name} and does not build it"
    return int(engine.nbytes)

"""Passes over an exported graph, one a file. Each takes a model, changes it in place and says how much it changed.

The exporter's own optimizer folds constants and batch normalisations, and removes what is unused; these are what it
leaves. Normalising pixels is not fused into the first convolution: the native sampler does it while it resizes, in the
same pass over the frame, so no graph has a step for it.
"""

from __future__ import annotations

import onnx

from vidprism_edge.export.passes.share import share_initializers
from vidprism_edge.export.passes.strip import strip_leftovers

PASSES = (strip_leftovers, share_initializers)


def run_passes(model: onnx.ModelProto) -> None:
    """Run every pass in order."""
    for run in PASSES:
        run(model)

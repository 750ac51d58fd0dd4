"""Shares initializers: fusion passes and attention layers read the same tables, each exported for itself."""

from __future__ import annotations

import onnx


def share_initializers(model: onnx.ModelProto) -> int:
    """Keep one of every group of equal initializers; return the bytes saved. Inputs' defaults stay as they are."""
    inputs = {value.name for value in model.graph.input}
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    same: dict[str, str] = {}
    saved = 0
    for tensor in model.graph.initializer:
        if tensor.name in inputs or not tensor.raw_data:
            continue
        key = (tensor.data_type, tuple(tensor.dims), tensor.raw_data)
        if key in first:
            same[tensor.name] = first[key]
            saved += len(tensor.raw_data)
        else:
            first[key] = tensor.name
    outputs = {value.name for value in model.graph.output}
    same = {name: kept for name, kept in same.items() if name not in outputs}
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = same.get(name, name)
    left = [t for t in model.graph.initializer if t.name not in same]
    del model.graph.initializer[:]
    model.graph.initializer.extend(left)
    return saved

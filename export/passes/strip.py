"""Strips what the exporter leaves behind: its own stack traces, 1 kB a node, with this machine's paths in them."""

from __future__ import annotations

import onnx


def strip_leftovers(model: onnx.ModelProto) -> int:
    """Clear documentation and metadata; return the number of nodes that had some."""
    found = 0
    for node in model.graph.node:
        found += bool(node.metadata_props or node.doc_string)
        del node.metadata_props[:]
        node.ClearField("doc_string")
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    return found

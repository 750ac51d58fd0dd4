"""Whether a batch of several cameras' samples costs less than one after another, per graph, on ONNX Runtime.

    python scripts/measure_batching.py [--preset nano] [--threads 1] [--rounds 30]

The spatial encoder and one step of the temporal expert are exported at batch 1, 2 and 4 with random weights, which cost
what trained ones do. All sizes take turns in one process; printed are medians of the wall time a sample, and their
ratio to batch 1: above 1, batching pays.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from vidprism_edge.bundle import TensorInfo
from vidprism_edge.export.graphs import GraphSpec, describe_graphs, to_onnx
from vidprism_edge.model.network import build
from vidprism_edge.spec import load_preset

GRAPHS = ("spatial", "temporal")
BATCHES = (1, 2, 4)


def enlarge(graph: GraphSpec, batch: int) -> GraphSpec:
    """The same graph for so many samples at once."""
    return replace(graph, inputs=tuple(TensorInfo(i.name, (batch, *i.shape[1:])) for i in graph.inputs))


class Runner:
    """One graph at one batch size with inputs of its own."""

    def __init__(self, graph: GraphSpec, folder: Path, threads: int) -> None:
        self.batch = graph.inputs[0].shape[0]
        path = folder / f"{graph.name}-{self.batch}.onnx"
        to_onnx(graph, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        rng = np.random.default_rng(0)
        self._inputs = {i.name: rng.standard_normal(i.shape, np.float32) for i in graph.inputs}

    def time_ms(self) -> float:
        """Wall time of one run, a sample."""
        start = time.perf_counter()
        self._session.run(None, self._inputs)
        return (time.perf_counter() - start) * 1e3 / self.batch


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    a = parser.parse_args()
    torch.manual_seed(0)
    net = build(load_preset(a.preset), random_weights=True)
    graphs = [g for g in describe_graphs(net) if g.name in GRAPHS]
    print(f"| {a.preset}, {a.threads} thread(s) | batch | ms a sample | faster than one by one |")
    print("|---|---|---|---|")
    for graph in graphs:
        with tempfile.TemporaryDirectory() as folder:
            runners = [Runner(enlarge(graph, n), Path(folder), a.threads) for n in BATCHES]
        spent: list[list[float]] = [[] for _ in runners]
        for turn in range(a.rounds + 2):
            for runner, times in zip(runners, spent, strict=True):
                ms = runner.time_ms()
                if turn >= 2:
                    times.append(ms)
        medians = [statistics.median(times) for times in spent]
        for runner, ms in zip(runners, medians, strict=True):
            print(f"| {graph.name} | {runner.batch} | {ms:.2f} | {medians[0] / ms:.2f} × |")


if __name__ == "__main__":
    main()

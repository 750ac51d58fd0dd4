"""The same graphs in ONNX Runtime Web: WebAssembly in Node gives what the golden vectors say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from vidprism_edge.bundle import Bundle


def find_package() -> str:
    """Where Node finds onnxruntime-web; the test is skipped where it does not."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node: https://nodejs.org")
    code = "process.stdout.write(require.resolve('onnxruntime-web'))"
    done = subprocess.run([node, "-e", code], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("needs `npm install onnxruntime-web`, and NODE_PATH naming its node_modules")
    return done.stdout


def test_every_graph_runs_in_onnxruntime_web(tiny_bundle, tmp_path):
    package = find_package()
    bundle, jobs, expected = Bundle.open(tiny_bundle), [], {}
    for name in bundle.graphs:
        cases = []
        for number, (_, inputs, outputs) in enumerate(bundle.golden(name)):
            if number == 3:
                break
            files = {}
            for tensor, value in inputs.items():
                file = tmp_path / f"{name}.{number}.{tensor}.in"
                file.write_bytes(np.ascontiguousarray(value, np.float32).tobytes())
                files[tensor] = {"file": str(file), "shape": value.shape}
            results = {tensor: tmp_path / f"{name}.{number}.{tensor}.out" for tensor in outputs}
            expected |= {file: outputs[tensor] for tensor, file in results.items()}
            cases.append({"inputs": files, "outputs": {t: str(f) for t, f in results.items()}})
        jobs.append({"graph": str(bundle.graph_file(name)), "cases": cases})
    (tmp_path / "cases.json").write_text(json.dumps(jobs))
    done = subprocess.run(
        ["node", str(Path(__file__).with_name("run_web.mjs")), str(tmp_path / "cases.json")],
        env={**os.environ, "ONNXRUNTIME_WEB": package}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for file, reference in expected.items():
        value = np.frombuffer(file.read_bytes(), np.float32).reshape(reference.shape)
        assert np.allclose(value, reference, atol=1e-4, rtol=1e-4), file.name

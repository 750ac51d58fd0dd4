"""OpenVINO: the same graphs, the precision that was asked for, nothing sent or kept."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import msgspec
import numpy as np
import pytest

pytest.importorskip("openvino", reason="needs pip install 'vidprism-edge[openvino]'")

from vidprism_edge.bundle import Bundle
from vidprism_edge.errors import BundleError, EngineError
from vidprism_edge.export.verification import verify_bundle
from vidprism_edge.runtimes.engines import EngineOptions, load_engine
from vidprism_edge.runtimes.engines.openvino import core
from vidprism_edge.spec import COMPONENTS


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return Bundle.open(tiny_bundle)


def build(bundle, precision="fp32", name="head", **options):
    graph = msgspec.structs.replace(bundle.graphs[name], precision=precision)
    return load_engine(graph, bundle.graph_file(name), "openvino", EngineOptions(1, **options))


def test_a_bundle_without_graphs_of_its_own_passes_on_the_reference_ones(bundle):
    report = verify_bundle(bundle, "openvino", options=EngineOptions(1))
    assert report.passed
    assert {o.graph for o in report.outputs} == set(COMPONENTS)


def test_the_engine_says_what_it_computes_in(bundle):
    able = "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert build(bundle).precision == "fp32"
    assert build(bundle, "bf16").precision == ("bf16" if able else "fp32")
    vector = np.random.default_rng(0).standard_normal((1, 32)).astype(np.float32)
    exact, rough = (build(bundle, p).infer({"vector": vector})["logits"] for p in ("fp32", "bf16"))
    assert np.array_equal(exact, rough) != able
    assert np.abs(exact - rough).max() < 0.1


def test_an_unknown_precision_and_a_missing_device_are_said(bundle):
    with pytest.raises(BundleError, match="precision 'int3' is unknown"):
        build(bundle, "int3")
    with pytest.raises(EngineError, match="finds no device 'XYZ' here; it finds CPU"):
        build(bundle, device="XYZ")
    assert build(bundle, device="auto").infer({"vector": np.zeros((1, 32), np.float32)})


def test_a_file_that_is_no_graph_is_one_line(bundle, tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"nonsense")
    with pytest.raises(BundleError, match=r"cannot load .*x\.onnx on CPU") as caught:
        load_engine(bundle.graphs["head"], tmp_path / "x.onnx", "openvino")
    assert "\n" not in str(caught.value)


def test_outputs_are_new_arrays_and_strided_inputs_are_read_right(bundle):
    engine = build(bundle)
    wide = np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32)
    first = engine.infer({"vector": wide[:, ::2]})["logits"]
    kept = first.copy()
    engine.infer({"vector": np.ones((1, 32), np.float32)})
    assert np.array_equal(first, kept)
    assert np.array_equal(engine.infer({"vector": wide[:, ::2].copy()})["logits"], kept)


def test_threads_share_an_engine_without_mixing_their_results(bundle):
    engine = build(bundle, name="fusion", streams=2)
    golden = list(bundle.golden("fusion"))
    wrong: list[str] = []

    def work(case, inputs, outputs):
        for _ in range(20):
            if not np.allclose(engine.infer(inputs)["vector"], outputs["vector"], atol=1e-4):
                wrong.append(case)

    threads = [threading.Thread(target=work, args=g) for g in golden[:3]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_is_compiled_is_kept_only_where_it_was_asked_for(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build(bundle)
    assert list(tmp_path.iterdir()) == []
    build(bundle, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir())


def test_nothing_is_sent_or_left_in_the_home(tmp_path):
    """The package that reports to OpenVINO's maker is not even imported."""
    environment = {n: v for n, v in os.environ.items() if n not in ("CI", "GITHUB_ACTIONS")}
    code = (
        "import sys, vidprism_edge.runtimes.engines.openvino as e; e.core();"
        "assert sys.modules['openvino_telemetry'] is None;"
        "from openvino.tools.ovc import telemetry; assert 'stub' in type(telemetry).__module__"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**environment, "HOME": str(tmp_path)}, cwd=tmp_path, check=False
    )
    assert done.returncode == 0
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []

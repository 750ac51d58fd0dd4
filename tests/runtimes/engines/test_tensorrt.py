"""The TensorRT engine on a fake TensorRT with the real names: buffers, the captured graph, state on the device."""

from __future__ import annotations

import sys

import msgspec
import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="it computes for the fake TensorRT")
onnx = pytest.importorskip("onnx", reason="the fake reads the graphs")

from tests.runtimes.engines import fake_tensorrt  # noqa: E402
from vidprism_edge.bundle import Bundle  # noqa: E402
from vidprism_edge.errors import EngineError  # noqa: E402
from vidprism_edge.runtimes.engines import EngineOptions, load_engine, load_engines  # noqa: E402
from vidprism_edge.runtimes.engines.cuda import Cuda, import_cuda  # noqa: E402
from vidprism_edge.runtimes.engines.tensorrt import TensorRtEngine, describe_device, import_tensorrt  # noqa: E402


@pytest.fixture
def cuda(monkeypatch):
    fake = fake_tensorrt.FakeCuda()
    for name, module in fake_tensorrt.make_modules(fake).items():
        monkeypatch.setitem(sys.modules, name, module)
    return fake


@pytest.fixture(scope="module")
def plans(jetson_bundle, tmp_path_factory):
    """Engine files of the fake, one a graph."""
    folder, bundle = tmp_path_factory.mktemp("plans"), Bundle.open(jetson_bundle)
    found = {}
    for name, graph in bundle.graphs_for("jetson").items():
        found[name] = graph, folder / f"{name}.engine"
        found[name][1].write_bytes(fake_tensorrt._plan(onnx.load(bundle.graph_file(graph))))
    return found


def make_engine(plans, name):
    graph, path = plans[name]
    return TensorRtEngine(graph, path, EngineOptions())


def golden(jetson_bundle, name):
    return list(Bundle.open(jetson_bundle).golden(name))


@pytest.mark.parametrize("capture", [True, False])
def test_it_gives_what_the_graph_gives_with_and_without_a_captured_graph(cuda, plans, jetson_bundle, capture):
    cuda.can_capture = capture
    engine = make_engine(plans, "hybrid_attend")
    bundle = Bundle.open(jetson_bundle)
    reference = load_engine(
        plans["hybrid_attend"][0], bundle.graph_file(plans["hybrid_attend"][0]), "onnxruntime"
    )
    for _, inputs, _ in golden(jetson_bundle, "hybrid_attend"):
        np.testing.assert_array_equal(engine.infer(inputs)["tokens"], reference.infer(inputs)["tokens"])
    assert engine.captured is capture
    assert ("graph" in cuda.calls) is capture


def test_outputs_are_the_callers_own(cuda, plans, jetson_bundle):
    engine = make_engine(plans, "head")
    (_, first, _), (_, second, _) = golden(jetson_bundle, "head")[:2]
    before = engine.infer(first)["logits"]
    kept = before.copy()
    engine.infer(second)
    np.testing.assert_array_equal(before, kept)


def test_nothing_is_allocated_after_the_first_run_and_everything_is_released(cuda, plans, jetson_bundle):
    engine = make_engine(plans, "temporal")
    inputs = golden(jetson_bundle, "temporal")[0][1]
    engine.infer(inputs)
    memory, handles = dict(cuda.kinds), set(cuda.handles)
    for _ in range(3):
        engine.infer(inputs)
    assert (cuda.kinds, set(cuda.handles)) == (memory, handles)
    del engine
    assert not cuda.kinds
    assert not cuda.handles


def test_state_that_stays_on_the_device_gives_the_same_tokens_and_is_never_copied(cuda, plans, jetson_bundle):
    plain, kept = make_engine(plans, "temporal"), make_engine(plans, "temporal")
    kept.keep_state()
    frames = [inputs["frame"] for _, inputs, _ in golden(jetson_bundle, "temporal")] * 2
    zero = {i.name: np.zeros(i.shape, np.float32) for i in plain.graph.inputs if i.name != "frame"}
    state, token = zero, zero
    for number, frame in enumerate(frames):
        a = plain.infer({"frame": frame, **state})
        cuda.calls.clear()
        b = kept.infer({"frame": frame, **token})
        np.testing.assert_array_equal(a["token"], b["token"], err_msg=f"step {number}")
        if number:
            assert [c for c in cuda.calls if "copy" in c] == []  # all in the captured graph
        state = {name: a[f"next_{name}"] for name in zero}
        token = {name: b[f"next_{name}"] for name in zero}
        assert all(np.isnan(t).all() and t.strides == (0,) * t.ndim for t in token.values())
    # a new epoch starts from numbers again
    np.testing.assert_array_equal(
        plain.infer({"frame": frames[0], **zero})["token"], kept.infer({"frame": frames[0], **zero})["token"]
    )


def test_an_old_state_is_refused(cuda, plans, jetson_bundle):
    engine = make_engine(plans, "temporal")
    engine.keep_state()
    frame = golden(jetson_bundle, "temporal")[0][1]["frame"]
    zero = {i.name: np.zeros(i.shape, np.float32) for i in engine.graph.inputs if i.name != "frame"}
    outputs = engine.infer({"frame": frame, **zero})
    old = {name: outputs[f"next_{name}"] for name in zero}
    engine.infer({"frame": frame, **old})
    with pytest.raises(EngineError, match="a state of an earlier step"):
        engine.infer({"frame": frame, **old})


def test_the_stream_is_that_of_onnx_runtime(cuda, plans, jetson_bundle, real_clip, monkeypatch):
    """A session on engines with state on the device, against the same graphs on ONNX Runtime, over replayed epochs."""
    from vidprism_edge.runtimes.streaming import session as module
    from vidprism_edge.runtimes.streaming.source import open_source

    bundle = Bundle.open(jetson_bundle)
    shared = Cuda(import_cuda())
    own = {n: TensorRtEngine(g, path, EngineOptions(), shared) for n, (g, path) in plans.items()}
    monkeypatch.setattr(module, "load_engines", lambda *_: own)
    reference = {
        n: load_engine(g, bundle.graph_file(g), "onnxruntime", EngineOptions(1))
        for n, (g, _) in plans.items()
    }
    scores = {}
    for name, engine in (("own", "tensorrt"), ("shared", own), ("reference", reference)):
        source = open_source(str(real_clip))
        session = module.Session(bundle, engine=engine, period_ns=source.period_ns)
        # engines that several streams share take their state from the host
        if name == "shared":
            own["temporal"]._kept, own["temporal"]._launch = {}, None
        assert bool(own["temporal"]._kept) is (name == "own")
        scores[name] = []
        for _ in range(60):
            scores[name] += [p.scores for p in session.push(source.read())]
        source.close()
    assert len(scores["own"]) >= 4
    assert scores["own"] == scores["shared"] == scores["reference"]


def test_a_damaged_or_foreign_engine_says_what_to_do(cuda, plans, tmp_path):
    graph, path = plans["head"]
    for data in (
        b"nonsense",
        fake_tensorrt._plan(onnx.load_from_string(path.read_bytes().partition(b"\n")[2]), "9.0"),
    ):
        (tmp_path / "x.engine").write_bytes(data)
        with pytest.raises(EngineError, match="run `vidprism-edge build`"):
            TensorRtEngine(graph, tmp_path / "x.engine", EngineOptions())
    other = plans["fusion"][1]
    with pytest.raises(EngineError, match="has other tensors than the manifest"):
        TensorRtEngine(graph, other, EngineOptions())


def test_cuda_errors_are_named_with_a_hint(cuda, monkeypatch):
    api = import_cuda()
    monkeypatch.setattr(
        api, "cudaMalloc", lambda size: (fake_tensorrt.cudaError_t.cudaErrorMemoryAllocation, None)
    )
    with pytest.raises(
        EngineError, match=r"cudaMalloc failed: cudaErrorMemoryAllocation .the device's memory is full"
    ):
        Cuda(api).device_buffer(16)


def test_the_device_is_described(cuda, monkeypatch, tmp_path):
    from vidprism_edge.runtimes.engines import tensorrt as module

    monkeypatch.setattr(module, "DEVICE_MODEL", tmp_path / "model")
    monkeypatch.setattr(module, "TEGRA_RELEASE", tmp_path / "release")
    device = describe_device(import_tensorrt(), Cuda(import_cuda()))
    assert msgspec.to_builtins(device) == {
        "board": "Fake Orin", "l4t": "", "compute_capability": "8.7", "cuda": "12.6", "tensorrt": "10.3.0",
    }  # fmt: skip
    (tmp_path / "model").write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    (tmp_path / "release").write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n")
    device = describe_device(import_tensorrt(), Cuda(import_cuda()))
    assert (device.board, device.l4t) == ("NVIDIA Jetson AGX Orin Developer Kit", "36.4.3")


def test_without_tensorrt_the_engine_says_where_it_comes_from(jetson_bundle):
    if "tensorrt" in sys.modules:
        pytest.skip("TensorRT is installed here")
    with pytest.raises(EngineError, match="tensorrt is not installed"):
        load_engines(Bundle.open(jetson_bundle), "tensorrt")


REAL = [
    ("tensorrt_rtx", [
        "Logger.ERROR", "Runtime.deserialize_cuda_engine", "Runtime.DLA_core", "Builder.create_network",
        "Builder.build_serialized_network", "Builder.num_DLA_cores", "Builder.create_builder_config",
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED", "OnnxParser.parse_from_file", "OnnxParser.get_error",
        "IBuilderConfig.set_memory_pool_limit", "IBuilderConfig.progress_monitor", "IBuilderConfig.set_timing_cache",
        "IBuilderConfig.create_timing_cache", "IBuilderConfig.can_run_on_DLA", "IBuilderConfig.default_device_type",
        "IBuilderConfig.DLA_core", "IBuilderConfig.set_flag", "BuilderFlag.GPU_FALLBACK", "DeviceType.DLA",
        "MemoryPoolType.WORKSPACE", "ITimingCache.serialize", "IProgressMonitor.phase_start",
        "IProgressMonitor.step_complete", "IProgressMonitor.phase_finish", "ICudaEngine.num_io_tensors",
        "ICudaEngine.get_tensor_name", "ICudaEngine.get_tensor_mode", "ICudaEngine.get_tensor_shape",
        "ICudaEngine.get_tensor_dtype", "ICudaEngine.create_execution_context",
        "IExecutionContext.set_tensor_address", "IExecutionContext.execute_async_v3", "TensorIOMode.INPUT", "float32",
        "INetworkDefinition.num_layers", "INetworkDefinition.get_layer",
    ]),
    ("cuda.bindings.runtime", [name for name in dir(fake_tensorrt.FakeCuda) if name.startswith("cuda")]),
]  # fmt: skip


def test_a_tensorrt_whose_libraries_are_missing_says_what_to_do(monkeypatch, tmp_path):
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(EngineError, match=r"cannot be loaded \(libnvinfer.so.10.*of one version") as error:
        import_tensorrt()
    assert error.value.exit_code == 3


@pytest.mark.parametrize(("module", "names"), REAL, ids=[module for module, _ in REAL])
def test_the_names_are_those_of_the_real_modules(module, names):
    """TensorRT for RTX and cuda-python load without a GPU: what we call, and what the fake has, is there."""
    real = pytest.importorskip(
        module, reason="checks names on the real module: pip install 'vidprism-edge[tensorrt]'"
    )
    for name in names:
        value = real
        for part in name.split("."):
            assert hasattr(value, part), f"{module} has no {name}"
            value = getattr(value, part)
    for kind in ("cudaMemcpyKind", "cudaStreamCaptureMode", "cudaDeviceAttr"):
        if hasattr(real, kind):
            members = {m.name: int(m) for m in getattr(fake_tensorrt, kind)}
            assert members == {m: int(getattr(getattr(real, kind), m)) for m in members}

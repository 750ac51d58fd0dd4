"""The device-only step, with a worker that has a fake TensorRT: progress, resume, refusal, and a kill by the kernel."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("onnxruntime", reason="it computes for the fake TensorRT")
onnx = pytest.importorskip("onnx", reason="the fake reads the graphs")

from tests.runtimes.engines import fake_tensorrt  # noqa: E402
from vidprism_edge.bundle import Bundle, hash_file  # noqa: E402
from vidprism_edge.cli.build import build_engines, check_device, show  # noqa: E402
from vidprism_edge.errors import EngineError  # noqa: E402
from vidprism_edge.export.build import BuildOptions, DeviceBuild, check_memory, list_candidates  # noqa: E402
from vidprism_edge.runtimes.engines import EngineOptions, load_engines  # noqa: E402
from vidprism_edge.runtimes.engines.device_key import Device, open_build, read_build, read_l4t  # noqa: E402
from vidprism_edge.runtimes.engines.tensorrt_builder import BuilderOptions, EngineBuilder  # noqa: E402
from vidprism_edge.spec import COMPONENTS  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
DEVICE = Device(board="Fake Orin", l4t="", compute_capability="8.7", cuda="12.6", tensorrt="10.3.0")
WORKER = (sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = sys.argv[:2]; "
          "from tests.runtimes.engines.fake_tensorrt import main; sys.exit(main())")  # fmt: skip
PLENTY = 64 << 30


def options(**changes):
    return BuildOptions(**{"precision": "fp16", "worker": WORKER, **changes})


def build(bundle, changes=None, progress=lambda *_: None, free=PLENTY, device=DEVICE):
    return DeviceBuild(bundle, device, options(**(changes or {}))).run(free, progress)


@pytest.fixture(scope="module")
def built(jetson_bundle, tmp_path_factory):
    """A bundle with the engines of the fake; copy it before changing it."""
    root = tmp_path_factory.mktemp("built") / "x.vpbundle"
    shutil.copytree(jetson_bundle, root)
    steps = []
    result = build(Bundle.open(root), progress=lambda *step: steps.append(step))
    return root, result, steps


@pytest.fixture
def copy(built, tmp_path):
    shutil.copytree(built[0], tmp_path / "x.vpbundle")
    return Bundle.open(tmp_path / "x.vpbundle")


@pytest.fixture
def modules(monkeypatch):
    cuda = fake_tensorrt.FakeCuda()
    for name, module in fake_tensorrt.make_modules(cuda).items():
        monkeypatch.setitem(sys.modules, name, module)


def test_every_engine_is_built_proved_and_recorded(built):
    root, result, steps = built
    assert result.built == [f"{name} fp16" for name in COMPONENTS]
    assert not result.failed
    record = read_build(result.folder)
    assert record == result.record
    assert record.chosen == dict.fromkeys(COMPONENTS, "fp16")
    bundle = Bundle.open(root)
    for engine in record.engines:
        assert hash_file(result.folder / engine.file) == engine.sha256
        assert engine.graph_sha256 == bundle.graphs_for("jetson")[engine.graph].sha256
        assert engine.shapes == {i.name: i.shape for i in bundle.graphs[engine.graph].inputs}
        assert 0 <= engine.of_tolerance <= 1
        assert engine.latency_ms > 0
    # one timing cache, to which every process has added
    assert (result.folder / "timing.cache").read_bytes().count(b";") == len(COMPONENTS)
    assert not [p.name for p in result.folder.iterdir() if p.name.startswith(".")]
    assert {what for what, _, _ in steps} >= {
        "analyzer fp16",
        "analyzer fp16: Building 1/2",
        "head fp16: Building 2/2",
    }
    assert steps[-1] == ("done", 7, 7)
    show(result)


@pytest.mark.usefixtures("modules")
def test_what_was_built_runs_and_another_device_version_or_hash_does_not(copy):
    engines = load_engines(copy, "tensorrt", EngineOptions())
    assert engines.keys() == set(COMPONENTS)
    folder, record = open_build(copy, DEVICE)
    changes = {
        "board": "Other", "l4t": "36.4.3", "compute_capability": "11.0", "cuda": "13.0", "tensorrt": "10.3.1",
    }  # fmt: skip
    for name, value in changes.items():
        with pytest.raises(EngineError, match=rf"{name} .*, here {value}.*run `vidprism-edge build"):
            open_build(copy, msgspec.structs.replace(DEVICE, **{name: value}))
    with pytest.raises(EngineError, match="--dla"):
        open_build(copy, DEVICE, dla=True)
    other = [msgspec.structs.replace(e, graph_sha256="0" * 64) for e in record.engines]
    msgspec.structs.replace(record, engines=tuple(other)).write(folder)
    with pytest.raises(EngineError, match=r"was built from another graph.*run `vidprism-edge build"):
        load_engines(copy, "tensorrt")
    record.write(folder)
    file = folder / "spatial.fp16.engine"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(EngineError, match=r"spatial.fp16.engine does not have the sha256 of build.json"):
        load_engines(copy, "tensorrt")
    file.unlink()
    with pytest.raises(EngineError, match="is missing from"):
        load_engines(copy, "tensorrt")


@pytest.mark.usefixtures("modules")
def test_run_builds_what_is_missing_and_nothing_else(copy, monkeypatch):
    from vidprism_edge.cli import build as command

    asked = []
    monkeypatch.setattr(
        command, "build_engines", lambda bundle, options, device: asked.append((options, device))
    )
    command.build_missing(copy, dla=False)
    assert asked == []
    lose(copy, "fusion")
    command.build_missing(copy, dla=False)
    assert asked == [(BuildOptions(), DEVICE)]


def test_an_export_that_was_asked_to_build_builds_here(jetson_bundle, tmp_path, monkeypatch, capsys):
    from functools import partial

    from vidprism_edge.cli import build as command
    from vidprism_edge.cli.export import build_here

    shutil.copytree(jetson_bundle, tmp_path / "x.vpbundle")
    bundle = Bundle.open(tmp_path / "x.vpbundle")
    monkeypatch.setattr(command, "find_device", lambda: DEVICE)
    monkeypatch.setattr("vidprism_edge.export.build.BuildOptions", partial(BuildOptions, worker=WORKER))
    build_here(bundle)
    assert open_build(bundle, DEVICE)[1].chosen == dict.fromkeys(COMPONENTS, "fp16")
    assert "7 built, 0 kept" in capsys.readouterr().out
    lose(bundle, "head")
    monkeypatch.setenv("FAKE_KILL", "head fp16")
    with pytest.raises(EngineError, match=r"x.vpbundle is written.*head: no engine could.*On the device"):
        build_here(bundle)


def test_a_second_build_keeps_what_is_there_and_mends_what_is_damaged(copy):
    folder, _ = open_build(copy, DEVICE)
    (folder / "head.fp16.engine").write_bytes(b"damaged")
    result = build(copy)
    assert result.built == ["head fp16"]
    assert len(result.kept) == 6
    assert build(copy).built == []


def lose(bundle, *names):
    """Take engines away, as if they had not been built yet."""
    folder, _ = open_build(bundle, DEVICE)
    for name in names:
        (folder / f"{name}.fp16.engine").unlink()


def test_a_kill_loses_one_engine_and_the_next_build_goes_on(copy, monkeypatch):
    lose(copy, "spatial", "head")
    monkeypatch.setenv("FAKE_KILL", "spatial fp16")
    result = build(copy)
    assert result.built == ["head fp16"]
    assert list(result.failed) == ["spatial fp16"]
    assert "memory ran out" in result.failed["spatial fp16"]
    assert "spatial" not in result.record.chosen
    with pytest.raises(EngineError, match=r"spatial: no engine could be built \(6 are kept") as error:
        build_engines(copy, options(), DEVICE)
    assert error.value.exit_code == 3
    monkeypatch.delenv("FAKE_KILL")
    result = build_engines(copy, options(), DEVICE)
    assert result.built == ["spatial fp16"]
    assert result.record.chosen.keys() == set(COMPONENTS)


def test_an_engine_that_computes_something_else_does_not_count(copy, monkeypatch):
    lose(copy, "head")
    monkeypatch.setenv("FAKE_WRONG", "head fp16")
    result = build(copy)
    assert list(result.failed) == ["head fp16"]
    assert "times its tolerance" in result.failed["head fp16"]
    assert not (result.folder / "head.fp16.engine").exists()


def test_a_graph_that_tensorrt_refuses_is_named_with_its_reason(copy):
    graph = copy.graphs_for("jetson")["head"]
    model = onnx.load(copy.graph_file(graph))
    model.graph.node.append(onnx.helper.make_node("Det", ["vector"], ["unused"], name="bad"))
    onnx.save(model, copy.root / graph.file)
    sha256 = hash_file(copy.root / graph.file)
    graphs = [msgspec.structs.replace(g, sha256=sha256) if g == graph else g for g in copy.manifest.graphs]
    msgspec.structs.replace(copy.manifest, graphs=tuple(graphs)).write(copy.root)
    result = build(Bundle.open(copy.root))
    assert "TensorRT 10.3.0 refuses head.fp16.onnx: bad: no Det" in result.failed["head fp16"]


def test_memory_is_checked_before_anything_is_built(jetson_bundle):
    bundle = Bundle.open(jetson_bundle)
    with pytest.raises(EngineError, match=r"0.5 GiB of memory are free and a build needs about 1\.\d GiB"):
        build(bundle, free=512 << 20)
    assert not (bundle.root / "engines").exists()
    check_memory(bundle, list_candidates(bundle, "fp16"), options(), PLENTY)


def test_dla_is_asked_for_and_what_stays_on_the_gpu_is_listed(jetson_bundle, tmp_path, monkeypatch):
    bundle = Bundle.open(jetson_bundle)
    graph = bundle.graph_file(bundle.graphs_for("jetson")["spatial"])
    trt = fake_tensorrt.make_modules(fake_tensorrt.FakeCuda())["tensorrt"]
    builder = EngineBuilder(trt, BuilderOptions(tmp_path / "cache", dla=0))
    with pytest.raises(EngineError, match="DLA core 0 was asked for; this device has 0"):
        builder.build(graph, tmp_path / "engine")
    monkeypatch.setattr(fake_tensorrt.Builder, "num_DLA_cores", 2)
    builder.build(graph, tmp_path / "engine")
    nodes = [node for node in onnx.load(graph).graph.node if node.op_type not in ("Conv", "Clip")]
    assert builder.gpu_fallback == [node.name for node in nodes]
    # a damaged cache is replaced, not an error
    (tmp_path / "cache").write_bytes(b"damaged")
    builder.build(graph, tmp_path / "engine")
    assert (tmp_path / "cache").read_bytes().startswith(b"cache:")


def test_auto_keeps_the_faster_one_and_says_why(copy):
    """Two precisions of one component, as records of a build would have them."""
    folder, record = open_build(copy, DEVICE)
    fp16 = copy.graphs_for("jetson")["spatial"]
    int8 = msgspec.structs.replace(fp16, precision="int8")
    manifest = msgspec.structs.replace(copy.manifest, graphs=(*copy.manifest.graphs, int8))
    manifest.write(copy.root)
    shutil.copy(folder / "spatial.fp16.engine", folder / "spatial.int8.engine")
    for factor, chosen in ((0.5, "int8"), (2.0, "fp16")):
        engines = []
        for engine in record.engines:
            engines.append(engine)
            if engine.graph == "spatial":
                engines.append(msgspec.structs.replace(
                    engine, precision="int8", file="spatial.int8.engine", latency_ms=engine.latency_ms * factor
                ))  # fmt: skip
        msgspec.structs.replace(record, engines=tuple(engines)).write(folder)
        result = build(Bundle.open(copy.root), {"precision": "auto"})
        assert (result.built, result.record.chosen["spatial"]) == ([], chosen)
        assert f"not faster than {chosen}" in result.record.dropped["spatial"]


def test_a_bundle_that_was_not_exported_for_a_jetson_is_refused(tiny_bundle, jetson_bundle):
    with pytest.raises(EngineError, match="export --target jetson"):
        list_candidates(Bundle.open(tiny_bundle), "auto")
    with pytest.raises(EngineError, match="has no int8 graphs; it has fp16"):
        list_candidates(Bundle.open(jetson_bundle), "int8")


def test_the_key_covers_everything_an_engine_depends_on():
    key = DEVICE.key()
    assert key.startswith("fake-orin-sm87-trt10.3.0-")
    others = {msgspec.structs.replace(DEVICE, **{name: "x"}).key() for name in Device.__struct_fields__} | {
        DEVICE.key(dla=True)
    }
    assert len(others | {key}) == 7
    assert (
        os.sep
        not in Device(board="../../etc", l4t="", compute_capability="8.7", cuda="12", tensorrt="10").key()
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"l4t": "36.3.0"}, "JetPack 6.0 is not supported"), ({"l4t": "35.4.1"}, "JetPack 5.1"),
     ({"tensorrt": "8.6.2"}, "TensorRT 8.6.2 is too old")],
)  # fmt: skip
def test_an_old_jetpack_or_tensorrt_is_refused_on_the_device(changes, says):
    check_device(DEVICE)
    with pytest.raises(EngineError, match=says):
        check_device(msgspec.structs.replace(DEVICE, **changes))


def test_the_version_of_l4t():
    assert read_l4t("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic") == "36.4.3"
    assert read_l4t("something else") == ""


def test_the_command_says_that_tensorrt_is_missing(cli, jetson_bundle, tiny_bundle):
    done = cli("build", jetson_bundle)
    assert done.returncode == 3
    assert "TensorRT is not installed; on a Jetson it comes with JetPack" in done.stderr
    assert cli("build", tiny_bundle).returncode == 3
    assert cli("build", jetson_bundle, "--precision", "fp8").returncode == 2


def test_the_gpu_test_names_what_it_does_not_support():
    from tests.gpu.test_device import skip_reason

    assert skip_reason("8.7") is None
    assert "compute capability 5.3 is none of those that are supported" in skip_reason("5.3")

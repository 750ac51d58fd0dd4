"""The pipeline: all or nothing, the same twice, nothing of this machine in it."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch", reason="exporting needs torch")
pytest.importorskip("onnx", reason="exporting needs onnx")

from vidprism_edge.bundle import Bundle
from vidprism_edge.errors import EngineError, ParityError, UsageError
from vidprism_edge.export import pipeline
from vidprism_edge.export.pipeline import STAGES, ExportOptions, Stage, check_stages, export_bundle
from vidprism_edge.spec import COMPONENTS, EXPERTS


@pytest.fixture
def quick(monkeypatch, tiny_bundle):
    """Exports take their graphs from the tiny bundle instead of tracing them again: 20 times as fast."""

    def copy_graphs(job):
        shutil.copytree(tiny_bundle / "graphs", job.folder / "graphs")
        job.infos.extend(Bundle.open(tiny_bundle).manifest.graphs)

    stages = [
        Stage(s.name, copy_graphs, s.requires, s.provides) if s.name == "export the graphs" else s
        for s in STAGES
    ]
    monkeypatch.setattr(pipeline, "STAGES", tuple(stages))


def options(spec, output, **changes):
    return ExportOptions(spec, ("onnx",), output, **{"seed": 3, "random_weights": True, **changes})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_same_seed_gives_the_same_bytes(tiny_bundle, tiny_spec, tmp_path):
    """Every graph, traced anew, and every golden vector."""
    steps = []
    bundle = export_bundle(options(tiny_spec, tmp_path / "again"), lambda *step: steps.append(step))
    assert [step[1:] for step in steps if step[0].startswith("prove parity on onnxruntime: ")] == [
        (number, 7) for number in range(1, 8)
    ]
    first, again = contents(tiny_bundle), contents(bundle.root)
    assert first.keys() == again.keys()
    for name in first:
        if name.startswith("graphs/"):
            assert first[name] == again[name], f"{name} differs"
    blank = {"created": "", "digest": ""}
    assert msgspec.structs.replace(bundle.manifest, **blank) == msgspec.structs.replace(
        Bundle.open(tiny_bundle).manifest, **blank
    )


def test_no_path_of_this_machine_is_in_a_bundle(tiny_bundle, root):
    private = {str(root), str(Path.home()), sys.prefix, str(tiny_bundle.parent), "site-packages"}
    # a short name may come by chance
    private |= {name for name in (socket.gethostname(), getpass.getuser()) if len(name) > 5}
    for name, data in contents(tiny_bundle).items():
        for text in private - {"/"}:
            assert text.encode() not in data, f"{text} is in {name}"


def test_a_bundle_holds_what_it_lists_and_nothing_else(tiny_bundle):
    manifest = Bundle.open(tiny_bundle).manifest
    listed = {"manifest.json", *manifest.files, *(g.file for g in manifest.graphs)}
    assert set(contents(tiny_bundle)) == listed
    assert {g.name for g in manifest.graphs} == set(COMPONENTS)
    assert not manifest.trained
    assert manifest.random_weights


def test_golden_vectors_cover_every_gate_state(tiny_bundle):
    """All subsets of experts, and fresh, steady and stale ones."""
    bundle = Bundle.open(tiny_bundle)
    for graph in ("hybrid_attend", "fusion", "head"):
        cases = {case: inputs for case, inputs, _ in bundle.golden(graph)}
        subsets = {frozenset(case.split(".")[0].split("+")) - {"none"} for case in cases}
        assert len(subsets) == 2 ** len(EXPERTS)
        states = {case.split(".")[0]: set() for case in cases}
        for case in cases:
            states[case.split(".")[0]].add(case.split(".")[1])
        for subset, found in states.items():
            expected = {"none": {"steady"}, "temporal": {"first", "steady"}}.get(
                subset, {"first", "steady", "stale"}
            )
            assert found == expected, subset
        for case, inputs in cases.items():
            present = set(case.split(".")[0].split("+"))
            for name, mask in inputs.items():
                if name.endswith("_mask"):
                    assert mask.any() == (name.removesuffix("_mask") in present)
    warm = [inputs["state_0"].any() for _, inputs, _ in bundle.golden("temporal")]
    assert True in warm
    assert False in warm


def test_the_outputs_of_golden_vectors_differ_between_cases(tiny_bundle):
    """A reference that is the same everywhere would prove nothing."""
    for graph in COMPONENTS:
        outputs = [next(iter(o.values())) for _, _, o in Bundle.open(tiny_bundle).golden(graph)]
        assert all(np.isfinite(o).all() for o in outputs)
        assert np.std(np.stack(outputs), axis=0).max() > 1e-3, graph


@pytest.mark.usefixtures("quick")
def test_a_failed_parity_check_leaves_nothing(tiny_spec, tmp_path, monkeypatch):
    real = pipeline.verify_bundle
    monkeypatch.setattr(pipeline, "verify_bundle", lambda b, e, **_: real(b, e, atol=0.0, rtol=0.0))
    said = r"graph \w+ \(fp32, onnxruntime\) does not agree with torch.*nothing was written"
    with pytest.raises(ParityError, match=said):
        export_bundle(options(tiny_spec, tmp_path / "x"))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("quick")
def test_graphs_of_another_network_do_not_pass(tiny_spec, tmp_path):
    """The golden vectors come from this network's torch modules, the graphs here from another seed's."""
    with pytest.raises(ParityError):
        export_bundle(options(tiny_spec, tmp_path / "x", seed=4))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("quick")
def test_force_replaces_and_a_failure_keeps_the_old_bundle(tiny_spec, tiny_bundle, tmp_path, monkeypatch):
    output = tmp_path / "x"
    shutil.copytree(tiny_bundle, output)
    verify = pipeline.verify_bundle
    before = contents(output)
    with pytest.raises(UsageError, match="--force"):
        export_bundle(options(tiny_spec, output))
    assert contents(output) == before
    monkeypatch.setattr(pipeline, "verify_bundle", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        export_bundle(options(tiny_spec, output, force=True))
    assert contents(output) == before
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    monkeypatch.setattr(pipeline, "verify_bundle", verify)
    (output / "labels.txt").write_text("damaged")
    assert export_bundle(options(tiny_spec, output, force=True)).check()
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"targets": ("nothing",)}, UsageError),
        ({"targets": ("onnx", "jetson-nano")}, EngineError),
        ({"targets": ("jetson", "jetson-thor")}, UsageError),
        ({"targets": ("jetson",), "jetpack": "6.0"}, EngineError),
        ({"seed": -1}, UsageError),
        ({"seed": 2**64}, UsageError),
        ({"atol": float("nan")}, UsageError),
    ],
)
def test_wrong_options_are_refused_before_anything_is_made(tiny_spec, tmp_path, changes, error):
    values = {"targets": ("onnx",), **changes}
    with pytest.raises(error):
        export_bundle(ExportOptions(tiny_spec, output=tmp_path / "deep/x", **values))
    assert not list(tmp_path.iterdir())


def test_stages_state_what_they_need():
    check_stages(STAGES)
    with pytest.raises(ValueError, match=r"needs manifest"):
        check_stages(tuple(s for s in STAGES if s.name != "write the manifest"))


KILLED = """
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from vidprism_edge.export.pipeline import ExportOptions, export_bundle  # noqa: E402
from vidprism_edge.spec import ModelSpec  # noqa: E402
spec = ModelSpec.from_json(Path(sys.argv[1]).read_bytes())
export_bundle(
    ExportOptions(spec, ("onnx",), Path(sys.argv[2]), random_weights=True),
    lambda what, done, total: print(what, flush=True),
)
"""


@pytest.mark.usefixtures("quick")
def test_an_export_killed_in_the_middle_leaves_no_bundle_and_can_be_repeated(root, tiny_spec, tmp_path):
    output = tmp_path / "x"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, root / "tests/data/tiny.json", output],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("graph spatial"):
            time.sleep(0.3)
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait(60) != 0
    assert not output.exists()
    assert all(path.name.startswith(".") for path in tmp_path.iterdir())
    assert export_bundle(options(tiny_spec, output)).check()

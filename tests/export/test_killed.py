"""An export that is really killed, at any stage: no bundle is left, or the one that was there; never a broken one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from made_clips import write_folder

from vidprism_edge.bundle import Bundle, hash_file

pytest.importorskip("av")
pytest.importorskip("onnx", reason="exporting needs onnx")

#: Beginnings of progress messages, early to late; there is one more for each target's own graphs.
STAGES = ("build the network", "make golden vectors", "calibration videos", "prove parity", "done")
#: Exports the tiny network with graphs copied from a bundle, and dies at the progress message that it is given.
SCRIPT = """
import os, shutil, signal, sys
from pathlib import Path
from vidprism_edge.bundle import Bundle
from vidprism_edge.calibration.recipes import GraphRecipe, Recipe
from vidprism_edge.export import pipeline
from vidprism_edge.export.pipeline import ExportOptions, Stage, export_bundle
from vidprism_edge.export.precision import PrecisionPlan
reference, output, target, clips, fatal = sys.argv[1:]
def copy(job):
    shutil.copytree(Path(reference) / "graphs", job.folder / "graphs")
    job.infos.extend(Bundle.open(reference).manifest.graphs)
pipeline.STAGES = tuple(
    Stage(s.name, copy, s.requires, s.provides) if s.name == "export the graphs" else s for s in pipeline.STAGES
)
def progress(what, done, total):
    if what.startswith(fatal):
        os.kill(os.getpid(), signal.SIGKILL)
recipe = Recipe(targets={target: {"hybrid_encode": GraphRecipe(precision="int8")}})
export_bundle(ExportOptions(
    Bundle.open(reference).spec, (target,), Path(output), seed=3, random_weights=True, force=True,
    plan=PrecisionPlan(recipe=recipe, data=Path(clips), samples=4, threads=1),
), progress)
"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("killed") / "clips", subjects=1, kinds=("one", "two"))


def contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hash_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def kill_at(stage: str, target: str, reference: Path, clips: Path, output: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(reference), str(output), target, str(clips), stage],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


def cases():
    """Every target, stage and state of the output; one of them in the default suite, for the time that they take."""
    for target in ("onnx", "openvino"):
        for stage in (*STAGES, f"{target} hybrid_attend"):
            for previous in (False, True):
                sample = (target, stage, previous) == ("onnx", "prove parity", True)
                marks = () if sample else (pytest.mark.slow,)
                yield pytest.param(target, stage, previous, marks=marks)


@pytest.mark.parametrize(("target", "stage", "previous"), list(cases()))
def test_a_killed_export_leaves_no_bundle_or_the_previous_one(
    tiny_bundle, clips, tmp_path, target, stage, previous
):
    if target == "openvino":
        pytest.importorskip("nncf", reason="needs pip install 'vidprism-edge[quantise]'")
    output = tmp_path / "x.vpbundle"
    if previous:
        shutil.copytree(tiny_bundle, output)
    before = contents(output)
    kill_at(stage, target, tiny_bundle, clips, output)
    if stage == "done":  # the bundle has taken its place: the new one, whole
        assert Bundle.open(output).check()
        assert {g.target for g in Bundle.open(output).manifest.graphs} >= {target}
        return
    assert contents(output) == before
    assert output.exists() == previous
    if previous:
        assert Bundle.open(output).check()
    assert all(path == output or path.name.startswith(".") for path in tmp_path.iterdir())

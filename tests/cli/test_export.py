"""``vidprism-edge export``: wrong input is refused before anything is written; the command itself, end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.folders import Place, tree
from tests.export.ahead_of_time import build_ahead_of_time
from vidprism_edge.bundle import Bundle
from vidprism_edge.errors import UsageError
from vidprism_edge.spec import COMPONENTS


@pytest.fixture
def place(cli, tmp_path):
    return Place(cli, tmp_path)


@pytest.mark.parametrize(
    ("code", "arguments", "says"),
    [
        (2, "--target onxx", "unknown target 'onxx'; known: jetson, jetson-agx-orin"),
        (2, "--target ONNX", "unknown target 'ONNX'"),
        (2, "--target onnx --target nothing", "unknown target 'nothing'"),
        (2, "", "--target"),
        (3, "--target jetson-nano", "its last JetPack is 4.6"),
        (3, "--target jetson --jetpack 5.1", "JetPack 5.1 is not supported"),
        (3, "--target jetson-thor --jetpack 6.2", "does not run JetPack 6.2"),
        (2, "--target jetson --jetpack 1", "unknown JetPack '1'"),
        (2, "--target onnx --jetpack 6.2", "expected with --target jetson"),
        (2, "--target onnx --build", "--build was given; expected with --target jetson"),
        (2, "--target jetson --precision fp8", "--precision is fp8"),
        (2, "--target jetson --target jetson-thor", "give one of them"),
        (2, "--target onnx --preset nanno", "unknown preset 'nanno'; known: clip-b16, clip-b32, nano"),
        (2, "--target onnx --preset ../nano", "unknown preset"),
        (2, "--target onnx --labels=", "0 labels"),
        (2, "--target onnx --labels one", "1 labels"),
        (2, "--target onnx --labels a,b,a", "3 labels, 2 distinct"),
        (2, "--target onnx --labels missing.txt", "cannot read the labels from missing.txt"),
        (2, "--target onnx --precision int8", "--precision int8 needs --calib-data"),
        (2, "--target openvino --precision auto", "--precision auto needs --calib-data"),
        (2, "--target onnx --precision bf16", "target onnx has no precision bf16"),
        (2, "--target openvino --precision int3", "target openvino has no precision int3"),
        (2, "--target onnx --recipe missing.json", "cannot read the recipe missing.json"),
        (2, "--target onnx --precision int8 --calib-data missing", "missing does not exist"),
        (2, "--target onnx --precision int8 --calib-data folder --calib-samples 0", "--calib-samples is 0"),
        (2, "--target onnx --max-drop 2", "--max-drop is 2"),
        (2, "--target onnx --encoder somewhere", "--encoder is for the clip presets"),
        (2, "--target onnx --seed -1", "seed is -1"),
        (2, "--target onnx --atol nan", "tolerance"),
        (2, "--target onnx --rtol -1", "tolerance"),
        (2, "--target onnx --opset 17", "opset"),
        (2, "--target onnx --output taken/x.vpbundle", "cannot write to"),
        (2, "--target onnx --output taken", "taken exists"),
        (2, "--target onnx --output taken --force", "is not a bundle"),
        (2, "--target onnx --output folder --force", "is not a bundle"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(place, code, arguments, says):
    (place.work / "taken").write_text("mine")
    (place.work / "folder").mkdir()
    (place.work / "folder/diary.txt").write_text("mine")
    assert says in place.refuses(code, "export", *arguments.split())


def test_an_existing_bundle_is_untouched_without_force(place, tiny_bundle):
    (place.work / "x.vpbundle").mkdir()
    (place.work / "x.vpbundle/manifest.json").write_bytes((tiny_bundle / "manifest.json").read_bytes())
    line = place.refuses(2, "export", "--target", "onnx", "--output", "x.vpbundle")
    assert "--force" in line


def test_a_dry_run_writes_nothing(place):
    before = tree(place.root)
    done = place.run("export", "--target", "onnx", "--dry-run")
    assert done.returncode == 0
    assert "would export preset nano" in done.stderr
    assert tree(place.root) == before


def test_labels_come_from_a_list_or_a_file(tmp_path):
    from vidprism_edge.cli.export import read_labels

    assert read_labels("a, b ,c,") == ("a", "b", "c")
    (tmp_path / "names.txt").write_text("wave left\n\n clap \n")
    assert read_labels(str(tmp_path / "names.txt")) == ("wave left", "clap")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="one name a line"):
        read_labels(str(tmp_path / "binary.txt"))


def test_nano_from_the_command_line(place, real_clip):
    """Export, verify and inspect, as the README says it; nothing is written but the bundle.

    One trace serves ONNX Runtime and the Jetson, whose graphs in FP16 and in INT8 TensorRT then builds without a GPU.
    """
    command = "export --target jetson --preset nano --labels a,b --precision auto --calib-samples 8 --output x.vpbundle"
    done = place.run(*command.split(), "--calib-data", real_clip)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "untrained" in done.stderr
    assert [path.name for path in place.work.iterdir()] == ["x.vpbundle"]
    # torch makes an empty folder of its own
    assert set(tree(place.temporary).values()) <= {"folder"}
    assert (place.work / "x.vpbundle/labels.txt").read_text() == "a\nb\n"
    script = (place.work / "x.vpbundle/reproduce.sh").read_text()
    assert (
        f"export --target jetson --labels a,b --precision auto --calib-data {real_clip} --calib-samples 8"
        in script
    )
    assert "engines are deferred" in done.stderr
    bundle = place.work / "x.vpbundle"
    before = tree(bundle)
    verified = place.run("verify", bundle, "--json")
    assert verified.returncode == 0, verified.stderr
    report = json.loads(verified.stdout)
    assert report["passed"]
    assert {o["graph"] for o in report["outputs"]} == {
        "analyzer", "spatial", "temporal", "hybrid_encode", "hybrid_attend", "fusion", "head",
    }  # fmt: skip
    assert all(o["of_tolerance"] <= 1.0 for o in report["outputs"])
    assert (report["atol"], report["rtol"]) == (1e-4, 1e-4)
    inspected = json.loads(place.run("inspect", bundle, "--json").stdout)
    assert inspected["trained"] is False
    assert inspected["engines"] == "deferred"
    assert tree(bundle) == before
    typed = [graph for graph in inspected["graphs"] if graph["target"] == "jetson"]
    assert {(g["name"], g["precision"]) for g in typed} == {
        *((name, "fp16") for name in COMPONENTS), ("spatial", "int8"), ("hybrid_attend", "int8")
    }  # fmt: skip
    for graph in typed:
        assert build_ahead_of_time(bundle / graph["file"])
    macs = {graph["name"]: graph["macs"] for graph in inspected["graphs"]}
    spec = inspected["spec"]["streams"]
    graph_of = {
        "analyzer": "analyzer",
        "spatial": "spatial",
        "hybrid": "hybrid_encode",
        "temporal": "temporal",
    }
    second = {n: spec[n]["rate_hz"] * spec[n].get("regions", 1) * macs[g] for n, g in graph_of.items()}
    decisions = 2 * (macs["hybrid_attend"] + macs["fusion"] + macs["head"])
    assert second["analyzer"] <= 0.03 * (sum(second.values()) + decisions)


#: The command, with graphs copied from a bundle instead of traced anew: that a trace repeats is tested elsewhere.
QUICK = """#!{python}
import shutil, sys
from pathlib import Path
from vidprism_edge.bundle import Bundle
from vidprism_edge.cli.main import main
from vidprism_edge.export import pipeline
from vidprism_edge.export.pipeline import Stage
def copy(job):
    shutil.copytree(Path("{bundle}") / "graphs", job.folder / "graphs")
    job.infos.extend(Bundle.open("{bundle}").manifest.graphs)
pipeline.STAGES = tuple(
    Stage(s.name, copy, s.requires, s.provides) if s.name == "export the graphs" else s for s in pipeline.STAGES
)
sys.exit(main())
"""


@pytest.fixture
def quick(place, tiny_bundle, tiny_spec, tiny_net):
    """Run ``vidprism-edge`` of QUICK in the working folder, where the tiny network is ``tiny.safetensors``."""
    from vidprism_edge.model.checkpoint import save_checkpoint, trained_state

    save_checkpoint(place.work / "tiny.safetensors", tiny_spec, trained_state(tiny_net), {"left_out": []})
    binary = place.root / "bin/vidprism-edge"
    binary.parent.mkdir()
    binary.write_text(QUICK.format(python=sys.executable, bundle=tiny_bundle))
    binary.chmod(0o755)
    environment = {**os.environ, **place.environment, "PATH": f"{binary.parent}:{os.environ['PATH']}"}

    def run(*command):
        return subprocess.run(
            command, cwd=place.work, env=environment, capture_output=True, text=True, check=False
        )

    return run


def test_a_build_that_was_asked_for_and_cannot_be_is_exit_3_and_the_bundle_stays(place, quick):
    """TensorRT is not on the machines of the tests; what it builds with a fake one is in tests/export/test_build.py."""
    command = (
        "vidprism-edge export --target jetson --checkpoint tiny.safetensors --random-weights --seed 3 --threads 1 "
        "--build --zip --output x.vpbundle"
    )
    done = quick(*command.split())
    assert done.returncode == 3, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: x.vpbundle is written and its graphs are proved, but --build cannot")
    assert "TensorRT is not installed" in last
    assert last.endswith("On the device: vidprism-edge build x.vpbundle")
    assert "engines are deferred" not in done.stderr
    bundle = Bundle.open(place.work / "x.vpbundle")
    bundle.check()
    assert bundle.manifest.engines == "deferred"
    assert len(bundle.graphs_for("jetson")) == 7
    assert "--build" not in (bundle.root / "reproduce.sh").read_text()
    assert (place.work / "x.vpbundle.zip").exists()


def repeated(place, quick, options):
    """Export by a command line, run the bundle's own script, and return what was said and both manifests."""
    from tests.training.made_clips import write_folder

    write_folder(place.work / "clips", subjects=1, kinds=("one", "two"))
    command = (
        f"vidprism-edge export {options} --checkpoint tiny.safetensors --random-weights --seed 3 --calib-data clips "
        "--calib-samples 20 --threads 1 --max-drop 1 --output a.vpbundle"
    )
    done = quick(*command.split())
    assert done.returncode == 0, done.stderr
    again = quick(str(place.work / "a.vpbundle/reproduce.sh"), "b.vpbundle")
    assert again.returncode == 0, again.stderr
    bundles = [Bundle.open(place.work / name) for name in ("a.vpbundle", "b.vpbundle")]
    for bundle in bundles:
        bundle.check()
    return done.stderr, [json.loads((bundle.root / "manifest.json").read_text()) for bundle in bundles]


def test_reproduce_really_reproduces(place, quick):
    """Its script makes the same graphs and the same manifest, timestamps and the digest over them apart."""
    from vidprism_edge.calibration.recipes import GraphRecipe, Recipe

    recipe = Recipe(targets={"onnx": {"hybrid_attend": GraphRecipe(precision="int8")}})
    (place.work / "mine.json").write_bytes(recipe.to_json())
    said, (first, again) = repeated(place, quick, "--target onnx --recipe mine.json")
    assert "GB of memory" in said
    assert "decisions have the label of fp32" in said
    differing = {name for name in first if first[name] != again[name]}
    assert differing <= {"created", "digest"}
    assert any(g["precision"] == "int8" for g in again["graphs"])


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    "options", ["--target onnx --target openvino --precision auto", "--target openvino --precision bf16"]
)
def test_what_was_measured_or_made_for_openvino_is_repeated_byte_for_byte(place, quick, options):
    """A choice by measurement would come out otherwise now and then: the script repeats it by its recipe."""
    _, (first, again) = repeated(place, quick, options)
    assert first["graphs"] == again["graphs"]
    made = {(g["target"], g["precision"]) for g in again["graphs"]}
    assert made > {("onnx", "fp32")}
    assert {target for target, _ in made} == {"onnx", "openvino"}
    recipes = [
        (place.work / n / "calibration/recipe.json").read_bytes() for n in ("a.vpbundle", "b.vpbundle")
    ]
    assert recipes[0] == recipes[1]


def test_the_line_that_repeats_an_export_has_every_flag_that_was_given():
    from inspect import signature

    from vidprism_edge.cli.export import command, repeat

    values = {name: p.default for name, p in signature(command).parameters.items()}
    values |= {
        "target": ["onnx", "openvino"],
        "labels": "a b,c",
        "random_weights": True,
        "precision": "auto",
        "seed": 4,
    }
    values |= {"calib_data": Path("my clips"), "output": Path("x")}
    values |= dict.fromkeys(("force", "zipped", "build"), True)
    assert repeat(values, recipe=True) == (
        "vidprism-edge export --target onnx --target openvino --labels 'a b,c' --calib-data 'my clips' "
        '--random-weights --seed 4 --output "${1:-$bundle.again}" --recipe "$bundle/calibration/recipe.json"'
    )
    assert "--precision auto" in repeat(values, recipe=False)

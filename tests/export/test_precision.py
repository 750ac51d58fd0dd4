"""The precision stage: chosen, repeated byte for byte, held to the gate, and nothing left of what fails."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("onnx", reason="converting needs onnx")
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import onnx
from made_clips import write_folder

from vidprism_edge.bundle import Bundle, hash_file
from vidprism_edge.calibration.choice import Candidate, Chooser, decide
from vidprism_edge.calibration.evaluation import Judged
from vidprism_edge.calibration.recipes import ALL_OPS, GraphRecipe, Recipe
from vidprism_edge.errors import ParityError, UsageError
from vidprism_edge.export import precision
from vidprism_edge.export.precision import PrecisionPlan, add_target_graphs, gate_entries

#: Enough to reach every part: one graph with convolutions, one with attention, one that is a product.
FEW_GRAPHS = ("hybrid_encode", "hybrid_attend", "head")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("precision") / "clips", subjects=2, kinds=("one", "two"))


@pytest.fixture
def few(monkeypatch):
    """Only some graphs are converted: the others would take minutes and show nothing more."""
    real = precision._make_target

    def make(work, target):
        work.bundle.graphs = {n: g for n, g in work.bundle.graphs.items() if n in FEW_GRAPHS}
        return real(work, target)

    monkeypatch.setattr(precision, "_make_target", make)


def run(tiny_bundle, folder, targets, plan, **manifest):
    shutil.copytree(tiny_bundle, folder)
    opened = Bundle.open(folder)
    plan.check(targets)
    changed = msgspec.structs.replace(opened.manifest, targets=targets, **manifest)
    changed.write(folder)
    told: list[str] = []
    steps: list[str] = []
    made = add_target_graphs(folder, changed, plan, lambda what, *_: steps.append(what), told.append)
    made.write(folder)
    # no graph is converted in silence
    assert {f"{g.target} {g.name}" for g in made.graphs if not g.is_reference} <= set(steps)
    return Bundle.open(folder), told


@pytest.mark.usefixtures("few")
def test_a_choice_is_a_recipe_that_repeats_it_byte_for_byte(tiny_bundle, clips, tmp_path):
    plan = PrecisionPlan("auto", data=clips, samples=12, threads=1)
    first, told = run(tiny_bundle, tmp_path / "a", ("onnx",), plan)
    assert any("fewer than 300" in line for line in told)
    assert first.check()
    report = msgspec.json.decode((first.root / "reports/precision.json").read_bytes())
    (target,) = report["targets"]
    for graph in target["graphs"]:
        tried = {c["recipe"]["precision"] for c in graph["candidates"]}
        assert tried == {"fp32", "fp16", "int8"}
        best = graph["candidates"][graph["chosen"]]
        assert best["sqnr_db"] >= 20
        exact = min(c["median_ms"] for c in graph["candidates"] if c["recipe"]["precision"] == "fp32")
        assert best["median_ms"] <= exact * 1.03
    recipe = Recipe.open(first.file("calibration/recipe.json"))
    # whatever was chosen here, an int8 graph is among those that are repeated
    forced = {**recipe.targets["onnx"], "hybrid_encode": GraphRecipe(precision="int8")}
    plan = msgspec.structs.replace(recipe, targets={"onnx": forced})
    again = [
        run(
            tiny_bundle,
            tmp_path / name,
            ("onnx",),
            PrecisionPlan(recipe=plan, data=clips, samples=12, threads=1),
        )[0]
        for name in ("b", "c")
    ]
    assert again[0].manifest.graphs == again[1].manifest.graphs
    assert again[0].manifest.files == again[1].manifest.files
    assert again[0].graphs_for("onnx")["hybrid_encode"].precision == "int8"
    chosen = {g.name: g for g in first.manifest.graphs if not g.is_reference and g.name != "hybrid_encode"}
    repeated = {
        g.name: g for g in again[0].manifest.graphs if not g.is_reference and g.name != "hybrid_encode"
    }
    assert chosen == repeated


@pytest.mark.usefixtures("few")
def test_a_choice_of_both_targets_repeats_byte_for_byte(tiny_bundle, clips, tmp_path):
    """``auto`` once, its recipe twice: graphs and files, those that hold times apart, are the same."""
    pytest.importorskip("nncf")
    targets = ("onnx", "openvino")
    first, _ = run(
        tiny_bundle, tmp_path / "a", targets, PrecisionPlan("auto", data=clips, samples=8, threads=1)
    )
    recipe = Recipe.open(first.file("calibration/recipe.json"))
    assert set(recipe.targets) == set(targets)
    plan = PrecisionPlan(recipe=recipe, data=clips, samples=8, threads=1)
    second, third = (run(tiny_bundle, tmp_path / name, targets, plan)[0] for name in ("b", "c"))
    assert first.manifest.graphs == second.manifest.graphs
    timed = {f"reports/precision.{kind}" for kind in ("json", "md", "png")}
    untimed = {name: digest for name, digest in first.manifest.files.items() if name not in timed}
    assert untimed.items() <= second.manifest.files.items()
    assert (second.manifest.files, second.manifest.graphs) == (third.manifest.files, third.manifest.graphs)


@pytest.mark.slow
def test_every_graph_for_both_targets(tiny_bundle, clips, tmp_path):
    from vidprism_edge.export.verification import verify_bundle

    pytest.importorskip("nncf")
    plan = PrecisionPlan("auto", data=clips, samples=24, threads=1)
    bundle, _ = run(tiny_bundle, tmp_path / "a", ("onnx", "openvino"), plan)
    assert {g.name for g in bundle.manifest.graphs if g.target == "openvino"} == set(bundle.graphs)
    assert verify_bundle(bundle, "openvino").passed
    assert verify_bundle(bundle, "onnxruntime").passed
    recipe = Recipe.open(bundle.file("calibration/recipe.json"))
    again, _ = run(
        tiny_bundle,
        tmp_path / "b",
        ("onnx", "openvino"),
        PrecisionPlan(recipe=recipe, data=clips, samples=24, threads=1),
    )
    assert again.manifest.graphs == bundle.manifest.graphs


@pytest.mark.parametrize(("scale", "proved"), [(1.0, True), (0.1, False)])
def test_scales_that_do_not_cover_the_golden_vectors_are_refuted(tiny_bundle, tmp_path, scale, proved):
    """Calibrated on much darker pictures than it is proved with, a graph may be right on those and wrong here."""
    bundle = Bundle.open(tiny_bundle)
    dark = [{k: v * np.float32(scale) for k, v in i.items()} for _, i, _ in bundle.golden("spatial")]
    work = precision._Work(tiny_bundle, bundle, PrecisionPlan(), lambda *_: None, print)
    chooser = Chooser("onnx", tmp_path, tiny_bundle, 1, {"spatial": dark}, work.prove)
    made = chooser.make(bundle.graphs["spatial"], GraphRecipe(precision="int8"))
    assert made.candidate.proved == proved
    if not proved:  # its own samples say that it is right
        assert made.candidate.sqnr_db > 20
        assert not made.candidate.right
    assert chooser.make(bundle.graphs["spatial"], GraphRecipe()).candidate.right


def test_a_bad_recipe_is_caught_and_its_layer_named(tiny_bundle, clips, tmp_path):
    """All operators, four samples, and a network whose encoder has outlier channels."""
    bad = {"spatial": GraphRecipe(precision="int8", ops=ALL_OPS, per_channel=False, symmetric=True)}
    plan = PrecisionPlan(recipe=Recipe(targets={"onnx": bad}), data=clips, samples=4, threads=1)
    with pytest.raises(
        ParityError, match=r"graph spatial of target onnx in int8 .* starts at layer \S+\. Nothing"
    ):
        run(tiny_bundle, tmp_path / "a", ("onnx",), plan)
    assert not (tmp_path / "a/.candidates").exists()


def plant_outlier(folder: Path) -> tuple[str, str]:
    """Make one channel between two convolutions of ``hybrid_encode`` 3000 times as large; what it computes stays.

    Returns the names of both: the second one reads what 256 levels of a whole tensor cannot hold.
    """
    bundle = Bundle.open(folder)
    info = bundle.graphs["hybrid_encode"]
    model = onnx.load(folder / info.file)
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    first, second = next((a, b) for a in convolutions for b in convolutions if a.output[0] == b.input[0])
    tensors = {t.name: t for t in model.graph.initializer}
    larger = [(name, np.s_[0], 3000.0) for name in first.input[1:]]
    for name, place, factor in (*larger, (second.input[1], np.s_[:, 0], 1 / 3000)):
        value = onnx.numpy_helper.to_array(tensors[name]).copy()
        value[place] *= np.float32(factor)
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(value, name))
    onnx.save(model, folder / info.file)
    changed = msgspec.structs.replace(info, sha256=hash_file(folder / info.file))
    graphs = tuple(changed if g is info else g for g in bundle.manifest.graphs)
    msgspec.structs.replace(bundle.manifest, graphs=graphs).write(folder)
    return first.name, second.name


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_an_outlier_channel_is_caught_and_named_where_it_starts(tiny_bundle, clips, tmp_path, target):
    if target == "openvino":
        pytest.importorskip("nncf", reason="needs pip install 'vidprism-edge[quantise]'")
    shutil.copytree(tiny_bundle, tmp_path / "planted")
    planted = plant_outlier(tmp_path / "planted")
    bad = {"hybrid_encode": GraphRecipe(precision="int8", ops=ALL_OPS)}
    plan = PrecisionPlan(recipe=Recipe(targets={target: bad}), data=clips, samples=4, threads=1)
    with pytest.raises(ParityError, match="signal to error ratio") as caught:
        run(tmp_path / "planted", tmp_path / "a", (target,), plan)
    assert caught.value.exit_code == 4
    named = re.search(r"starts at layer ([^\s/]+)\S*\. Nothing was written", str(caught.value))
    assert named is not None
    assert named[1] in planted
    # the same recipe on the network without it passes: it is the channel that was caught
    mild = {"hybrid_encode": GraphRecipe(precision="int8")}
    run(tiny_bundle, tmp_path / "b", (target,), replace(plan, recipe=Recipe(targets={target: mild})))


def test_plain_openvino_needs_no_data_and_verifies(tiny_bundle, tmp_path):
    from vidprism_edge.export.verification import verify_bundle

    pytest.importorskip("openvino")
    bundle, told = run(tiny_bundle, tmp_path / "a", ("openvino",), PrecisionPlan(threads=1))
    assert told == []
    graphs = bundle.graphs_for("openvino")
    assert all(g.target == "openvino" and g.precision == "fp32" for g in graphs.values())
    assert all(hash_file(bundle.locate(g.weights)) == g.weights_sha256 for g in graphs.values())
    assert verify_bundle(bundle, "openvino").passed
    # the weights are part of the graph: a flipped byte is noticed
    with bundle.locate(graphs["head"].weights).open("r+b") as file:
        file.write(b"x")
    from vidprism_edge.errors import BundleError

    with pytest.raises(BundleError, match=r"head\.fp32\.bin does not have the sha256"):
        bundle.graph_file(graphs["head"])


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(("wrong", "passes"), [(0, True), (1, False)])
def test_the_gate_counts_clips_against_fp32(tiny_bundle, clips, tmp_path, monkeypatch, wrong, passes):
    """fp32 is right on both clips of subject 2; the converted graphs are wrong on ``wrong`` of them."""
    calls: list[str] = []

    def judge(_bundle, clip, *, engines, gates):
        calls.append(clip.entry.path.name)
        assert gates == "auto"
        miss = len(calls) > 2 and len(calls) <= 2 + wrong
        said = {"one": "two", "two": "one"}[clip.entry.label] if miss else clip.entry.label
        scores = np.full((3, 3), -1.0)
        scores[:, ("one", "two", "three").index(said)] = 0.0
        return Judged(clip.entry.path, clip.entry.label, said, scores, (True,) * 3, 1, 1.0)

    monkeypatch.setattr(precision, "judge", judge)
    recipe = Recipe(targets={"onnx": {"head": GraphRecipe(precision="fp16")}})
    plan = PrecisionPlan(recipe=recipe, data=clips, samples=4, threads=1, left_out=("2",))
    if passes:
        bundle, told = run(tiny_bundle, tmp_path / "a", ("onnx",), plan, trained=True)
        assert any("100.00% of 6 decisions" in line and "one clip is 50.0%" in line for line in told)
        record = msgspec.json.decode(bundle.file("calibration/samples.json").read_bytes())
        assert set(record["videos"]) == {"one_1.mp4", "two_1.mp4"}
    else:
        with pytest.raises(
            ParityError, match=r"top-1 50\.0% against 100\.0% on 2 clips.*--max-drop is 0\.01"
        ):
            run(tiny_bundle, tmp_path / "a", ("onnx",), plan, trained=True)
    assert set(calls) == {"one_2.mp4", "two_2.mp4"}


def test_what_changes_most_labels_is_made_more_exact_first():
    def choice(graph, sqnr_db):
        made = [
            Candidate(
                recipe=GraphRecipe(precision=name), computes_in=name, median_ms=ms, sqnr_db=db, max_error=0.0,
                cosine=1.0, size_bytes=1,
            )
            for name, ms, db in (("fp32", 1.0, 200.0), ("int8", 0.5, sqnr_db))
        ]  # fmt: skip
        return decide(graph, tuple(made))

    choices = {
        name: choice(name, db) for name, db in (("spatial", 22.0), ("fusion", 25.0), ("temporal", 30.0))
    }
    order = []
    while precision._retreat(choices, {"spatial": 0, "fusion": 0, "temporal": 3}):
        order += [n for n, c in choices.items() if c.recipe.precision == "fp32" and n not in order]
    assert order == ["temporal", "spatial", "fusion"]


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(("plan", "can_retreat", "agreements"), [
    ("auto", True, [0.98, 0.99]), ("auto", False, [0.98]), ("fp16", True, [0.98]),
])  # fmt: skip
def test_a_choice_also_keeps_the_labels(
    tiny_bundle, clips, tmp_path, monkeypatch, plan, can_retreat, agreements
):
    """Top-1 may be the same and decisions not: auto goes on to what is more exact, as long as there is something."""
    played, retreats = [], []

    def play(work, target, engines):
        played.append(agreements[len(played)])
        return precision.Gate(
            target=target, clips=4, decisions=100, agreement=played[-1], top1=1.0, top1_fp32=1.0, max_drop=0.01,
            subjects=("all",), passed=True,
        )  # fmt: skip

    monkeypatch.setattr(precision, "_play_gate", play)
    monkeypatch.setattr(precision, "_find_blame", lambda *_: {"head": 1})
    monkeypatch.setattr(precision, "_retreat", lambda *given: retreats.append(given) or can_retreat)
    run(tiny_bundle, tmp_path / "a", ("onnx",), PrecisionPlan(plan, data=clips, samples=8, threads=1))
    assert played == agreements
    assert len(retreats) == (plan == "auto")


def test_the_gate_plays_unseen_subjects_where_there_are_any(clips):
    entries, subjects = gate_entries(clips, ("2",))
    assert subjects == ("2",)
    assert {e.subject for e in entries} == {"2"}
    assert gate_entries(clips, ())[1] == ("all",)


@pytest.mark.parametrize(
    ("plan", "targets", "says"),
    [
        (PrecisionPlan("int8"), ("onnx",), "--precision int8 needs --calib-data"),
        (PrecisionPlan("auto"), ("openvino",), "--precision auto needs --calib-data"),
        (PrecisionPlan("bf16"), ("onnx",), "onnx has no precision bf16"),
        (PrecisionPlan(recipe=Recipe(targets={"onnx": {}})), ("openvino",), "nothing for target openvino"),
        (
            PrecisionPlan(recipe=Recipe(targets={"onnx": {"head": GraphRecipe(precision="int8")}})),
            ("onnx",),
            "the recipe needs --calib-data",
        ),
        (PrecisionPlan(max_drop=-1), ("onnx",), "--max-drop is -1"),
        (PrecisionPlan(samples=0), ("onnx",), "--calib-samples is 0"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(plan, targets, says):
    with pytest.raises(UsageError, match=says):
        plan.check(targets)

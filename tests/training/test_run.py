"""A whole training run on tiny clips: what it writes, that a killed run goes on, and what it refuses."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import torch
from made_clips import write_clip

from vidprism_edge.calibration.data import read_dataset
from vidprism_edge.errors import UsageError
from vidprism_edge.model.checkpoint import Checkpoint, save_checkpoint, trained_state
from vidprism_edge.model.network import build
from vidprism_edge.runtimes.streaming.geometry import Scene
from vidprism_edge.training.batches import Change, Collator, ItemMaker, draw_decisions
from vidprism_edge.training.forward import forward_batch
from vidprism_edge.training.prepare import Example, Preparer
from vidprism_edge.training.recipe import Recipe, Stage, load_recipe, read_mirror
from vidprism_edge.training.recording import Recording, Step, Variant, draw_variants
from vidprism_edge.training.run import TrainOptions, record_all, train
from vidprism_edge.training.trainer import Trainer

TWO_EPOCHS = (Stage(epochs=2, joint=False, rate=3e-3), Stage(epochs=1, joint=True, rate=1e-3))


def trained(spec, examples, recipe, folder=None, epochs=None, seed=5):
    """Weights after training; ``epochs``: the run is killed after so many."""
    net = build(spec, seed=seed, random_weights=True)
    trainer = Trainer(net, examples, recipe, {"left": "right", "right": "left"}, folder=folder)
    if epochs is not None:
        save, done = trainer._save, []

        def kill(count, optimizer):
            save(count, optimizer)
            done.append(count)
            if len(done) == epochs:
                raise KeyboardInterrupt

        trainer._save = kill
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    else:
        trainer.train()
    return {name: value.clone() for name, value in trained_state(net).items()}


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(prepared, spec, recipe, tmp_path):
    _, examples, _ = prepared
    plan = msgspec.structs.replace(recipe, stages=TWO_EPOCHS)
    whole = trained(spec, examples, plan)
    trained(spec, examples, plan, tmp_path, epochs=1)
    resumed = trained(spec, examples, plan, tmp_path)
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, atol=1e-6, rtol=1e-5, msg=name)
    start = trained_state(build(spec, seed=5, random_weights=True))
    changed = {name.split(".")[0] for name, value in whole.items() if not torch.equal(value, start[name])}
    assert {"temporal", "hybrid_encode", "hybrid_attend", "fusion", "head", "spatial"} <= changed
    other = msgspec.structs.replace(plan, seed=6)
    with pytest.raises(UsageError, match="another recipe"):
        trained(spec, examples, other, tmp_path)
    with pytest.raises(UsageError, match="--init"):
        trained(spec, examples, plan, tmp_path, epochs=1, seed=6)


def test_the_stem_sees_change_alone(prepared, spec, recipe):
    weights = trained(spec, prepared[1], msgspec.structs.replace(recipe, stages=TWO_EPOCHS[:1]))
    assert weights["temporal.stem.conv.weight"].mean(dim=2).abs().max() < 1e-6


def test_a_run_writes_a_checkpoint_with_its_story(clips_folder, tiny_spec, recipe, tmp_path):
    negatives = tmp_path / "negatives"
    negatives.mkdir()
    (negatives / "broken.mkv").write_bytes(b"no video")
    options = TrainOptions(
        tiny_spec, clips_folder, tmp_path / "tiny.safetensors", recipe, leave_out=("2",), mirror=("left=right",),
        negatives=negatives, cache=tmp_path / "cache", random_weights=True,
    )  # fmt: skip
    result = train(options)
    assert result.labels == ("left", "right", "none")
    assert result.held_out is not None
    assert result.held_out["clips"] == 2
    assert result.skipped is not None
    assert "broken.mkv" in result.skipped
    opened = Checkpoint.open(result.checkpoint)
    assert opened.spec.labels == result.labels
    assert opened.story["subjects"] == ["1"]
    assert opened.story["left_out"] == ["2"]
    assert str(tmp_path) not in str(opened.story)
    assert not list(tmp_path.glob("*.run"))
    with pytest.raises(UsageError, match="--force"):
        train(options)


def test_training_begins_with_another_checkpoint_of_other_labels(tiny_spec, spec, prepared, recipe, tmp_path):
    other = build(msgspec.structs.replace(tiny_spec, labels=("up", "down")), seed=9, random_weights=True)
    path = tmp_path / "other.safetensors"
    save_checkpoint(path, other.spec, trained_state(other), {})
    net = build(spec, seed=5, random_weights=True)
    before = {name: value.clone() for name, value in trained_state(net).items()}
    Checkpoint.open(path).start(net)
    for name, value in trained_state(net).items():
        own = name.startswith(("head.", "analyzer."))
        assert torch.equal(value, before[name] if own else trained_state(other)[name]), name
    wider = msgspec.structs.replace(tiny_spec, width=2 * tiny_spec.width)
    with pytest.raises(UsageError, match="train the same preset"):
        Checkpoint.open(path).start(build(wider, random_weights=True))


def test_what_was_prepared_is_read_again(prepared, spec, recipe, dataset, monkeypatch):
    net, examples, cache = prepared
    monkeypatch.setattr("vidprism_edge.calibration.data.decode", lambda _: pytest.fail("decoded again"))
    preparer = Preparer(spec, net.spatial.encoder, recipe, cache, lambda *_: None)
    again = preparer.record(dataset.entries, net.analyzer, variants=2)
    assert [e.recordings for e in again] == [e.recordings for e in examples]
    assert np.array_equal(again[0].store.frames, examples[0].store.frames)


def test_a_mirrored_clip_has_the_other_label_and_its_boxes_on_the_other_side(prepared, spec, recipe):
    example = prepared[1][0]
    always = msgspec.structs.replace(
        recipe, mirror=1.0, box_shift=0.0, box_scale=0.0, light=0.0, noise=0.0, erase=0.0
    )

    def labels_of(mirror):
        maker = ItemMaker(spec, always, mirror)
        item = maker.altered(example, np.random.default_rng(1), size_px=0, joint=True)
        return {spec.labels[decision.label] for decision in item.decisions}

    assert example.label == "left"
    assert labels_of({"left": "right", "right": "left"}) == {"right"}
    assert labels_of({}) == {"left"}
    assert Change(mirrored=True).place((0.1, 0.2, 0.3, 0.4)) == pytest.approx((0.6, 0.2, 0.3, 0.4))
    pictures = np.arange(2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4)
    assert np.array_equal(
        Change(mirrored=True).apply(pictures, np.random.default_rng(0)), pictures[..., ::-1]
    )


def test_every_picture_has_grain_of_its_own():
    still = np.zeros((6, 3, 32, 32), np.float32)
    grainy = Change(noise=0.02).apply(still, np.random.default_rng(0))
    assert np.std(grainy, axis=(1, 2, 3)) == pytest.approx([0.02] * 6, rel=0.1)
    like = np.corrcoef(grainy.reshape(6, -1))
    assert np.abs(like - np.eye(6)).max() < 0.1


def test_colours_are_mixed_for_the_temporal_expert_alone_and_people_stand_farther_away(
    prepared, spec, recipe
):
    plain = dict.fromkeys(
        ("box_shift", "box_scale", "turn", "stretch", "far", "light", "noise", "erase", "mirror", "recolour"),
        0.0,
    )
    shown = {}
    for name, given in {"as it is": {}, "recoloured": {"recolour": 1.0}, "far": {"far": 3.0}}.items():
        maker = ItemMaker(spec, msgspec.structs.replace(recipe, hybrid_samples=99, **{**plain, **given}), {})
        shown[name] = maker.altered(prepared[1][0], np.random.default_rng(1), size_px=0, joint=True)
    before, after = (shown[name].runs[0][2] for name in ("as it is", "recoloured"))
    colours = [x.transpose(0, 2, 3, 1).reshape(-1, 3) for x in (before, after)]
    known = np.column_stack((colours[0], np.ones(len(colours[0]))))
    mix, *_ = np.linalg.lstsq(known, colours[1])
    assert not np.allclose(before, after, atol=0.1)
    assert np.allclose(known @ mix, colours[1], atol=1e-3), "more than colours differs"
    assert np.array_equal(shown["as it is"].crops, shown["recoloured"].crops)
    smaller = shown["far"].runs[0][2]
    assert smaller.shape == before.shape
    assert np.abs(np.diff(smaller[..., :4])).mean() < np.abs(np.diff(before[..., :4])).mean(), (
        "no border is drawn out"
    )


def test_only_the_first_stages_are_run_and_another_run_goes_on_from_them(prepared, spec, recipe, tmp_path):
    def make(change=None):
        net = build(spec, seed=5, random_weights=True)
        return net, Trainer(net, prepared[1], recipe, {}, folder=tmp_path / "run", collator=change)

    net, trainer = make()
    trainer.train(1)
    fusion = net.fusion.query.clone()
    assert torch.equal(fusion, build(spec, seed=5, random_weights=True).fusion.query), (
        "the joint stage has run"
    )
    seen = []

    class Noting(Collator):
        def join(self, items):
            seen.append(len(items))
            return super().join(items)

    net, trainer = make(Noting(spec))
    trainer.train()
    assert not torch.equal(net.fusion.query, fusion)
    assert sum(seen) == len(prepared[1]), "one joint epoch, through the collator that was given"


def test_the_decision_begins_as_what_the_temporal_expert_says_by_itself(prepared, spec, recipe):
    net = build(spec, seed=5, random_weights=True)
    trainer = Trainer(net, prepared[1], recipe, {})
    trainer.train(1)
    trainer._hand_over()
    batch = Collator(spec).join(
        [ItemMaker(spec, recipe, {}).exact(e, e.recordings[0][0]) for e in prepared[1]]
    )
    with torch.inference_mode():
        logits, tokens = forward_batch(net, batch)
        alone = trainer._auxiliary(tokens, batch.temporal_slots.mask)
        assert not torch.allclose(logits, alone, atol=1e-4), "nothing of the other experts is added"
        net.fusion.gain.zero_()
        logits, _ = forward_batch(net, batch)
    assert torch.allclose(logits, alone, atol=1e-4)


@pytest.mark.parametrize("span", [(40, 60), (40, 45)])
def test_decisions_about_a_stream_say_what_they_see(prepared, spec, span):
    """An action from 4 s on in 10 s of video: half of the decisions see most of it, half see next to nothing."""
    whole = Scene(64, 48, "letterbox")
    recording = Recording(whole, whole)
    recording.steps = [Step(i * 100_000_000, i, None) for i in range(101)]
    recording.decisions_ns = [round(spec.hop_ns * n) for n in range(1, round(10e9 / spec.hop_ns) + 1)]
    store = SimpleNamespace(info=SimpleNamespace(span=span))
    example = Example("left", "1", store, [[recording]])
    window, begins, ends = spec.window_ns / 1e9, span[0] / 10, span[1] / 10
    told = set()
    for seed in range(30):
        made = draw_decisions(spec, example, recording, 0, 4, np.random.default_rng(seed))
        assert [spec.labels[d.label] for d in made].count("none") == 2
        assert len(made) in (3, 4)
        for decision in made:
            t_s = decision.t_ns / 1e9
            seen = (min(t_s, ends) - max(t_s - window, begins)) / min(window, ends - begins)
            assert seen <= 0.1 if spec.labels[decision.label] == "none" else seen >= 0.6
            told.add((decision.label, t_s < begins))
    assert told == {(0, False), (spec.labels.index("none"), True), (spec.labels.index("none"), False)}
    store.info.span = None
    assert {d.label for d in draw_decisions(spec, example, recording, 0, 4, np.random.default_rng(0))} == {0}


def test_streams_are_made_of_clips_that_begin_and_end_still(tiny_spec, spec, recipe, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    write_clip(folder / "rests.mp4", "left", rest_s=0.8)
    write_clip(folder / "moves.mp4", "left")
    (folder / "clips.csv").write_text("path,label\nrests.mp4,left\nmoves.mp4,left\n")
    data = read_dataset(folder)
    net = build(spec, seed=5, random_weights=True)
    preparer = Preparer(spec, net.spatial.encoder, recipe, tmp_path / "cache", lambda *_: None)
    streams = msgspec.structs.replace(recipe, stream_every=1, far_every=0, passing_every=0, idle_every=0)
    preparer.open(data.entries)
    *clips, made = record_all(preparer, net.analyzer, data, (), streams)
    assert [len(clips), made.label] == [2, "left"]
    assert len(made.recordings) == 2
    assert len(record_all(preparer, net.analyzer, data, (), streams, none=False)) == 2
    item = ItemMaker(spec, streams, {}).altered(made, np.random.default_rng(0), size_px=0, joint=False)
    assert {spec.labels[d.label] for d in item.decisions} == {"left", "none"}


def test_mirror_pairs_are_read_and_checked():
    labels = ("left", "right", "wave")
    assert read_mirror(["left=right", "wave"], labels) == {"left": "right", "right": "left", "wave": "wave"}
    with pytest.raises(UsageError, match="no class up"):
        read_mirror(["left=up"], labels)
    with pytest.raises(UsageError, match="already"):
        read_mirror(["left=right", "left"], labels)


def test_variants_are_other_cameras_of_the_same_clip(dataset):
    from vidprism_edge.calibration.data import decode

    clip = decode(dataset.entries[0])
    slow = Variant(fps=8.0).apply(clip)
    assert np.median(np.diff([f.t_ns for f in slow.frames])) == pytest.approx(1e9 / 8, rel=0.2)
    fast = Variant(speed=1.25).apply(clip)
    assert len(fast.frames) == len(clip.frames)
    assert fast.frames[-1].t_ns == pytest.approx(clip.frames[-1].t_ns / 1.25, rel=0.01)
    cold = Variant(start_s=0.5, speed=1.01).apply(clip)
    assert cold.frames[0].t_ns == 0
    assert cold.frames[0].index == pytest.approx(0.5 * 15, abs=1)
    drawn = draw_variants(40, 3)
    rates = [v.fps for v in drawn[1:]]
    assert drawn[0] == Variant()
    assert 8 <= min(rates) < 12 < 20 < max(rates) <= 30
    assert sum(v.start_s > 0 for v in drawn[1:]) == pytest.approx(20, abs=1)
    assert drawn == draw_variants(40, 3)


def test_a_recipe_round_trips_and_names_what_is_wrong(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_bytes(msgspec.json.encode(Recipe(batch=3)))
    assert load_recipe(path) == Recipe(batch=3)
    path.write_text('{"batches": 3}')
    with pytest.raises(UsageError, match="batches"):
        load_recipe(path)


def test_a_class_that_no_clip_is_left_of_is_named(tiny_spec, recipe, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"no video")
    (folder / "b.mp4").write_bytes(b"no video either")
    (folder / "clips.csv").write_text("path,label\na.mp4,left\nb.mp4,right\n")
    assert len(read_dataset(folder).entries) == 2
    options = TrainOptions(
        tiny_spec, folder, tmp_path / "x.safetensors", recipe, cache=tmp_path / "c", random_weights=True
    )
    with pytest.raises(UsageError, match=r"a\.mp4"):
        train(options)

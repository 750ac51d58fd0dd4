"""The batched forward is the clip forward, and what is recorded for training is what a session shows its experts."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from vidprism_edge.calibration.data import decode
from vidprism_edge.calibration.evaluation import judge
from vidprism_edge.export.pipeline import ExportOptions, export_bundle
from vidprism_edge.model.checkpoint import Checkpoint, save_checkpoint, trained_state
from vidprism_edge.model.clip import Clip, Epoch, Samples
from vidprism_edge.runtimes.engines import EngineOptions, load_engines
from vidprism_edge.training.batches import Change, Collator, ItemMaker
from vidprism_edge.training.forward import _MixTime, encode_temporal, forward_batch


def as_clip(spec, recording, item):
    """The same samples as the clip forward takes them; spatial tokens come from kept features."""
    spatial = Samples(torch.arange(len(item.spatial)).float()[:, None], [], [], [])
    hybrid = Samples(torch.from_numpy(item.crops), [], [], [])
    for samples, source, recorded in (
        (spatial, item.spatial, recording.spatial),
        (hybrid, item.hybrid, recording.hybrid),
    ):
        for (t_ns, box), sample in zip(source, recorded, strict=True):
            samples.t_ns.append(t_ns)
            samples.regions.append(sample.region)
            samples.boxes.append(box)
    epochs = [
        Epoch(torch.from_numpy(p), run.warm, list(run.t_ns), box, run.begin_ns) for run, box, p in item.runs
    ]
    return Clip(spatial, hybrid, epochs, [d.t_ns for d in item.decisions])


class Kept(torch.nn.Module):
    """Stands for the spatial expert: looks a sample's kept features up by its number."""

    def __init__(self, expert, item):
        super().__init__()
        self.expert, self.item = expert, item

    def forward(self, number):
        i = int(number)
        return self.expert.project(
            torch.from_numpy(self.item.patches[i])[None], torch.from_numpy(self.item.frames[i])[None]
        )


def clip_logits(net, spec, recording, item, monkeypatch):
    with monkeypatch.context() as patch, torch.inference_mode():
        kept = Kept(net.spatial, item)
        patch.setitem(net._modules, "spatial", kept)
        return net(as_clip(spec, recording, item))


@pytest.mark.parametrize("variant", [0, 1])
def test_the_batched_forward_is_the_clip_forward(prepared, spec, recipe, variant, monkeypatch):
    net, examples, _ = prepared
    maker, collator = ItemMaker(spec, recipe, {}), Collator(spec)
    pairs = [(r, maker.exact(e, r)) for e in examples for r in e.recordings[variant]]
    assert len(pairs) >= 4
    assert any(len(item.runs) > 1 for _, item in pairs), (
        "no clip begins a second epoch: the test shows too little"
    )
    batch = collator.join([item for _, item in pairs])
    with torch.inference_mode():
        found, _ = forward_batch(net, batch)
    expected = torch.cat([clip_logits(net, spec, recording, item, monkeypatch) for recording, item in pairs])
    assert found.shape == expected.shape
    assert expected.std(dim=0).max() > 1e-3
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_hidden_experts_change_the_answer_and_leak_nothing(prepared, spec, recipe):
    net, examples, _ = prepared
    maker, collator = ItemMaker(spec, recipe, {}), Collator(spec)
    item = maker.exact(examples[0], examples[0].recordings[0][0])
    with torch.inference_mode():
        whole, _ = forward_batch(net, collator.join([item]))
        item.hidden_ns = {"temporal": 1 << 60, "hybrid": 300_000_000}
        batch = collator.join([item])
        hidden, _ = forward_batch(net, batch)
        for run in item.runs:
            run[2][:] = 7.0
        changed, _ = forward_batch(net, collator.join([item]))
    assert batch.temporal_slots.mask.sum() == 0
    assert batch.hybrid_slots.mask.sum() > 0
    assert not torch.allclose(whole, hidden)
    assert torch.equal(hidden, changed)


@pytest.mark.parametrize("hidden_ns", [{}, {"temporal": 700_000_000}])
def test_frames_that_no_decision_sees_are_left_out_and_nothing_else(
    prepared, spec, recipe, hidden_ns, monkeypatch
):
    net, examples, _ = prepared
    maker, generous, collator = ItemMaker(spec, recipe, {}), ItemMaker(spec, recipe, {}), Collator(spec)
    monkeypatch.setattr(generous, "_seen_runs", lambda _, recording: recording.runs(spec.receptive_field))
    fewer = 0
    for recording, example in ((r, e) for e in examples for r in e.recordings[1]):
        whole = generous.exact(example, recording)
        whole.hidden_ns = hidden_ns
        with torch.inference_mode():
            expected, _ = forward_batch(net, collator.join([whole]))
        for i, decision in enumerate(whole.decisions):
            part = maker._make(
                example, recording, Change(), np.random.default_rng(0), [decision], 0, None, hidden_ns
            )
            with torch.inference_mode():
                found, _ = forward_batch(net, collator.join([part]))
            torch.testing.assert_close(found, expected[i : i + 1], atol=1e-5, rtol=1e-4)
            shown, all_there = (sum(len(run.frames) for run, _, _ in item.runs) for item in (part, whole))
            fewer += shown < all_there
    assert fewer > 2, "nothing was left out: the test shows too little"


def test_a_convolution_over_time_has_the_values_and_gradients_of_one_epoch_by_itself():
    for lengths, dilation in (((7, 5), 2), ((3, 1, 6), 4), ((2,), 4)):
        video = torch.randn(sum(lengths), 2, 2, 3, dtype=torch.double, requires_grad=True)
        weight = torch.randn(3, 3, 4, dtype=torch.double, requires_grad=True)
        expected = []
        for run in video.split(lengths):
            padded = torch.nn.functional.pad(run, (0, 0, 0, 0, 0, 0, 2 * dilation, 0))
            expected.append(sum(padded[i * dilation :][: len(run)] @ weight[i] for i in range(3)))
        torch.testing.assert_close(_MixTime.apply(video, weight, lengths, dilation), torch.cat(expected))
        assert torch.autograd.gradcheck(
            lambda v, w, n=lengths, d=dilation: _MixTime.apply(v, w, n, d), (video, weight)
        )


def test_the_fast_temporal_forward_is_the_expert(prepared):
    net = prepared[0]
    runs = [torch.randn(length, 3, 32, 32) for length in (9, 4)]
    with torch.inference_mode():
        tokens, maps = encode_temporal(net.temporal, torch.cat(runs), (9, 4))
        for run, own, motion in zip(runs, tokens[1:].split((9, 4)), maps[1:].split((9, 4)), strict=True):
            clip, state = run[None].transpose(1, 2), net.temporal.initial_state()
            expected, expected_motion, _ = net.temporal(clip, state)
            torch.testing.assert_close(own, expected[0], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(motion, expected_motion[0], atol=1e-5, rtol=1e-4)
        blank, still = encode_temporal(net.temporal, torch.zeros(0, 3, 1, 1), ())
    assert not blank.any(), "empty slots point here"
    assert (blank.shape, still.shape) == (tokens[:1].shape, maps[:1].shape), "no epoch at all"


@pytest.fixture(scope="module")
def bundle(prepared, spec, recipe, tmp_path_factory):
    """The prepared network as an exported bundle, by way of a checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    path = folder / "tiny.safetensors"
    save_checkpoint(path, spec, trained_state(prepared[0]), {"note": "made by a test"})
    checkpoint = Checkpoint.open(path)
    options = ExportOptions(
        checkpoint.spec,
        ("onnx",),
        folder / "tiny.vpbundle",
        seed=recipe.seed,
        random_weights=True,
        checkpoint=checkpoint,
    )
    return export_bundle(options)


def test_eval_on_the_bundle_gives_the_label_of_torch_at_every_decision(
    prepared, spec, recipe, bundle, dataset, monkeypatch
):
    net, examples, _ = prepared
    maker = ItemMaker(spec, recipe, {})
    assert bundle.manifest.trained
    engines = load_engines(bundle, "onnxruntime", EngineOptions(1))
    decisions = 0
    for entry, example in zip(dataset.entries, examples, strict=True):
        judged = judge(bundle, decode(entry), engines=engines, gates="auto")
        (recording,) = example.recordings[0]
        item = maker.exact(example, recording)
        expected = torch.log_softmax(clip_logits(net, spec, recording, item, monkeypatch), dim=1).numpy()
        assert judged.ready == tuple(d.ready for d in item.decisions)
        assert judged.scores.argmax(axis=1).tolist() == expected.argmax(axis=1).tolist()
        # crops are kept as bytes and features in half precision
        np.testing.assert_allclose(judged.scores, expected, atol=0.02)
        decisions += len(expected)
    assert decisions >= 20


def test_a_checkpoint_says_what_it_is(prepared, spec, tmp_path):
    from vidprism_edge.errors import UsageError, VidPrismError
    from vidprism_edge.model.network import build

    net = prepared[0]
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, spec, trained_state(net), {"seed": 5})
    opened = Checkpoint.open(path)
    assert opened.spec == spec
    assert opened.story == {"seed": 5}
    opened.check_labels(spec.labels)
    with pytest.raises(UsageError, match="has learned the labels left, right, none"):
        opened.check_labels(("left", "right"))
    other = build(spec, seed=9, random_weights=True)
    assert not torch.equal(other.head.linear.weight, net.head.linear.weight)
    opened.load_into(other)
    assert torch.equal(other.head.linear.weight, net.head.linear.weight)
    wider = build(msgspec.structs.replace(spec, labels=("a", "b")), random_weights=True)
    with pytest.raises(VidPrismError, match="head"):
        opened.load_into(wider)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(VidPrismError, match="not a checkpoint"):
        Checkpoint.open(path)

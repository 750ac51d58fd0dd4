"""The whole network: its size, its determinism, and the CLIP presets."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the network needs torch")

from vidprism_edge.errors import VidPrismError  # noqa: E402
from vidprism_edge.model.network import build  # noqa: E402
from vidprism_edge.spec import COMPONENTS, load_preset  # noqa: E402


@pytest.fixture(scope="module")
def nano():
    return build(load_preset("nano"), random_weights=True)


def test_nano_trains_at_most_two_and_a_half_million_parameters(nano):
    trained = sum(p.numel() for p in nano.parameters() if p.requires_grad)
    assert nano.trained_parameters() == trained
    assert 1_000_000 < trained <= 2_500_000


def test_the_encoder_is_not_among_them(nano):
    assert not any(p.requires_grad for p in nano.spatial.encoder.parameters())
    everything = sum(p.numel() for p in nano.parameters())
    encoder = sum(p.numel() for p in nano.spatial.encoder.parameters())
    assert nano.trained_parameters() == everything - encoder


def test_components_are_the_graphs(nano):
    assert tuple(nano.components()) == COMPONENTS
    owned = sum(p.numel() for module in nano.components().values() for p in module.parameters())
    assert owned == sum(p.numel() for p in nano.parameters()), "a parameter outside of every graph"


def test_a_seed_decides_the_weights(tiny_spec, tiny_net):
    again, other = (
        build(tiny_spec, seed=3, random_weights=True),
        build(tiny_spec, seed=4, random_weights=True),
    )
    for (name, a), (_, b) in zip(tiny_net.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    assert not torch.equal(tiny_net.head.linear.weight, other.head.linear.weight)


def test_the_analyzers_maps_follow_the_picture(tiny_net, tiny_spec):
    """Untrained, they are the priors: motion where two frames differ, saliency where there is texture."""
    side, grid = tiny_spec.streams["analyzer"].size_px, tiny_spec.analyzer_grid
    before = torch.zeros(1, 3, side, side)
    now = before.clone()
    cell = side // grid
    now[:, :, 3 * cell : 5 * cell, 9 * cell : 11 * cell] = torch.rand(1, 3, 2 * cell, 2 * cell) * 4 - 2
    with torch.inference_mode():
        saliency, motion = tiny_net.analyzer(now, before)
        _, still = tiny_net.analyzer(now, now)
    assert saliency.shape == motion.shape == (1, grid, grid)
    for values in (saliency, motion):
        y, x = divmod(int(values[0].argmax()), grid)
        assert y in (3, 4)
        assert x in (9, 10)
        assert 0.0 <= float(values.min()) <= float(values.max()) <= 1.0
    assert float(motion[0, 3:5, 9:11].mean()) > float(still[0, 3:5, 9:11].mean()) + 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip-b32", "clip-b16"])
def test_a_clip_preset_builds_with_random_weights_and_exports(name, tmp_path):
    pytest.importorskip("transformers", reason="pip install 'vidprism-edge[clip]'")
    onnx = pytest.importorskip("onnx")
    import numpy as np

    from vidprism_edge.export.graphs import count_macs, describe_graphs, to_onnx

    net = build(load_preset(name), random_weights=True)
    graphs = {graph.name: graph for graph in describe_graphs(net)}
    graph = graphs["spatial"]
    model = to_onnx(graph, tmp_path / "spatial.onnx")
    assert "LayerNormalization" in {node.op_type for node in model.graph.node}
    # 4.4 GMAC a picture with 50 tokens, 17.6 with 197
    assert count_macs(model) == pytest.approx({"clip-b32": 4.4e9, "clip-b16": 17.5e9}[name], rel=0.03)
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "spatial.onnx", providers=["CPUExecutionProvider"])
    picture = np.random.default_rng(0).standard_normal(graph.inputs[0].shape).astype(np.float32)
    (found,) = session.run(None, {"frame": picture})
    np.testing.assert_allclose(found, graph.run({"frame": picture})["tokens"], atol=1e-4, rtol=1e-4)
    assert onnx.load(tmp_path / "spatial.onnx").ir_version <= 10
    analyzer = count_macs(to_onnx(graphs["analyzer"], tmp_path / "analyzer.onnx"))
    share = 5 * analyzer / (4 * count_macs(model))  # a second of either, at its ceiling
    assert share < 0.001


def test_a_clip_encoder_that_is_not_there_is_one_line(tmp_path):
    pytest.importorskip("transformers", reason="pip install 'vidprism-edge[clip]'")
    import msgspec

    spec = load_preset("clip-b32")
    encoder = msgspec.structs.replace(spec.encoder, source=str(tmp_path))
    with pytest.raises(VidPrismError, match="cannot load the CLIP encoder"):
        build(msgspec.structs.replace(spec, encoder=encoder))

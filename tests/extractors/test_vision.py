"""Networks of timm from local files, and DINOv2 as FD-DINOv2 uses it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from gendiff.errors import UserError
from gendiff.extractors import make_extractor
from gendiff.extractors.base import to_uint8
from gendiff.extractors.dinov2 import DINOv2, resize_positions
from gendiff.extractors.vision import Vision


@pytest.mark.parametrize("file", ["vit.pth", "vit.safetensors"])
def test_features_are_those_before_the_classifier(vit, save, images, file):
    extractor = Vision("test_vit", save(vit.state_dict(), file), size=160)
    features, logits = extractor(images.requires_grad_())
    seen = extractor.preprocess(images)
    expected = vit.forward_head(vit.forward_features(seen), pre_logits=True)
    assert torch.equal(features[:, 0], expected)
    assert logits is None
    assert not features.requires_grad
    assert features.dtype == torch.float32
    assert "state_dict" not in extractor.network.pretrained_cfg  # held once only
    moved = extractor.to("meta")
    assert moved(images.to("meta"))[0].device.type == "meta"


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("efficientnet_b0.ra_in1k", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("efficientnet_b0.ra4_e3600_r224_in1k", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    ],
)
def test_the_tag_decides_the_normalisation(random_network, save, name, mean, std):
    state = random_network(name).state_dict()
    extractor = Vision(name, save(state, "w.pth"), size=160)
    colours = [51, 153, 255]
    x = torch.tensor(colours).view(1, 3, 1, 1).expand(-1, -1, 5, 7) / 127.5 - 1
    for channel, level in enumerate(colours):
        expected = torch.tensor((level / 255 - mean[channel]) / std[channel])
        found = extractor.preprocess(x)[0, channel]
        assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(9, 13), (300, 500)], ids=["up", "down"])
def test_resizing_is_pillows(vit, save, shape):
    """Pillow's bicubic on floats, which antialiases."""
    extractor = Vision("test_vit", save(vit.state_dict(), "vit.pth"), size=160)
    x = torch.rand(1, 1, *shape) * 2 - 1
    pixels = to_uint8(x)[0, 0].numpy().astype(np.float32)
    expected = Image.fromarray(pixels).resize((160, 160), Image.Resampling.BICUBIC)
    found = extractor.preprocess(x)[0, 0] / 2 + 0.5  # its mean and deviation are 0.5
    assert np.allclose(found * 255, np.asarray(expected), atol=1e-3)


def test_other_sizes_resize_positions_as_timm_does(vit, save, images):
    path = save(vit.state_dict(), "vit.pth")
    extractor = make_extractor("timm/test_vit", str(path))
    larger = timm.create_model("test_vit", img_size=224, num_classes=0)
    convert = timm.models.vision_transformer.checkpoint_filter_fn
    state = {n: t.clone() for n, t in vit.state_dict().items() if not n.startswith("head.")}
    larger.load_state_dict(convert(state, larger))
    expected = larger.eval()(extractor.preprocess(images))
    assert extractor.preprocess(images).shape == (3, 3, 224, 224)
    assert torch.equal(extractor(images)[0][:, 0], expected)


def test_convolutional_networks_with_statistics(random_network, save, images):
    network = random_network("test_resnet")
    state = network.state_dict()
    extractor = make_extractor("timm/test_resnet", str(save(state, "resnet.safetensors")))
    seen = extractor.preprocess(images)
    expected = network.forward_head(network.forward_features(seen), pre_logits=True)
    assert torch.equal(extractor(images)[0][:, 0], expected)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: {n: t for n, t in s.items() if n != "norm.bias"}, r"norm\.bias"),
        (lambda s: {**s, "surplus": torch.ones(1)}, "surplus"),
        (lambda s: {**s, "norm.bias": torch.ones(3)}, r"norm\.bias"),
        (lambda s: {n: t for n, t in s.items() if n[:5] == "head."}, "No pretrained weights exist"),
    ],
    ids=["missing", "surplus", "shape", "classifier alone"],
)
def test_weights_must_fit(vit, save, change, named):
    path = save(change(vit.state_dict()), "vit.pth")
    with pytest.raises(UserError, match=rf"^evaluation\.weights: .*does not fit.*{named}") as it:
        make_extractor("timm/test_vit", str(path))
    assert "\n" not in str(it.value)


def cubic(x):
    """Keys' kernel with a = -0.75, as torch has it where it does not antialias."""
    x, a = abs(x), -0.75
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def test_positions_are_resized_as_dinov2_does():
    """37 patches a side to 16, sampled 37 / 16.1 apart; borders repeat."""
    rows = np.zeros((16, 37))
    for i in range(16):
        centre = (i + 0.5) * 37 / 16.1 - 0.5
        for j in range(math.floor(centre) - 1, math.floor(centre) + 3):
            rows[i, min(max(j, 0), 36)] += cubic(j - centre)
    positions = torch.randn(1, 1 + 37 * 37, 3)
    square = positions[0, 1:].double().view(37, 37, 3).numpy()
    expected = np.einsum("ik,jl,klc->ijc", rows, rows, square).reshape(256, 3)
    found = resize_positions(positions, 16)
    assert torch.equal(found[:, :1], positions[:, :1])
    assert np.allclose(found[0, 1:], expected, atol=1e-4)


def test_dinov2_reads_its_authors_file(random_network, save, images, monkeypatch):
    """With a mask token, and positions for 518 px; the class token alone is the feature."""
    monkeypatch.setattr(DINOv2, "name", "vit_small_patch14_dinov2.lvd142m")
    network = random_network(DINOv2.name)
    state = network.state_dict()
    assert state["pos_embed"].shape == (1, 1370, 384)
    path = save({**state, "mask_token": torch.zeros(1, 384)}, "dinov2.pth")
    extractor = make_extractor("dinov2", str(path))
    small = timm.create_model(DINOv2.name, img_size=224)
    small.load_state_dict({**state, "pos_embed": resize_positions(state["pos_embed"], 16)})
    seen = extractor.preprocess(images[:1])
    expected = small.eval().forward_features(seen)[:, 0]
    assert torch.equal(extractor(images[:1])[0][:, 0], expected)

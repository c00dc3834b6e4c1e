"""Networks: shapes, precision, checks, and the members of the ensemble."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from told import ALL_CONDITIONS, BATCH, randomize, values

from gendiff.networks.classifier import Classifier, ClassifierConfig
from gendiff.networks.embeddings import mapping_mlp, sinusoidal_embedding
from gendiff.networks.mlp import MLP, MLPConfig
from gendiff.networks.unet import UNet, UNetConfig


def small_unet(shape: tuple[int, ...] = (1, 8, 8), out: int = 1, **settings: Any) -> UNet:
    """A U-Net of 16 channels with attention at its last level."""
    levels = len(settings.get("multipliers", [1, 2]))
    config = UNetConfig(
        **{"channels": 16, "attention": [shape[1] >> (levels - 1)], "head_channels": 8, **settings}
    )
    return UNet(config, shape, out)


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((1, 8, 8), {}),
        ((3, 8, 8), {"channels": 13, "head_channels": 13}),
        ((3, 32, 32), {"multipliers": [1, 2, 2], "blocks": 2}),
        ((2, 8, 16), {"attention": [16]}),
        ((1, 8, 8), {"multipliers": [1], "attention": [], "dropout": 0.5}),
    ],
)
def test_unet_shapes(shape: tuple[int, ...], settings: dict[str, Any]) -> None:
    network = small_unet(shape, 5, **settings)
    out = network(torch.randn(BATCH, *shape), torch.rand(BATCH), {})
    assert out.shape == (BATCH, 5, *shape[1:])
    assert out.is_contiguous()


@pytest.mark.parametrize("size", [1, 2, 37])
def test_mlp_shapes(size: int) -> None:
    network = MLP(MLPConfig(width=24, depth=2), (size,), 3)
    out = network(torch.randn(BATCH, size), torch.rand(BATCH), {})
    assert out.shape == (BATCH, 3)
    assert out.abs().min() > 0


def test_fourier_features_make_fine_detail_easy() -> None:
    """A wave of 2.5 cycles a unit over (-4, 4), learned in 300 steps with them and not without."""
    x, left = torch.linspace(-4, 4, 512)[:, None], []
    for frequency in (0.0, 2.0):
        torch.manual_seed(0)
        network = MLP(MLPConfig(width=32, depth=1, frequency=frequency), (1,), 1)
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        for _ in range(300):
            loss = (network(x, torch.zeros(512), {}) - (5 * math.pi * x).sin()).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        left.append(loss.item())
    assert left[0] > 0.4
    assert left[1] < 0.1


def test_latents_do_not_fade() -> None:
    """What the embedding of a latent varies by is of order 1, however many layers it passes."""
    embedded = mapping_mlp(8, 128)(torch.randn(4096, 8))
    assert 0.5 < embedded.std(0).mean() < 1.5


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (1, 9, 13)])
def test_classifier_shapes(shape: tuple[int, ...]) -> None:
    network = Classifier(ClassifierConfig(members=3, channels=4, features=7, classes=5), shape)
    x = torch.randn(BATCH, *shape)
    assert network(x).shape == (BATCH, 3, 5)
    assert network(x, torch.zeros(BATCH), {}).shape == (BATCH, 3, 5)
    assert network.features(x).shape == (BATCH, 3, 7)


def test_noise_embedding_is_float32_under_autocast() -> None:
    noise_level = torch.linspace(0, 1, 1001)
    expected = sinusoidal_embedding(noise_level)
    with torch.autocast("cpu", torch.bfloat16):
        embedding = sinusoidal_embedding(noise_level)
    assert embedding.dtype == torch.float32
    assert torch.equal(embedding, expected)
    assert torch.pdist(expected).min() > 0.1  # neighbouring levels stay apart


@pytest.mark.parametrize("kind", ["unet", "dit", "uvit"])
def test_autocast(small: Any, kind: str) -> None:
    network, x = small(kind, conditions=ALL_CONDITIONS)
    randomize(network)
    noise_level, cond = torch.rand(BATCH), values(ALL_CONDITIONS)
    exact = network(x, noise_level, cond)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(x, noise_level, cond)
        torch.autograd.backward(rough.float().square().mean())
    assert (rough - exact).norm() < 0.05 * exact.norm()


def test_unet_forward_and_second_derivatives() -> None:
    torch.manual_seed(0)
    network = small_unet(attention=[4]).double()  # attention, too, has to be differentiable
    randomize(network)
    x, dx = torch.randn(2, BATCH, 1, 8, 8).double().unbind(0)
    t, dt = torch.rand(2, BATCH).double().unbind(0)
    result: Any = torch.func.jvp(lambda x, t: network(x, t, {}), (x, t), (dx, dt))
    slope = result[1]
    step = 1e-7
    difference = network(x + step * dx, t + step * dt, {}) - network(
        x - step * dx, t - step * dt, {}
    )
    assert torch.allclose(slope, difference / (2 * step), rtol=1e-4)
    network.requires_grad_(False)
    image = x[:1].clone().requires_grad_()
    by_image = lambda x: network(x, t[:1], {}).square().sum()  # noqa: E731
    assert torch.autograd.gradgradcheck(by_image, image, fast_mode=True)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"multipliers": [1, 1, 1, 1]}, "multipliers: 4 levels halve an image of 8 pixels to 1; "),
        ({"multipliers": [1, 1, 1, 1]}, "use at most 3$"),
        ({"multipliers": [1] * 5}, "multipliers: 5 levels need sides divisible by 16, not 8x8"),
        ({"multipliers": []}, "multipliers: need one number >= 1"),
        ({"channels": 0}, "channels: "),
        ({"blocks": 0}, "blocks: "),
        ({"blocks": 10**12}, "blocks: 10{12} must be at most"),
        ({"dropout": 1.0}, "dropout: "),
        ({"attention": [16]}, "attention: no level has 16 pixels; the levels have 8, 4"),
        ({"attention": [4], "head_channels": 24}, "head_channels: 24 does not divide the 128"),
        ({"head_channels": 0}, "head_channels: "),
        ({"conditions": {"colour": 3}}, "conditions: unknown condition 'colour'"),
        ({"conditions": {"guidance": 2}}, "conditions: guidance is one number"),
        ({"conditions": {"label": 0}}, "conditions: the size of label must be at least 1"),
    ],
)
def test_unet_check(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line) as error:
        UNet.check(UNetConfig(**settings), (1, 8, 8))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("network", "config", "shape", "line"),
    [
        (UNet, UNetConfig(), (2,), "name: unet takes images"),
        (UNet, UNetConfig(), (1, 9, 9), "use at most 1"),
        (MLP, MLPConfig(), (1, 8, 8), "name: mlp takes vectors"),
        (MLP, MLPConfig(width=0), (2,), "width: "),
        (MLP, MLPConfig(depth=0), (2,), "depth: "),
        (MLP, MLPConfig(frequency=-1.0), (2,), "frequency: "),
        (MLP, MLPConfig(conditions={"colour": 3}), (2,), "conditions: "),
        (MLP, MLPConfig(time_scale=0.0), (2,), "^time_scale: 0.0 must be positive and finite"),
        (MLP, MLPConfig(time_scale=math.inf), (2,), "^time_scale: inf must be"),
        (UNet, UNetConfig(time_scale=-1.0), (1, 8, 8), "^time_scale: -1.0 must be"),
        (Classifier, ClassifierConfig(), (2,), "name: classifier takes images"),
        (Classifier, ClassifierConfig(), (1, 64, 64), "name: classifier takes images"),
        (Classifier, ClassifierConfig(members=0), (1, 8, 8), "members: "),
        (Classifier, ClassifierConfig(members=10**12), (1, 8, 8), "members: 10{12} must be at m"),
        (Classifier, ClassifierConfig(dropout=-0.1), (1, 8, 8), "dropout: "),
    ],
)
def test_check(network: Any, config: Any, shape: tuple[int, ...], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        network.check(config, shape)


def test_members_are_independent() -> None:
    members = 3
    network = Classifier(ClassifierConfig(members=members, channels=4, features=6), (1, 8, 8))
    logits = network(torch.randn(BATCH, 1, 8, 8))
    for i in range(members):
        torch.autograd.backward(logits[:, i].square().sum(), retain_graph=True)
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None
            chunks = parameter.grad.chunk(members)
            assert all((chunk.abs().sum() > 0) == (i == j) for j, chunk in enumerate(chunks)), name
        network.zero_grad()


def test_members_equal_separate_classifiers() -> None:
    config = ClassifierConfig(members=3, channels=4, features=6)
    network = Classifier(config, (3, 16, 16)).eval()
    randomize(network)
    x = torch.randn(BATCH, 3, 16, 16)
    alone = Classifier(ClassifierConfig(members=1, channels=4, features=6), (3, 16, 16)).eval()
    for i in range(config.members):
        weights = {name: w.chunk(config.members)[i] for name, w in network.state_dict().items()}
        alone.load_state_dict(weights)
        assert torch.allclose(alone(x)[:, 0], network(x)[:, i], atol=1e-5)
        assert torch.allclose(alone.features(x)[:, 0], network.features(x)[:, i], atol=1e-5)


def test_construction_of_a_classifier_on_the_meta_device() -> None:
    with torch.device("meta"):
        network = Classifier(ClassifierConfig(), (1, 8, 8))
    assert all(tensor.is_meta for tensor in network.state_dict().values())


@pytest.mark.parametrize("kind", ["unet", "mlp", "dit", "uvit"])
def test_construction_on_the_meta_device_and_loading(small: Any, kind: str) -> None:
    with torch.device("meta"):
        network = small(kind, conditions=ALL_CONDITIONS)[0]
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    given, x = small(kind, conditions=ALL_CONDITIONS)
    randomize(given)
    network.to_empty(device="cpu").load_state_dict(given.state_dict())
    arguments = x, torch.rand(BATCH), values(ALL_CONDITIONS)
    assert torch.equal(network(*arguments), given(*arguments))

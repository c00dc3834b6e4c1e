"""StyleGAN2's generator and discriminator: sizes, conditions, derivatives, refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gendiff.networks.discriminator import Discriminator, DiscriminatorConfig
from gendiff.networks.equalized import Mapping
from gendiff.networks.pyramid import sides, widths
from gendiff.networks.stylegan2 import StyleGAN2, StyleGAN2Config

BATCH = 4
TINY: dict[str, Any] = {"channel_base": 256, "max_channels": 6, "mapping_layers": 2}


def critic(side: int = 8, channels: int = 1, out: int = 1, **settings: Any) -> Discriminator:
    """A discriminator of at most 6 channels."""
    return Discriminator(DiscriminatorConfig(**{**TINY, **settings}), (channels, side, side), out)


def generator(side: int = 8, channels: int = 1, **settings: Any) -> StyleGAN2:
    """A generator of at most 6 channels, with a latent of 5 numbers."""
    config = StyleGAN2Config(**{**TINY, "style": 7, "conditions": {"z": 5}, **settings})
    return StyleGAN2(config, (channels, side, side), channels)


def everything() -> list[nn.Module]:
    """Both networks with all that they can take."""
    conditions = {"label": 3}
    return [critic(time=True, conditions=conditions), generator(conditions={"z": 5, **conditions})]


def inputs(side: int = 8, channels: int = 1, batch: int = BATCH) -> tuple[Tensor, Tensor, Any]:
    """What both networks are called on."""
    cond = {"z": torch.randn(batch, 5), "label": torch.arange(batch) % 3}
    return torch.randn(batch, channels, side, side), torch.rand(batch), cond


def test_a_batch_split_in_multiples_of_four_gives_the_same_logits() -> None:
    network = critic().double()
    x, noise_level, _ = inputs(batch=12)
    x = x.double()
    whole = network(x, noise_level, {})
    parts = torch.cat([network(part, noise_level, {}) for part in x.split([4, 8])])
    assert torch.allclose(whole, parts, rtol=1e-12)
    swapped = network(x[[0, 1, 2, 4, 3, *range(5, 12)]], noise_level, {})
    assert (swapped - whole)[:3].abs().min() > 1e-9
    assert torch.allclose(swapped[8:], whole[8:], rtol=1e-12)


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (32, 3), (64, 2)])
def test_shapes(side: int, channels: int) -> None:
    x, noise_level, cond = inputs(side, channels)
    images = generator(side, channels)(x, noise_level, cond)
    assert images.shape == x.shape
    assert images.is_contiguous()
    pairs = torch.cat([images, x], 1)
    logits = critic(side, 2 * channels, 2, time=True)(pairs, noise_level, cond)
    assert logits.shape == (BATCH, 2)


def test_images_of_256_pixels_without_memory() -> None:
    with torch.device("meta"):
        x, noise_level = torch.empty(4, 3, 256, 256), torch.empty(4)
        images = StyleGAN2(StyleGAN2Config(), (3, 256, 256), 3)(
            x, noise_level, {"z": torch.empty(4, 512)}
        )
        logits = Discriminator(DiscriminatorConfig(), (3, 256, 256), 1)(images, noise_level, {})
    assert images.shape == x.shape
    assert logits.shape == (4, 1)


@pytest.mark.parametrize(
    ("channel_base", "channels"),
    [
        (16384, {32: 512, 16: 512, 8: 512, 4: 512}),
        (32768, {64: 512, 32: 512, 16: 512, 8: 512, 4: 512}),
        (32768, {256: 128, 128: 256, 64: 512, 32: 512, 16: 512, 8: 512, 4: 512}),
    ],
    ids=["cifar10", "celeba", "lsun"],
)
def test_channels_of_truncated_diffusion(channel_base: int, channels: dict[int, int]) -> None:
    side = max(channels)
    config = DiscriminatorConfig(channel_base=channel_base)
    assert dict(zip(sides(side), widths(config, side), strict=True)) == channels
    with torch.device("meta"):
        network = Discriminator(config, (3, side, side), 1)
    built = [block.conv1.weight.shape[0] for block in network.blocks]  # type: ignore[union-attr]
    assert [*built, network.dense.weight.shape[0]] == list(channels.values())


def size(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_counts_are_those_that_the_authors_code_prints() -> None:
    with torch.device("meta"):
        down = Discriminator(DiscriminatorConfig(channel_base=32768), (3, 256, 256), 1)
        up = StyleGAN2(StyleGAN2Config(channel_base=32768), (3, 256, 256), 3)
    blocks: Any = down.blocks
    assert [size(part) for part in blocks[0].children()] == [147584, 295168, 32768]
    assert [size(part) for part in blocks[1].children()] == [590080, 1180160, 131072]
    assert [size(part) for part in blocks[2].children()] == [2359808, 2359808, 262144]
    assert [size(layer) for layer in up.mapping.layers] == [262656] * 8
    # Theirs have one more number, the strength of the noise.
    assert size(up.first) + 1 == size(up.grow[0]) + 1 == size(up.convs[0]) + 1 == 2622465
    assert [size(up.grow[4]) + 1, size(up.convs[4]) + 1] == [1442561, 721409]
    assert [size(up.grow[5]) + 1, size(up.convs[5]) + 1] == [426369, 213249]
    assert [size(up.to_rgb[i]) for i in (0, 5, 6)] == [264195, 132099, 66051]
    assert up.constant.numel() == 8192


@pytest.mark.parametrize("index", [0, 1], ids=["discriminator", "stylegan2"])
@pytest.mark.parametrize("name", ["z", "label", "noise_level", "x"])
def test_what_changes_the_output(index: int, name: str) -> None:
    network = everything()[index].double()
    reads = [{"x", "noise_level", "label"}, {"z", "label"}][index]
    x, noise_level, cond = inputs()
    x, cond["z"] = x.double(), cond["z"].double()
    before = network(x, noise_level, cond)
    if name == "z":
        cond["z"] = cond["z"].flip(1)
    elif name == "label":
        cond["label"] = (cond["label"] + 1) % 4
    elif name == "noise_level":
        noise_level = 1 - noise_level
    else:
        x = x.flip(2)
    change = (network(x, noise_level, cond) - before).flatten(1).abs().amax(1)
    assert change.min() > 1e-6 if name in reads else torch.all(change == 0)


def test_no_randomness_of_its_own() -> None:
    network = generator()
    x, noise_level, cond = inputs()
    state = torch.get_rng_state()
    assert torch.equal(network(x, noise_level, cond), network(x, noise_level, cond))
    assert torch.equal(torch.get_rng_state(), state)


def test_each_image_is_a_function_of_its_own_latent() -> None:
    network = everything()[1].double()
    x, noise_level, cond = inputs()
    cond["z"] = cond["z"].double()
    whole = network(x, noise_level, cond)
    alone = network(x[2:3], noise_level[2:3], {name: value[2:3] for name, value in cond.items()})
    assert torch.allclose(alone, whole[2:3], rtol=1e-10)
    louder = network(x, noise_level, {**cond, "z": 3 * cond["z"]})  # z is normalised
    assert torch.allclose(louder, whole, rtol=1e-5)


def test_the_scale_of_a_style_counts_in_the_image_layers_alone() -> None:
    network = everything()[1].double()
    x, noise_level, cond = inputs()
    cond["z"] = cond["z"].double()
    before = network(x, noise_level, cond)
    for name, parameter in network.named_parameters():
        if "affine" in name:
            parameter.data *= 2 if name.startswith("to_rgb") else 3
    assert torch.allclose(network(x, noise_level, cond), 2 * before, rtol=1e-5)


@pytest.mark.parametrize("index", [0, 1], ids=["discriminator", "stylegan2"])
def test_null_label_is_a_missing_label(index: int) -> None:
    network = everything()[index]
    x, noise_level, cond = inputs()
    null = network(x, noise_level, {**cond, "label": torch.full((BATCH,), 3)})
    assert torch.equal(null, network(x, noise_level, {"z": cond["z"]}))


def test_labels_enter_the_discriminator_by_projection() -> None:
    network = critic(out=2, conditions={"label": 3})
    rows: list[Tensor] = []
    network.output.register_forward_hook(lambda module, given, out: rows.append(out))
    axis = math.sqrt(6) * torch.eye(6)[:BATCH]
    assert isinstance(network.mapping, Mapping)
    network.mapping.register_forward_hook(lambda module, given, out: axis)
    logits = network(*inputs())
    expected = rows[0].view(BATCH, 2, 6)[range(BATCH), :, range(BATCH)]
    assert torch.allclose(logits, expected)


@pytest.mark.parametrize("index", [0, 1], ids=["discriminator", "stylegan2"])
def test_all_parameters_learn(index: int) -> None:
    network = everything()[index]
    torch.autograd.backward(network(*inputs()).square().sum())
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def penalty(network: nn.Module, x: Tensor, noise_level: Tensor, cond: Any) -> Tensor:
    """R1: the mean over samples of |d logit / dx|^2, with its graph."""
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(network(x, noise_level, cond).sum(), x, create_graph=True)
    return slope.square().flatten(1).sum(1).mean()


def test_r1_double_backward_is_right() -> None:
    network = everything()[0].double()
    x, noise_level, cond = inputs(batch=8)
    parameters = dict(network.named_parameters())
    steps = {name: torch.randn_like(p) for name, p in parameters.items()}
    arguments = (x.double(), noise_level.double(), cond)
    torch.autograd.backward(penalty(network, *arguments))
    slope = sum(
        (p.grad * steps[name]).sum() for name, p in parameters.items() if p.grad is not None
    )
    values, tiny = [], 1e-6
    for sign in (1, -2):  # to +tiny, then back to -tiny
        with torch.no_grad():
            for name, p in parameters.items():
                p += sign * tiny * steps[name]
        values.append(penalty(network, *arguments).item())
    assert float(slope) == pytest.approx((values[0] - values[1]) / (2 * tiny), rel=1e-5)


@pytest.mark.parametrize("batch", [4, 3])
def test_both_derivatives_by_the_image(batch: int) -> None:
    network = critic(max_channels=2, time=True).double().requires_grad_(False)
    x, noise_level = torch.randn(batch, 1, 8, 8).double().requires_grad_(), torch.rand(batch)

    def logits(x: Tensor) -> Tensor:
        return network(x, noise_level.double(), {})

    assert torch.autograd.gradcheck(logits, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(logits, x, fast_mode=True)


@pytest.mark.parametrize("index", [0, 1], ids=["discriminator", "stylegan2"])
def test_bfloat16(index: int) -> None:
    network = everything()[index]
    arguments = inputs()
    exact = network(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(*arguments)
        torch.autograd.backward(rough.float().square().mean())
    assert rough.dtype == torch.bfloat16
    assert rough.isfinite().all()
    assert (rough - exact).norm() < 0.05 * exact.norm()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_construction_on_the_meta_device() -> None:
    with torch.device("meta"):
        empty = everything()
    arguments = inputs()
    for network, given in zip(empty, everything(), strict=True):
        assert all(tensor.is_meta for tensor in network.state_dict().values())
        network.to_empty(device="cpu").load_state_dict(given.state_dict())
        assert torch.equal(network(*arguments), given(*arguments))


@pytest.mark.parametrize("network", [Discriminator, StyleGAN2])
@pytest.mark.parametrize(
    ("settings", "shape", "line"),
    [
        ({}, (2,), "name: .* takes square images of 8, 16, 32, 64, 128 or 256 pixels, not shape"),
        ({}, (3, 8, 16), "name: .* not shape \\(3, 8, 16\\)$"),
        ({}, (3, 28, 28), "name: .* not shape \\(3, 28, 28\\)$"),
        ({}, (3, 4, 4), "name: "),
        ({}, (3, 512, 512), "name: "),
        ({"channel_base": 63}, (3, 64, 64), "channel_base: 63 leaves no channel at 64 pixels"),
        ({"max_channels": 0}, (1, 8, 8), "max_channels: must be at least 1, not 0"),
        ({"mapping_layers": 0}, (1, 8, 8), "mapping_layers: 0 must be at least 1"),
        ({"mapping_layers": 10**12}, (1, 8, 8), "mapping_layers: 10{12} must be at most"),
        ({"conditions": {"guidance": 1}}, (1, 8, 8), "conditions: .* takes .*label, not guidance"),
        ({"conditions": {"label": 0}}, (1, 8, 8), "conditions: the size of label must be at least"),
    ],
)
def test_check(network: Any, settings: Any, shape: tuple[int, ...], line: str) -> None:
    with pytest.raises(ValueError, match=f"^{line}") as error:
        network(network.Config(**settings), shape, 1)
    assert "\n" not in str(error.value)


def test_refusals_of_one_network() -> None:
    with pytest.raises(ValueError, match=r"^style: must be at least 1, not 0"):
        generator(style=0)
    with pytest.raises(ValueError, match=r"^conditions: stylegan2 makes images of z"):
        generator(conditions={"label": 3})
    with pytest.raises(ValueError, match=r"^conditions: discriminator takes label, not z"):
        critic(conditions={"z": 5})
    with pytest.raises(ValueError, match=r"^z: the network needs this condition, but got label"):
        generator()(*inputs()[:2], {"label": torch.zeros(BATCH)})

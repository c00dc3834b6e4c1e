"""Every method trains every backbone: finite losses, and a gradient everywhere it learns."""

from __future__ import annotations

import pytest
import torch
from table import TRAINED, class_of, conditions_of, config_of

from gendiff.denoiser import Denoiser
from gendiff.networks.dit import DiT, DiTConfig
from gendiff.networks.unet import UNet, UNetConfig
from gendiff.networks.uvit import UViT, UViTConfig
from gendiff.paths import Linear
from gendiff.seeding import Draws

SHAPE, BATCH = (1, 8, 8), 4
TINY = {
    UNet: UNetConfig(channels=8, multipliers=[1, 2], attention=[4], head_channels=8),
    DiT: DiTConfig(patch=4, width=16, depth=2, heads=2),
    UViT: UViTConfig(patch=4, width=16, depth=3, heads=2),
}
CASES = [case for case in TRAINED if class_of(case).samplers]


def backbone(kind, channels, **conditions):
    settings = {**vars(TINY[kind]), "conditions": {**conditions, "label": 3}}
    network = kind(type(TINY[kind])(**settings), (channels[0], *SHAPE[1:]), channels[1])
    for parameter in network.parameters():  # zeros of the start would hide what is not reached
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    return network


def method_of(case, kind):
    torch.manual_seed(0)
    config = config_of(case, labelled=True)
    cls, networks, frozen = class_of(case, config), {}, {}
    for role in cls.roles:
        conditions = conditions_of(cls, role, config)
        network = backbone(kind, cls.channels(role, SHAPE, config), **conditions)
        if role in cls.frozen:
            frozen[role] = Denoiser(network, Linear(), "v")
        else:
            networks[role] = network
    return cls(config, networks, Linear(), frozen, shape=SHAPE, classes=3, max_steps=4)


@pytest.mark.parametrize("kind", TINY, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("case", CASES)
def test_every_method_trains_every_backbone(case, kind):
    method = method_of(case, kind)
    x0, eps = torch.randn(2, BATCH, *SHAPE)
    batch = {"x0": x0, "eps": eps, "label": torch.arange(BATCH) % 3}
    for role in method.learning:
        for other in method.learning:
            method.networks[other].requires_grad_(other == role)
        method.draw = Draws((0, "test", role), 0, BATCH, 1)
        loss = method.loss(batch, role)["loss"]
        assert loss.isfinite()
        loss.backward()
        slopes = [p.grad for p in method.networks[role].parameters()]
        assert all(slope is not None and slope.isfinite().all() for slope in slopes), role
    steps = (method.steps_range(method.config) or (1, 1))[1]
    sampled = method.sample(2, steps, labels=torch.tensor([0, 2]))
    assert sampled.shape == (2, *SHAPE)
    assert sampled.isfinite().all()

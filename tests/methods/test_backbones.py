"""Every method trains every backbone: finite losses, and a gradient everywhere it learns."""

from __future__ import annotations

import pytest
import torch
from small import CONFIGS, JUDGED

from gendiff.denoiser import Denoiser
from gendiff.methods.distribution_matching import DistributionMatching
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
CASES = [*CONFIGS.items(), (DistributionMatching, JUDGED)]


def backbone(kind, channels, **conditions):
    settings = {**vars(TINY[kind]), "conditions": {**conditions, "label": 3}}
    network = kind(type(TINY[kind])(**settings), (channels[0], *SHAPE[1:]), channels[1])
    for parameter in network.parameters():  # zeros of the start would hide what is not reached
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    return network


def method_of(cls, config, kind):
    torch.manual_seed(0)
    cls = cls.variant(config)
    networks, frozen = {}, {}
    for role in cls.roles:
        conditions = {"z": config.latent} if role == "generator" else {}
        if "flow_map" in cls.samplers or (role == "fake" and config.student_steps > 1):
            conditions = {"second_time": 1}
        network = backbone(kind, cls.channels(role, SHAPE, config), **conditions)
        if role in cls.frozen:
            frozen[role] = Denoiser(network, Linear(), "v")
        else:
            networks[role] = network
    return cls(config, networks, Linear(), frozen, shape=SHAPE, classes=3, max_steps=4)


@pytest.mark.parametrize("kind", TINY, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("cls", "config"), CASES, ids=lambda x: getattr(x, "__name__", ""))
def test_every_method_trains_every_backbone(cls, config, kind):
    method = method_of(cls, config, kind)
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
    sampled = method.sample(
        2, (method.steps_range(config) or (1, 1))[1], labels=torch.tensor([0, 2])
    )
    assert sampled.shape == (2, *SHAPE)
    assert sampled.isfinite().all()

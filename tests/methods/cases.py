"""Methods as several processes train them: every case of the table, and what else mixes."""

from __future__ import annotations

from functools import partial

import torch
from small import make, poison
from table import TRAINED

from gendiff.methods.denoising_gan import DenoisingGANConfig
from gendiff.methods.diffusion import DiffusionConfig
from gendiff.methods.mean_flow import MeanFlowConfig
from gendiff.methods.truncated import Truncated, TruncatedConfig
from gendiff.networks.discriminator import Discriminator, DiscriminatorConfig
from gendiff.networks.unet import UNet, UNetConfig


def images(**settings):
    """Networks for images: weights channels last, and a critic that compares neighbours."""
    torch.manual_seed(0)
    networks = {
        "student": UNet(UNetConfig(channels=8, multipliers=[1]), (1, 8, 8), 1),
        "critic": Discriminator(DiscriminatorConfig(64, 8, time=True), (1, 8, 8), 1),
    }
    config = TruncatedConfig(truncation=0.3, penalty_every=2)
    return make(Truncated, config=config, networks=networks, shape=(1, 8, 8), **settings)


def spoilt(case, role, batches, **settings):
    method = make(case, **settings)
    poison(method, role, batches)
    return method


PENALTIES = {"r1_gamma": 0.5, "r2_gamma": 0.5, "gradient_penalty": 0.5, "penalty_every": 3}
PENALISED = DenoisingGANConfig(latent=2, **PENALTIES)
SPOILT = {
    "consistency lagging": ("student", {1, 3}, {"accumulate": 2}),
    "denoising_gan": ("critic", {2, 3}, {"clip": 0.5, "accumulate": 2}),
    "diffusion": ("student", {1, 5}, {"clip": 0.5, "accumulate": 2}),
    "distribution_matching judged": ("student", {3, 5}, {}),
    "shortcut": ("student", {2, 3}, {"accumulate": 4}),
    "truncated_plus": ("generator", {0, 4}, {"name": "radam"}),
}
CASES = {
    **{case: partial(make, case, clip=0.5, accumulate=2) for case in TRAINED if case not in SPOILT},
    **{f"{case} nan": partial(spoilt, case, *how[:2], **how[2]) for case, how in SPOILT.items()},
    "diffusion importance": partial(
        make, "diffusion", config=DiffusionConfig(times="importance"), accumulate=2
    ),
    "diffusion antithetic": partial(make, "diffusion", config=DiffusionConfig(times="antithetic")),
    "gan penalties": partial(make, "denoising_gan", config=PENALISED),
    "mean_flow apart": partial(make, "mean_flow", config=MeanFlowConfig(apart=0.6), accumulate=2),
    "truncated free": partial(
        make, "truncated", config=TruncatedConfig(truncation=0.3, r1_gamma=0.0)
    ),
    "truncated images": partial(images, accumulate=2),
}
"""Name -> what makes it; settings of `make`, such as ``max_steps``, on top."""

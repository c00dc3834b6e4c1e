"""Small methods, trained for a few batches, with losses spoilt where a test wants them to be."""

from __future__ import annotations

import logging
import math
import warnings

import torch
from lightning.pytorch import Trainer

from gendiff.data.base import DataModule, Rows
from gendiff.denoiser import Denoiser
from gendiff.methods.denoising_gan import DenoisingGAN, DenoisingGANConfig
from gendiff.methods.diffusion import Diffusion, DiffusionConfig
from gendiff.methods.flow import Flow, FlowConfig
from gendiff.methods.online_reflow import OnlineReflow, OnlineReflowConfig
from gendiff.methods.pair_distillation import PairDistillation, PairDistillationConfig
from gendiff.methods.reflow import Reflow, ReflowConfig
from gendiff.methods.truncated import (
    Truncated,
    TruncatedConfig,
    TruncatedPlus,
    TruncatedPlusConfig,
)
from gendiff.networks.mlp import MLP, MLPConfig
from gendiff.optim import OptimConfig
from gendiff.paths import VP

STEPS, BATCH = 6, 16
CONFIGS = {
    Diffusion: DiffusionConfig(),
    DenoisingGAN: DenoisingGANConfig(latent=2, penalty_every=2),
    Flow: FlowConfig(coupling="optimal", coupling_size=4, straightness_every=3),
    Reflow: ReflowConfig(times="u_shaped", loss="pseudo_huber"),
    OnlineReflow: OnlineReflowConfig(solver_steps=3),
    PairDistillation: PairDistillationConfig(),
    Truncated: TruncatedConfig(truncation=0.3, penalty_every=2),
    TruncatedPlus: TruncatedPlusConfig(truncation=0.3, latent=2, penalty_every=2),
}


def make(cls, name="adam", clip=0.0, accumulate=1, config=None, networks=None, **settings):
    """A method with fresh networks, the same in every call; for points unless told otherwise."""
    torch.manual_seed(0)
    config, small = config or CONFIGS[cls], {}
    for role in () if networks else cls.roles:
        channels, out = cls.channels(role, (2,), config)
        conditions = {"z": config.latent} if role == "generator" else {}
        small[role] = MLP(MLPConfig(16, 1, conditions=conditions), (channels,), out)
    frozen = {role: Denoiser(small.pop(role), VP(), "v") for role in cls.frozen}
    optim = OptimConfig(name, lr=0.01, clip_norm=clip, weight_decay=0.1)
    settings = {"shape": (2,), "max_steps": STEPS, "accumulate": accumulate, **settings}
    return cls(config, networks or small, VP(), frozen, optim, **settings)


def fit(method, *callbacks, **settings):
    """Train in a plain Trainer; returns the states of the optimizers."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    generator = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(40, *method.shape, generator=generator) for _ in range(2))
    data = Rows(x0=x0, eps=eps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(
            max_epochs=1,
            accelerator="cpu",
            callbacks=[*callbacks],
            enable_checkpointing=False,
            use_distributed_sampler=False,
            **quiet,
            **settings,
        )
        trainer.fit(method, DataModule(data, BATCH))
    assert method.batches_done == STEPS
    return [optimizer.state_dict()["state"] for optimizer in trainer.optimizers]


def total(method, role, what):
    return sum(what(p - p.detach()).sum() for p in method.networks[role].parameters())


POISONS = {
    "nan": lambda method, role, loss: loss * math.nan,
    # a finite loss without finite slopes: the root of 0; and slopes that are all infinite
    "slope": lambda method, role, loss: loss + total(method, role, torch.square).sqrt(),
    "inf": lambda method, role, loss: loss + total(method, role, lambda zero: zero * math.inf),
}


def poison(method, role, batches, kind="nan"):
    """Spoil a role's loss in these batches, in the last of their parts, on the last rank."""
    plain, calls = method.loss, []

    def loss(batch, asked):
        losses = plain(batch, asked)
        calls.append((method.batches_done, asked))
        last = calls.count(calls[-1]) == method.accumulate
        last = last and method.global_rank == method.trainer.world_size - 1
        if asked == role and method.batches_done in batches and last:
            losses["loss"] = POISONS[kind](method, role, losses["loss"])
        return losses

    method.loss = loss

"""Small methods, trained for a few batches, with losses spoilt where a test wants them to be."""

from __future__ import annotations

import logging
import math
import warnings

import torch
from lightning.pytorch import Trainer
from torch import nn

from gendiff.data.base import DataModule, Rows
from gendiff.data.toy import Mixture
from gendiff.denoiser import Denoiser
from gendiff.methods.consistency import Consistency, ConsistencyConfig
from gendiff.methods.consistency_training import ConsistencyTraining, ConsistencyTrainingConfig
from gendiff.methods.continuous_consistency import (
    ContinuousConsistency,
    ContinuousConsistencyConfig,
    ContinuousConsistencyTraining,
    ContinuousConsistencyTrainingConfig,
)
from gendiff.methods.denoising_gan import DenoisingGAN, DenoisingGANConfig
from gendiff.methods.diffusion import Diffusion, DiffusionConfig
from gendiff.methods.distribution_matching import DistributionMatching, DistributionMatchingConfig
from gendiff.methods.easy_consistency import EasyConsistency, EasyConsistencyConfig
from gendiff.methods.flow import Flow, FlowConfig
from gendiff.methods.mean_flow import MeanFlow, MeanFlowConfig
from gendiff.methods.online_reflow import OnlineReflow, OnlineReflowConfig
from gendiff.methods.pair_distillation import PairDistillation, PairDistillationConfig
from gendiff.methods.progressive import Progressive, ProgressiveConfig
from gendiff.methods.reflow import Reflow, ReflowConfig
from gendiff.methods.score_identity import ScoreIdentity, ScoreIdentityConfig
from gendiff.methods.shortcut import Shortcut, ShortcutConfig
from gendiff.methods.truncated import (
    Truncated,
    TruncatedConfig,
    TruncatedPlus,
    TruncatedPlusConfig,
)
from gendiff.metrics import energy_distance
from gendiff.networks.mlp import MLP, MLPConfig
from gendiff.optim import OptimConfig
from gendiff.paths import VP, Cosine
from gendiff.predictions import Prediction

STEPS, BATCH = 6, 16
JUDGED = DistributionMatchingConfig(fake_batches=2, student_steps=2, adversarial_weight=0.3)
CONFIGS = {
    Diffusion: DiffusionConfig(),
    Progressive: ProgressiveConfig(student_steps=4),
    Consistency: ConsistencyConfig(intervals=8, first_intervals=2, solver="heun_x0"),
    ConsistencyTraining: ConsistencyTrainingConfig(
        intervals=16, first_intervals=4, weight="uniform"
    ),
    EasyConsistency: EasyConsistencyConfig(stages=3, times_mean=1.0, times_std=0.5),
    ContinuousConsistency: ContinuousConsistencyConfig(tangent_warmup=4),
    ContinuousConsistencyTraining: ContinuousConsistencyTrainingConfig(tangent_warmup=4),
    DenoisingGAN: DenoisingGANConfig(latent=2, penalty_every=2),
    ScoreIdentity: ScoreIdentityConfig(),
    DistributionMatching: DistributionMatchingConfig(fake_batches=2),
    MeanFlow: MeanFlowConfig(),
    Shortcut: ShortcutConfig(),
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
    config, small, path = config or CONFIGS[cls], {}, settings.pop("path", VP())
    cls = cls.variant(config)
    for role in () if networks else cls.roles:
        channels, out = cls.channels(role, (2,), config)
        conditions = {"z": config.latent} if role == "generator" else {}
        if "flow_map" in cls.samplers or (role == "fake" and config.student_steps > 1):
            conditions = {"second_time": 1}
        small[role] = MLP(MLPConfig(16, 1, conditions=conditions), (channels,), out)
    frozen = {role: Denoiser(small.pop(role), VP(), "v") for role in cls.frozen if role in small}
    frozen = settings.pop("frozen", frozen)
    optim = OptimConfig(name, lr=0.01, clip_norm=clip, weight_decay=0.1)
    settings = {"shape": (2,), "max_steps": STEPS, "accumulate": accumulate, **settings}
    return cls(config, networks or small, path, frozen, optim=optim, **settings)


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


class Perfect:
    """The exact consistency function of a Gaussian of mean (0.4, -0.3), on any path.

    The flow keeps how many standard deviations x_t is from its mean.
    """

    mean, std = torch.tensor([0.4, -0.3], dtype=torch.float64), 0.3

    def __init__(self, path):
        self.path = path

    def __call__(self, xt, t, cond=None):
        a, s = self.path.alpha(t)[:, None], self.path.sigma(t)[:, None]
        x0 = self.mean + self.std * (xt - a * self.mean) / ((a * self.std) ** 2 + s**2).sqrt()
        return Prediction(x0, "x0", xt, t, self.path)


class Tuned(nn.Module):
    """v on the cosine path of a mixture's exact denoiser, and what is learned on top."""

    def __init__(self, mixture):
        super().__init__()
        self.mixture, self.path, self.mlp = mixture, Cosine(), MLP(MLPConfig(64, 3), (2,), 2)
        nn.init.zeros_(self.mlp.output.weight)
        nn.init.zeros_(self.mlp.output.bias)

    def forward(self, x, level, cond):
        a, s = self.path.alpha(level)[:, None], self.path.sigma(level)[:, None]
        x0 = self.mixture.denoiser(self.path)(x, level).x0
        eps = -s * self.mixture.score(x, self.path, level)
        return a * eps - s * x0 + self.mlp(x, level, cond)


def learn(cls, config, path, teacher=None, *steps, tuned=False, batches=150, lr=5e-3):
    """Energy distance to a mixture, sampled in so many steps each, after a short training.

    Args:
        teacher: path of the exact denoiser that is distilled.
        tuned: whether the student starts from diffusion, here from the exact denoiser.
    """
    truth, found = Mixture(Mixture.Config()), []
    torch.manual_seed(0)
    fresh = (lambda: Tuned(truth.mixture)) if tuned else lambda: MLP(MLPConfig(64, 3), (2,), 2)
    networks = {role: fresh() for role in cls.roles if role not in cls.frozen}
    optim = OptimConfig("adam", lr, warmup_steps=20, schedule="cosine", ema_decay=0.98)
    method = cls(config, networks, path, None, optim, shape=(2,), max_steps=batches)
    if teacher is not None:
        method.teacher = truth.mixture.denoiser(teacher)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(max_epochs=1, accelerator="cpu", enable_checkpointing=False, **quiet)
        trainer.fit(method, DataModule(truth.train, 256))
    points = truth.held_out.columns["x0"]
    for count in steps:
        found.append(energy_distance(method.sample(len(points), count), points))
    return max(map(float, found))


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

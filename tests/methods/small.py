"""Small methods, trained for a few batches, with losses spoilt where a test wants them to be."""

from __future__ import annotations

import logging
import math
import warnings

import torch
from lightning.pytorch import Trainer
from table import class_of, conditions_of, config_of
from torch import nn

from gendiff.data.base import DataModule, Rows
from gendiff.data.toy import Mixture
from gendiff.denoiser import Denoiser
from gendiff.metrics import energy_distance
from gendiff.networks.classifier import Classifier, ClassifierConfig
from gendiff.networks.mlp import MLP, MLPConfig
from gendiff.optim import OptimConfig
from gendiff.paths import VP, Cosine
from gendiff.predictions import Prediction

STEPS, BATCH = 6, 16
JUDGED = config_of("distribution_matching judged")


def network(cls, role, config, shape, classes):
    """A small one for a role."""
    if cls.extracts:
        config = ClassifierConfig(members=2, channels=4, features=8, classes=classes, dropout=0.0)
        return Classifier(config, shape)
    channels, out = cls.channels(role, shape, config)
    conditions = conditions_of(cls, role, config, classes)
    return MLP(MLPConfig(width=16, depth=1, conditions=conditions), (channels,), out)


def make(method, name="adam", clip=0.0, accumulate=1, config=None, networks=None, **settings):
    """A method with fresh networks, the same in every call; for points unless told otherwise.

    Args:
        method: its class, or a case of the table.
    """
    torch.manual_seed(0)
    case = method if isinstance(method, str) else method.Config.name
    classes, small, path = settings.pop("classes", 0), {}, settings.pop("path", VP())
    config = config or config_of(case, bool(classes))
    cls = class_of(case, config)
    if cls.extracts:
        settings, classes = {"shape": (1, 8, 8), **settings}, 3
    shape = settings.pop("shape", (2,))
    for role in () if networks else cls.roles:
        small[role] = network(cls, role, config, shape, classes)
    frozen = {role: Denoiser(small.pop(role), VP(), "v") for role in cls.frozen if role in small}
    frozen = settings.pop("frozen", frozen)
    optim = OptimConfig(name, lr=0.01, clip_norm=clip, weight_decay=0.1)
    settings = {"optim": optim, "max_steps": STEPS, "accumulate": accumulate, **settings}
    return cls(config, networks or small, path, frozen, shape=shape, classes=classes, **settings)


def fit(method, *callbacks, batch=BATCH, **settings):
    """Train in a plain Trainer, on global batches of that size; returns the optimizers' states."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    generator = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(40, *method.shape, generator=generator) for _ in range(2))
    data = Rows(x0=x0, eps=eps, label=torch.randint(3, (40,), generator=generator))
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
        trainer.fit(method, DataModule(data, batch))
    assert method.batches_done == method.max_steps
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
        self.mixture, self.path, self.mlp = (
            mixture,
            Cosine(),
            MLP(MLPConfig(width=32, depth=2), (2,), 2),
        )
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
    fresh = (
        (lambda: Tuned(truth.mixture))
        if tuned
        else lambda: MLP(MLPConfig(width=32, depth=2), (2,), 2)
    )
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

"""Truths for flow maps: that of one Gaussian as a network, that of a mixture for short trainings.

Points keep their distance from the mean in standard deviations: x_s = a_s m + v_s / v_t (x_t - a_t
m) with v^2 = a^2 std^2 + sigma^2; std = 0 is a single point.
"""

from __future__ import annotations

import logging
import math
import warnings

import torch
from lightning.pytorch import Trainer
from torch import nn

from gendiff.build import build_method
from gendiff.config import compose
from gendiff.data.base import DataModule
from gendiff.data.toy import Mixture
from gendiff.metrics import energy_distance
from gendiff.paths import VP, Cosine, Linear, Trig, expand
from gendiff.seeding import Draws, sample_noise

MEAN, STD = [0.4, -0.7], 0.3
UNIT = [VP(), Cosine(), Linear(), Trig(0.7)]


def moments(path, t, std):
    a, s = path.alpha(t), path.sigma(t)
    return a, (a**2 * std**2 + s**2).sqrt()


def exact_map(path, x, t, s, std):
    """x, (B, 2), at times t, (B,), carried to s."""
    mean = torch.tensor(MEAN, dtype=x.dtype)
    (a, v), (b, w) = (moments(path, time, std) for time in (t, s))
    return expand(b, x) * mean + expand(w / v, x) * (x - expand(a, x) * mean)


def exact_velocity(path, x, t, std):
    """dx/dt there, for t > 0."""
    a, v = moments(path, t, std)
    slope = (a * path.d_alpha(t) * std**2 + path.sigma(t) * path.d_sigma(t)) / v**2
    mean = torch.tensor(MEAN, dtype=x.dtype)
    return expand(path.d_alpha(t), x) * mean + expand(slope, x) * (x - expand(a, x) * mean)


class ExactMap(nn.Module):
    """Puts out the exact mean velocity, times ``scale`` (1), which can learn."""

    def __init__(self, path, std):
        super().__init__()
        self.path, self.std = path, std
        self.scale = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def time(self, level):
        angle = level * (math.pi / 2)
        cosine = angle.cos().clamp(min=1e-30)  # in single precision it may be below 0
        return self.path.inverse_log_snr(2 * (cosine.log() - angle.sin().log()))

    def forward(self, x, level, cond):
        t, s = self.time(level), self.time(cond["second_time"])
        met = (t - s).abs() < 1e-6
        apart = torch.where(met, 1.0, t - s)
        u = (x - exact_map(self.path, x, t, s, self.std)) / expand(apart, x)
        return self.scale * torch.where(
            expand(met, x), exact_velocity(self.path, x, t, self.std), u
        )


class Double(Draws):
    """Draws in double precision."""

    def normal(self, *shape):
        return super().normal(*shape, dtype=torch.float64)

    def uniform(self, *shape):
        return super().uniform(*shape, dtype=torch.float64)


def data(n, std):
    """A batch of the Gaussian's points."""
    x0 = torch.tensor(MEAN, dtype=torch.float64) + std * torch.randn(n, 2, dtype=torch.float64)
    return {"x0": x0}


def learn(steps, time_scale=1000.0, **method):
    """A method after a short training on the mixture, on the linear path."""
    network = {"name": "mlp", "width": 64, "depth": 2, "conditions": {"second_time": 1}}
    network["time_scale"] = time_scale
    run = compose(
        {
            "data": {"name": "mixture", "batch_size": 256},
            "networks": {"student": network},
            "path": {"name": "linear"},
            "method": method,
            "optim": {"lr": 4e-3, "warmup_steps": 20, "schedule": "cosine", "ema_decay": 0.98},
            "trainer": {"max_steps": steps},
        },
        "test",
    )
    learned = build_method(run)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(max_epochs=1, accelerator="cpu", enable_checkpointing=False, **quiet)
        trainer.fit(learned, DataModule(Mixture(run.data).train, run.data.batch_size))
    return learned


def figures(method, steps, sampler="flow_map"):
    """Energy distance to unseen data, and the mean distance to the exact map of the same noise."""
    data = Mixture(Mixture.Config())
    out = method.sample(1000, steps, sampler=sampler)
    noise = sample_noise(0, 0, 200, (2,), torch.device("cpu"))(-1)
    exact = data.mixture.flow_map(method.path, noise, method.path.t_max, 0.0)
    points = data.held_out.columns["x0"][:1000]
    return float(energy_distance(out, points)), float((out[:200] - exact).norm(dim=1).mean())

"""Shortcut models: a long step is learned as the mean of the two half as long that make it.

Frans, Hafner, Levine & Abbeel, "One Step Diffusion via Shortcut Models", ICLR 2025, Algorithm 1.
Their t runs from noise to data: it is our 1 - t, and their shortcut s(x, t, d) our -u(x_t, t - d,
t). Their smallest step is asked for as d = 0; here it is a shortcut too, of two half as long that
are asked for as 0. Times of flow matching are uniform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gendiff.denoiser import Condition
from gendiff.errors import check_count
from gendiff.loss_weights import mean_square
from gendiff.methods.base import Batch, MethodConfig
from gendiff.methods.flow_map import FlowMap, FlowMapMethod
from gendiff.papers import Paper, cites
from gendiff.paths import Path, expand
from gendiff.predictions import Kind
from gendiff.samplers import MOST_STEPS
from gendiff.sampling import Sampling
from gendiff.training_times import at_share, check_even_times


@dataclass(frozen=True)
class ShortcutConfig(MethodConfig):
    name: str = "shortcut"
    prediction: Kind = "velocity"
    """What the student's output means; nothing else will do."""
    finest: int = 128
    """Steps of the finest grid that shortcuts are learned for, a power of two."""
    consistent: float = 0.25
    """Share of samples that learn shortcuts from shorter ones; the others are flow matching."""
    label_dropout: float = 0.1
    """Share of labels hidden in training, so that the model learns guidance."""


SHORTCUT = Paper(
    "Kevin Frans, Danijar Hafner, Sergey Levine, Pieter Abbeel",
    "One Step Diffusion via Shortcut Models",
    "ICLR",
    2025,
)


@cites(SHORTCUT)
class Shortcut(FlowMapMethod):
    """Shortcut models: steps of any length, 1, 1/2, 1/4, ... of the way, from scratch."""

    Config = ShortcutConfig
    ema: FlowMap

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        check_even_times(config.name, path)
        check_count("finest", config.finest, 1, MOST_STEPS)
        if config.finest & (config.finest - 1):
            raise ValueError(f"finest: {config.finest} must be a power of two")
        if not 0 <= config.consistent <= 1:
            raise ValueError(f"consistent: {config.consistent} must be in [0, 1]")

    @classmethod
    def sampling(cls, config: Any, path: Path, text: str | None, steps: int | None) -> Sampling:
        sampling = super().sampling(config, path, text, steps)
        if sampling.name != "flow_map":
            return sampling
        if sampling.grid:
            raise ValueError("'flow_map' takes steps of one length here, so no other grid")
        if steps is not None and (steps & (steps - 1) or steps > config.finest):
            raise ValueError(f"shortcuts come by powers of two up to {config.finest}, not {steps}")
        return sampling

    @torch.no_grad()
    def two_steps(self, xt: Tensor, i: Tensor, d: Tensor, cond: Condition) -> Tensor:
        """The mean velocity of two steps of d / 2 from t = i d, by the averaged weights (Eq. 5).

        Args:
            xt: (B, ...) at t.
            i, d: (B,).
        """
        t, middle, s = i * d, (i - 0.5) * d, (i - 1) * d
        shortest = d <= self.path.t_max / self.config.finest  # its halves are asked for as 0
        first = self.ema.mean_velocity(xt, t, torch.where(shortest, t, middle), cond)
        xm = xt - expand(d / 2, xt) * first
        second = self.ema.mean_velocity(xm, middle, torch.where(shortest, middle, s), cond)
        return (first + second) / 2

    def loss(self, batch: Batch, role: str) -> dict[str, Tensor]:
        path, finest, cond = self.path, self.config.finest, self.condition(batch)
        x0, eps = batch["x0"], self.draw.normal(*self.shape)
        t, rows = at_share(path, self.draw.uniform()), self.chosen(self.config.consistent)
        steps = 2 ** self.draw.integers(0, int(math.log2(finest)) + 1)
        i = 1 + (self.draw.uniform() * steps).floor()
        i, d = i[rows], path.t_max / steps[rows]
        t = t.index_copy(0, rows, i * d)
        s = t.index_copy(0, rows, (i - 1) * d)
        xt, target = path.add_noise(x0, eps, t), path.velocity(x0, eps, t)
        told = {name: value[rows] for name, value in cond.items()}
        target = target.index_copy(0, rows, self.two_steps(xt[rows], i, d, told))
        error = mean_square(self.student.mean_velocity(xt, t, s, cond) - target)
        return {"loss": error.mean()}

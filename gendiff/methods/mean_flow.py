"""Mean flow: the mean velocity between two times, learned from its own derivative.

Geng, Deng, Bai, Kolter & He, "Mean Flows for One-step Generative Modeling", NeurIPS 2025,
Algorithm 1. Their r is our s; as here, t = 1 is noise. On any path whose velocity is known: theirs
is linear. The network is told s, theirs t - s, which is as much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gendiff.denoiser import Condition, DenoiserLike, along
from gendiff.guidance import guide, unlabelled
from gendiff.methods.base import Batch, MethodConfig
from gendiff.methods.flow_map import FlowMapMethod
from gendiff.papers import MEAN_FLOW, cites
from gendiff.paths import Path, expand
from gendiff.predictions import Kind
from gendiff.training_times import draw_times


@dataclass(frozen=True)
class MeanFlowConfig(MethodConfig):
    name: str = "mean_flow"
    prediction: Kind = "velocity"
    """What the student's output means; nothing else will do."""
    times_mean: float = -0.4
    """Mean of the logit of both times, as shares of the path's range."""
    times_std: float = 1.0
    """Standard deviation of the logit of both times."""
    apart: float = 0.25
    """Share of samples whose times differ; s = t for the others, which is flow matching."""
    weight_power: float = 1.0
    """p of the weight 1 / (|error|^2 + c)^p of the squared error |error|^2; 0 for no weight."""
    weight_offset: float = 1e-3
    """c of that weight."""
    omega: float = 1.0
    """Guidance scale built into the student: 1 for none, w + 1 for a guidance weight w."""
    kappa: float = 0.0
    """Part of the guided velocity that is the student's own conditional one; the scale is then
    omega / (1 - kappa)."""
    label_dropout: float = 0.1
    """Share of labels hidden in training, for which nothing is guided."""


@dataclass(frozen=True)
class MeanFlowDistillationConfig(MeanFlowConfig):
    name: str = "mean_flow_distillation"


@cites(MEAN_FLOW)
class MeanFlow(FlowMapMethod):
    """Mean flow: one-step sampling from scratch, by the derivative of the mean velocity."""

    Config = MeanFlowConfig

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        ranges = {"apart": (0, 1), "weight_power": (0, math.inf), "kappa": (0, 1)}
        for name, (low, high) in ranges.items():
            if not low <= getattr(config, name) <= high:
                raise ValueError(f"{name}: {getattr(config, name)} must be in [{low}, {high}]")
        for name in ("times_std", "weight_offset", "omega"):
            if not 0 < getattr(config, name) < math.inf:
                raise ValueError(f"{name}: {getattr(config, name)} must be positive and finite")
        if not math.isfinite(config.times_mean):
            raise ValueError(f"times_mean: {config.times_mean} must be finite")

    @classmethod
    def check_networks(cls, config: Any, networks: Mapping[str, Any]) -> None:
        super().check_networks(config, networks)
        if cls.guides(config) and "label" not in networks["student"].conditions:
            raise ValueError("student.conditions.label: missing; omega and kappa guide by it")

    @staticmethod
    def guides(config: Any) -> bool:
        """Whether guidance is built in."""
        return bool(config.omega != 1 or config.kappa)

    def velocity(self, x0: Tensor, eps: Tensor, xt: Tensor, t: Tensor, cond: Batch) -> Tensor:
        """The velocity to average, like x_t: the pair's own, guided (their Section 4.2)."""
        v, config = self.path.velocity(x0, eps, t), self.config
        if not self.guides(config):
            return v
        without = self.student(xt, t, unlabelled(cond)).velocity
        mixed = config.omega * v + (1 - config.omega - config.kappa) * without
        if config.kappa:
            mixed = mixed + config.kappa * self.student(xt, t, cond).velocity
        return torch.where(expand(cond["label"] == self.classes, v), v, mixed)

    def slope(self, xt: Tensor, t: Tensor, s: Tensor, v: Tensor, cond: Condition) -> Tensor:
        """du/dt along the flow, v du/dx + du/dt at fixed s (Eq. 8), by a forward derivative."""
        u = lambda x, time: self.student.mean_velocity(x, time, s, cond)  # noqa: E731
        slope: Tensor = torch.func.jvp(u, (xt, t), (v, torch.ones_like(t)))[1]
        return slope

    def draw_times(self) -> tuple[Tensor, Tensor]:
        """t and s <= t, (B,)."""
        mean, std = self.config.times_mean, self.config.times_std
        a, b = (draw_times("logit_normal", self.path, self.draw, mean, std) for _ in range(2))
        return torch.maximum(a, b), torch.minimum(a, b)

    def loss(self, batch: Batch, role: str) -> dict[str, Tensor]:
        config, cond = self.config, self.condition(batch)
        x0, eps = batch["x0"], self.draw.normal(*self.shape)
        t, s = self.draw_times()
        xt, far = self.path.add_noise(x0, eps, t), self.chosen(config.apart)
        with torch.no_grad():
            target = self.velocity(x0, eps, xt, t, cond)
            told = {name: value[far] for name, value in cond.items()}
            slope = self.slope(xt[far], t[far], s[far], target[far], told)
            target = target.index_add(0, far, -expand((t - s)[far], slope) * slope)  # Eq. 6
        u = self.student.mean_velocity(xt, t, t.index_copy(0, far, s[far]), cond)
        square = (u - target).square().flatten(1).sum(1)
        weight = (square.detach() + config.weight_offset) ** -config.weight_power
        return {"loss": (weight * square).mean(), "square": square.mean()}


class MeanFlowDistillation(MeanFlow):
    """Mean flow of a teacher: its velocity takes the place of the pair's own."""

    Config = MeanFlowDistillationConfig
    roles = ("student", "teacher")
    frozen = ("teacher",)
    teacher: DenoiserLike

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        if config.kappa:
            raise ValueError(f"kappa: {config.kappa}; a teacher guides by omega alone")

    def velocity(self, x0: Tensor, eps: Tensor, xt: Tensor, t: Tensor, cond: Batch) -> Tensor:
        """The teacher's velocity, guided."""
        teacher = guide(along(self.teacher, self.path), self.config.omega - 1)
        return teacher(xt, t, cond).velocity

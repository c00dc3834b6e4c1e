"""Continuous-time consistency models (sCM): the limit of steps that vanish, by an exact derivative.

Lu & Song, "Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models", ICLR 2025,
Algorithm 1. Their F_theta is the velocity over sigma_data of a student read along the quarter turn
x_t = cos(t) x0 + sin(t) z, z ~ N(0, sigma_data^2): the student may have any path that is
continuous in time. Its consistency function is f = cos(t) x_t - sin(t) sigma_data F.

Their adaptive weighting is left out: what it learns is 1 over the mean of |g|^2 at a time, which
the normalisation of the tangent g makes nearly the same at all times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from gendiff.denoiser import along
from gendiff.loss_weights import mean_square
from gendiff.methods.base import Batch
from gendiff.methods.neighbours import Jumping, check_normal
from gendiff.methods.student import Distilled, DistilledConfig, StudentConfig
from gendiff.papers import SCM, cites
from gendiff.paths import Path, Trig, expand
from gendiff.training_times import draw_times

LEAST_NORM = 0.1
"""c of g / (|g| + c)."""


@dataclass(frozen=True)
class ContinuousConsistencyTrainingConfig(StudentConfig):
    name: str = "continuous_consistency_training"
    times_mean: float = -1.0
    """Of the normal that ln(sigma / alpha) is drawn from."""
    times_std: float = 1.4
    """Of the normal that ln(sigma / alpha) is drawn from."""
    tangent_warmup: int = 10000
    """Global batches over which the derivative of F enters the tangent, linearly."""


@dataclass(frozen=True)
class ContinuousConsistencyConfig(ContinuousConsistencyTrainingConfig, DistilledConfig):
    name: str = "continuous_consistency"


@cites(SCM)
class ContinuousConsistencyTraining(Jumping):
    """Continuous-time consistency training (sCT), without a teacher."""

    Config: ClassVar[type[Any]] = ContinuousConsistencyTrainingConfig

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.turn = Trig(self.config.sigma_data)

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        if path.steps is not None:
            raise ValueError(f"name: {config.name} differentiates its student in time: no chains")
        if config.tangent_warmup < 0:
            raise ValueError(f"tangent_warmup: {config.tangent_warmup} must not be negative")
        check_normal(config)

    def flow(self, xt: Tensor, t: Tensor, x0: Tensor, eps: Tensor, cond: Batch) -> Tensor:
        """dx_t/dt: of the data and their noise."""
        return self.turn.velocity(x0, eps, t)

    def tangent(self, xt: Tensor, t: Tensor, flow: Tensor, cond: Batch) -> tuple[Tensor, Tensor]:
        """F_theta, and g before it is normalised: cos(t) df/dt once the warm-up is over."""
        sd, student = self.config.sigma_data, along(self.student, self.turn)
        cos, sin = expand(self.turn.alpha(t), xt), expand(torch.sin(t), xt)

        def network(x: Tensor, t: Tensor) -> Tensor:
            return student(x, t, cond).velocity / sd

        turned = (cos * sin * flow, self.turn.alpha(t) * torch.sin(t))
        output, slope = torch.func.jvp(network, (xt, t), turned)  # type: ignore[misc]  # no aux
        now, slope = output.detach(), slope.detach()
        warm = min(1.0, (self.batches_done + 1) / max(1, self.config.tangent_warmup))
        return output, -(cos**2) * (sd * now - flow) - warm * (cos * sin * xt + sd * slope)

    def loss(self, batch: Batch, role: str) -> dict[str, Tensor]:
        x0, cond, config = batch["x0"], self.condition(batch), self.config
        t = draw_times("log_normal", self.turn, self.draw, config.times_mean, config.times_std)
        eps = self.draw.normal(*self.shape)
        xt = self.turn.add_noise(x0, eps, t)
        output, g = self.tangent(xt, t, self.flow(xt, t, x0, eps, cond), cond)
        norm = torch.linalg.vector_norm(g.flatten(1), dim=1)
        goal = output.detach() + g / expand(norm + LEAST_NORM, g)
        cos, sin = expand(self.turn.alpha(t), xt), expand(torch.sin(t), xt)
        sd = config.sigma_data
        self.shown = cos * xt - sin * sd * output, cos * xt - sin * sd * goal
        return {"loss": mean_square(output - goal).mean(), "tangent": norm.mean()}


@cites(SCM)
class ContinuousConsistency(ContinuousConsistencyTraining, Distilled):
    """Continuous-time consistency distillation (sCD), along a teacher's probability flow."""

    Config = ContinuousConsistencyConfig

    @torch.no_grad()
    def flow(self, xt: Tensor, t: Tensor, x0: Tensor, eps: Tensor, cond: Batch) -> Tensor:
        """dx_t/dt: the teacher's."""
        return along(self.taught(cond), self.turn)(xt, t, cond).velocity

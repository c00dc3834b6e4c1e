"""Consistency distillation: neighbours on a teacher's trajectory are sent to the same x0.

Song, Dhariwal, Chen & Sutskever, "Consistency Models", ICML 2023, Algorithm 2; the target is the
student itself without an average, as Song & Dhariwal, "Improved Techniques for Training
Consistency Models", ICLR 2024, found best for consistency training; the pseudo-Huber loss and the
doubling curriculum are theirs too.

On a path, the x0 read from a v, velocity or eps prediction is x itself at t = 0, so it meets the
boundary condition (their Eq. 5) without scalings of its own, and equals the teacher's x0 at the
start. Times run uniformly from 0 to ``t_max``, where the papers' run over sigma with rho = 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from gendiff.curricula import ict_scales
from gendiff.denoiser import Denoiser, along
from gendiff.guidance import guide
from gendiff.methods.base import Batch, Method, MethodConfig
from gendiff.paths import Path, expand


@dataclass(frozen=True)
class ConsistencyConfig(MethodConfig):
    name: str = "consistency"
    intervals: int = 32
    """Steps of the teacher's trajectory, at the end of training."""
    first_intervals: int = 8
    """Steps at the start; doubled in equal stages of training up to ``intervals``."""
    solver: Literal["ddim", "heun"] = "ddim"
    """How the teacher takes a step; heun costs two calls."""
    guidance: float = 0.0
    """Guidance weight of the teacher."""


class Consistency(Method):
    """Consistency distillation: any point of a trajectory jumps to its clean end."""

    Config = ConsistencyConfig
    roles = ("student", "teacher")
    frozen = ("teacher",)
    even_times = True
    samplers = ("consistency",)
    student: Denoiser
    teacher: Denoiser

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        if not 1 <= config.first_intervals <= config.intervals:
            raise ValueError(
                f"first_intervals: {config.first_intervals} must be between 1 and "
                f"intervals ({config.intervals})"
            )
        if config.prediction == "x0":
            raise ValueError("prediction: x0 breaks the boundary condition; use v or velocity")

    def intervals_now(self) -> int:
        """Steps of the trajectory at this point of training (iCT)."""
        first, last = self.config.first_intervals, self.config.intervals
        stages = math.ceil(math.log2(last / first)) + 1
        # up to a power of two, so that `last` is reached; in parts of a batch, so that no stage is
        # cut short by rounding
        done, steps = self.batches_done * stages, self.max_steps * stages
        return min(ict_scales(done, steps, first, first * 2 ** (stages - 1)) - 1, last)

    @torch.no_grad()
    def follow(self, xt: Tensor, t: Tensor, s: Tensor, cond: Batch) -> Tensor:
        """One step of the teacher's probability flow from t to s."""
        teacher = guide(along(self.teacher, self.path), self.config.guidance)
        here = teacher(xt, t, cond)
        xs = self.path.step(here.x0, xt, s, t)
        if self.config.solver == "ddim":
            return xs
        # Heun in DDIM's coordinates: the step is linear in x0, so average the two x0
        after = s.clamp(min=1e-4)
        there = teacher(xs, after, cond)
        return self.path.step((here.x0 + there.x0) / 2, xt, s, t)

    def loss(self, batch: Batch, role: str) -> dict[str, Tensor]:
        path, n = self.path, self.intervals_now()
        x0, cond = batch["x0"], self.condition(batch)
        i = self.draw.integers(1, n + 1)
        t, s = path.t_max * i / n, path.t_max * (i - 1) / n
        xt = path.add_noise(x0, self.draw.normal(*self.shape), t)
        xs = self.follow(xt, t, s, cond)
        with torch.no_grad():
            goal = torch.where(expand(i == 1, xs), xs, self.student(xs, s, cond).x0)
        error = self.student(xt, t, cond).x0 - goal
        return {"loss": pseudo_huber(error).mean(), "intervals": torch.tensor(float(n))}


def pseudo_huber(error: Tensor) -> Tensor:
    """sqrt(|error|^2 + c^2) - c on the whole vector, c = 0.00054 sqrt(d), (B,) (iCT)."""
    flat = error.flatten(1)
    c = 0.00054 * math.sqrt(flat.shape[1])
    return (flat.square().sum(1) + c * c).sqrt() - c

"""Consistency distillation: neighbours on a teacher's trajectory are sent to the same x0.

Song, Dhariwal, Chen & Sutskever, "Consistency Models" (CM), ICML 2023, Algorithm 2. By default the
target is the student itself without an average, the distance pseudo-Huber and the curriculum
doubles, as Song & Dhariwal, "Improved Techniques for Training Consistency Models" (iCT), ICLR
2024, found best for consistency training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from gendiff.methods.base import Batch
from gendiff.methods.neighbours import Neighbours, NeighboursConfig
from gendiff.methods.student import Distilled, DistilledConfig
from gendiff.papers import CONSISTENCY, cites
from gendiff.paths import Path, expand


@dataclass(frozen=True)
class ConsistencyConfig(NeighboursConfig, DistilledConfig):
    name: str = "consistency"
    solver: Literal["ddim", "euler", "heun", "heun_x0"] = "ddim"
    """How the teacher takes a step; the last two cost two calls. euler and heun are the samplers of
    that name, in the path's own time, which on ve and edm is the papers' sigma; ddim is Euler in
    sigma / alpha, heun_x0 Heun in alpha / sigma: it averages x0."""


@cites(CONSISTENCY)
class Consistency(Neighbours, Distilled):
    """Consistency distillation: any point of a trajectory jumps to its clean end."""

    Config = ConsistencyConfig
    version = 2

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        if config.solver in ("euler", "heun") and path.steps is not None:
            raise ValueError(f"solver: {config.solver} needs a path continuous in time; use ddim")

    def neighbour(
        self, xt: Tensor, t: Tensor, s: Tensor, x0: Tensor, eps: Tensor, cond: Batch
    ) -> Tensor:
        return self.follow(xt, t, s, cond)

    @torch.no_grad()
    def follow(self, xt: Tensor, t: Tensor, s: Tensor, cond: Batch) -> Tensor:
        """One step of the teacher's probability flow from t to s."""
        path, solver, after = self.path, self.config.solver, s.clamp(min=1e-4)
        teacher = self.taught(cond)
        here = teacher(xt, t, cond)
        if solver in ("ddim", "heun_x0"):
            xs = path.step(here.x0, xt, s, t)
            if solver == "ddim":
                return xs
            # DDIM's step is linear in x0, so average the two x0
            return path.step((here.x0 + teacher(xs, after, cond).x0) / 2, xt, s, t)
        dt, ends = expand(s - t, xt), expand(s == 0, xt)
        xs = torch.where(ends, here.x0, xt + dt * here.velocity)
        if solver == "euler":
            return xs
        slope = (here.velocity + teacher(xs, after, cond).velocity) / 2
        return torch.where(ends, xs, xt + dt * slope)

"""Pairs of noise and of where a teacher's sampler takes it: what reflow and regression train on.

Liu, Gong & Liu, "Flow Straight and Fast", ICLR 2023, Algorithm 1, the line that draws (Z0, Z1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gendiff.denoiser import Denoiser
from gendiff.errors import UserError
from gendiff.guidance import guide
from gendiff.methods.base import Batch, Method, MethodConfig
from gendiff.paths import Path
from gendiff.samplers import ddim, time_grid
from gendiff.seeding import Draws


@dataclass(frozen=True)
class PairsConfig(MethodConfig):
    name: str = "pairs"
    count: int = 10000
    """Pairs to make."""
    solver_steps: int = 50
    """Teacher steps a pair."""
    guidance: float = 0.0
    """Guidance weight of the teacher."""


class Pairs(Method):
    """Stored pairs: a product stage that runs a frozen teacher and trains nothing."""

    Config = PairsConfig
    roles = ("teacher",)
    frozen = ("teacher",)
    averages = {}
    samplers = ()
    products = ("pairs",)
    teacher: Denoiser

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        for name in ("count", "solver_steps"):
            if getattr(config, name) < 1:
                raise ValueError(f"{name}: {getattr(config, name)} must be at least 1")

    def produce(self, indices: Tensor) -> Batch:
        """Rows {x0, eps, label}: consecutive indices -> (n, *shape), (n, *shape), (n,)."""
        path, first, n = self.teacher.path, int(indices[0]), len(indices)
        eps = Draws((self.seed, self.stage, "pairs"), first, n, 1, self.device).normal(*self.shape)
        label = indices % max(1, self.classes)
        cond = {"label": label.to(self.device)} if self.classes else {}
        try:
            times = time_grid(path, self.config.solver_steps, device=self.device)
        except ValueError as error:
            raise UserError(f"method.solver_steps: {error}.") from None
        teacher = guide(self.teacher, self.config.guidance)
        with torch.no_grad():
            start = path.sigma(times[0]) * eps
            x0 = ddim(teacher, start, times, cond)
        return {"x0": x0, "eps": eps, "label": label}

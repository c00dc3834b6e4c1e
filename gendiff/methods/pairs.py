"""Pairs of noise and of where a teacher's sampler takes it: what reflow and regression train on.

Liu, Gong & Liu, "Flow Straight and Fast", ICLR 2023, Algorithm 1, the line that draws (Z0, Z1). Or
of data and of the noise that the teacher's ODE takes to them: the same ODE run the other way, as in
Song, Meng & Ermon, "Denoising Diffusion Implicit Models", ICLR 2021, Section 4.3 and 5.4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gendiff.couplings import INVERTIBLE, check_solver, invert, solve, solver
from gendiff.denoiser import Denoiser
from gendiff.errors import UserError, check_count
from gendiff.guidance import guide
from gendiff.methods.base import Batch, Method, MethodConfig
from gendiff.papers import RECTIFIED_FLOW, cites
from gendiff.paths import Path
from gendiff.samplers import MOST_STEPS
from gendiff.sampling import ANY_DENOISER
from gendiff.seeding import Draws, key, sample_noise

MOST_PAIRS = 10**9


@dataclass(frozen=True)
class PairsConfig(MethodConfig):
    name: str = "pairs"
    count: int = 10000
    """Pairs to make."""
    sampler: str = "ddim"
    """The teacher's sampler, with settings, path and grid if need be (see `Sampling`)."""
    solver_steps: int = 50
    """Teacher steps a pair."""
    guidance: float = 0.0
    """Guidance weight of the teacher."""
    inverse: bool = False
    """Take each training image to its noise, instead of noise to an image."""


@cites(RECTIFIED_FLOW)
class Pairs(Method):
    """Stored pairs: a product stage that runs a frozen teacher and trains nothing."""

    Config = PairsConfig
    roles = ("teacher",)
    frozen = ("teacher",)
    averages = {}
    samplers = ()
    products = ("pairs",)
    version = 2
    teacher: Denoiser

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        check_count("count", config.count, 1, MOST_PAIRS)
        check_count("solver_steps", config.solver_steps, 1 + config.inverse, MOST_STEPS)
        if not math.isfinite(config.guidance):
            raise ValueError(f"guidance: {config.guidance} must be finite")
        allowed = INVERTIBLE if config.inverse else ANY_DENOISER
        check_solver(config.sampler, allowed, exact=config.inverse)

    def produce(self, indices: Tensor, data: Batch | None = None) -> Batch:
        """Rows {x0, eps, label}: consecutive indices -> (n, *shape), (n, *shape), (n,).

        Row i is a function of (seed, i) alone but for rounding, which may depend on n.

        Args:
            data: the rows {x0, label} of these indices, to be taken to noise (``inverse``).

        Raises:
            UserError: the teacher cannot be sampled so, or its samples are not finite.
        """
        config, device, first, n = self.config, self.device, int(indices[0]), len(indices)
        sampling = solver(config.sampler, self.teacher.path, config.solver_steps)
        label = data["label"] if data else indices % max(1, self.classes)
        cond = {"label": label.to(device)} if self.classes else {}
        teacher = guide(self.teacher, config.guidance)
        try:
            with torch.no_grad():
                if data:
                    x0 = data["x0"].to(device)
                    eps = invert(sampling, teacher, x0, config.solver_steps, cond)
                else:
                    parts = (self.seed, self.stage, "pairs")
                    eps = Draws(parts, first, n, 1, device).normal(*self.shape)
                    noise = sample_noise(key(*parts), first, n, self.shape, device)
                    x0 = solve(sampling, teacher, eps, config.solver_steps, cond, noise)
        except ValueError as error:
            raise UserError(f"method.sampler: {error}.") from None
        if not (x0.isfinite().all() and eps.isfinite().all()):
            raise UserError(
                f"{self.stage}: rows {first} to {first + n - 1} are not finite; try more "
                f"method.solver_steps, less method.guidance or another teacher."
            )
        return {"x0": x0, "eps": eps, "label": label}

"""Reflow without a store: the teacher's flow is run on fresh noise in every batch.

Liu, Gong & Liu, "Flow Straight and Fast", ICLR 2023, Algorithm 1 with Reflow. No pair is seen twice
and nothing is kept on disk; a batch costs ``solver_steps`` calls of the teacher. Of the data only
the labels are used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gendiff.couplings import INVERTIBLE, check_solver, solve, solver
from gendiff.denoiser import Denoiser
from gendiff.errors import check_count
from gendiff.guidance import guide
from gendiff.methods.base import Batch
from gendiff.methods.flow import Flow, FlowConfig
from gendiff.papers import RECTIFIED_FLOW, cites
from gendiff.paths import Path
from gendiff.samplers import MOST_STEPS


@dataclass(frozen=True)
class OnlineReflowConfig(FlowConfig):
    name: str = "online_reflow"
    sampler: str = "ddim"
    """The teacher's sampler, with settings, path and grid if need be (see `Sampling`)."""
    solver_steps: int = 20
    """Teacher steps a pair."""
    guidance: float = 0.0
    """Guidance weight of the teacher."""


@cites(RECTIFIED_FLOW)
class OnlineReflow(Flow):
    """Online reflow: rectified flow on pairs that a teacher makes batch by batch."""

    Config = OnlineReflowConfig
    roles = ("student", "teacher")
    frozen = ("teacher",)
    teacher: Denoiser

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        check_count("solver_steps", config.solver_steps, 1, MOST_STEPS)
        if not math.isfinite(config.guidance):
            raise ValueError(f"guidance: {config.guidance} must be finite")
        check_solver(config.sampler, INVERTIBLE, exact=True)

    def couple(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Fresh noise with where the teacher's ODE takes it (Eq. 1)."""
        config, eps = self.config, self.draw.normal(*self.shape)
        cond = {"label": batch["label"]} if self.classes else {}
        sampling = solver(config.sampler, self.teacher.path, config.solver_steps)
        with torch.no_grad():
            teacher = guide(self.teacher, config.guidance)
            x0 = solve(sampling, teacher, eps, config.solver_steps, cond)
        return x0, eps

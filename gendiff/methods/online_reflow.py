"""Reflow without a store: the teacher's flow is run on fresh noise in every batch.

Liu, Gong & Liu, "Flow Straight and Fast", ICLR 2023, Algorithm 1 with Reflow. No pair is seen twice
and nothing is kept on disk; a batch costs ``solver_steps`` calls of the teacher. Of the data only
the labels are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gendiff.couplings import transported
from gendiff.denoiser import Denoiser
from gendiff.methods.base import Batch
from gendiff.methods.flow import Flow, FlowConfig
from gendiff.paths import Path


@dataclass(frozen=True)
class OnlineReflowConfig(FlowConfig):
    name: str = "online_reflow"
    solver_steps: int = 20
    """Teacher steps a pair."""
    guidance: float = 0.0
    """Guidance weight of the teacher."""


class OnlineReflow(Flow):
    """Online reflow: rectified flow on pairs that a teacher makes batch by batch."""

    Config = OnlineReflowConfig
    roles = ("student", "teacher")
    frozen = ("teacher",)
    teacher: Denoiser

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        if config.solver_steps < 1:
            raise ValueError(f"solver_steps: {config.solver_steps} must be at least 1")

    def couple(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Fresh noise with where the teacher's ODE takes it (Eq. 1)."""
        eps = self.draw.normal(*self.shape)
        cond = {"label": batch["label"]} if self.classes else {}
        config = self.config
        x0 = transported(self.teacher, eps, config.solver_steps, config.guidance, cond)
        return x0, eps

"""Consistency training: consistency models without a teacher.

Song, Dhariwal, Chen & Sutskever, "Consistency Models" (CM), ICML 2023, Algorithm 3; the defaults
are those of Song & Dhariwal, "Improved Techniques for Training Consistency Models" (iCT), ICLR
2024, Table 1. CM's own: ``curriculum: cm``, ``first_intervals: 2``, ``intervals: 150``,
``target_decay: 0.9``, uniform times and weight, and ``squared_l2`` (or LPIPS, which is not here).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from gendiff.methods.base import Batch
from gendiff.methods.neighbours import Neighbours, NeighboursConfig
from gendiff.papers import CONSISTENCY, ICT, cites
from gendiff.samplers.grid import GridKind


@dataclass(frozen=True)
class ConsistencyTrainingConfig(NeighboursConfig):
    name: str = "consistency_training"
    intervals: int = 1280
    first_intervals: int = 10
    grid: GridKind | None = "karras"
    times: Literal["uniform", "log_normal"] = "log_normal"
    weight: Literal["uniform", "inverse_step"] = "inverse_step"


@cites(CONSISTENCY, ICT)
class ConsistencyTraining(Neighbours):
    """Consistency training (CT, iCT): a step of the flow is one along the data and their noise."""

    Config = ConsistencyTrainingConfig

    def neighbour(
        self, xt: Tensor, t: Tensor, s: Tensor, x0: Tensor, eps: Tensor, cond: Batch
    ) -> Tensor:
        """The same noise at s: unbiased, on average over x0 given x_t, as s nears t (CM, Eq. 9)."""
        return self.path.add_noise(x0, eps, s)

"""Rectified flow, second round: flow matching on stored (noise, teacher sample) pairs.

Liu, Gong & Liu, "Flow Straight and Fast", ICLR 2023, Algorithm 1 with Reflow. Their t runs from
noise to data: it is our 1 - t.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gendiff.methods.base import Batch
from gendiff.methods.diffusion import Diffusion, DiffusionConfig
from gendiff.predictions import Kind


@dataclass(frozen=True)
class ReflowConfig(DiffusionConfig):
    name: str = "reflow"
    prediction: Kind = "velocity"


class Reflow(Diffusion):
    """Reflow: rectified flow on stored pairs, whose paths cross less and so run straighter."""

    Config = ReflowConfig
    trains_on = "pairs"

    def couple(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Each noise with where the teacher's ODE took it (Eq. 1)."""
        return batch["x0"], batch["eps"]

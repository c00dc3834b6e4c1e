"""Rectified flow, second round and later: flow matching on stored (noise, teacher sample) pairs.

Liu, Gong & Liu, "Flow Straight and Fast", ICLR 2023, Algorithm 1 with Reflow. Their t runs from
noise to data: it is our 1 - t. Each round takes the pairs of the one before. Lee, Lin & Fanti,
"Improving the Training of Rectified Flows", NeurIPS 2024, is ``times: u_shaped``, ``loss:
pseudo_huber`` and a student that begins as the diffusion teacher (``native``).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gendiff.methods.base import Batch
from gendiff.methods.flow import Flow, FlowConfig
from gendiff.papers import RECTIFIED_FLOW, cites


@dataclass(frozen=True)
class ReflowConfig(FlowConfig):
    name: str = "reflow"


@cites(RECTIFIED_FLOW)
class Reflow(Flow):
    """Reflow: rectified flow on stored pairs, whose paths cross less and so run straighter."""

    Config = ReflowConfig
    trains_on = "pairs"
    version = 2

    def couple(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Each noise with where the teacher's ODE took it (Eq. 1)."""
        return batch["x0"], batch["eps"]

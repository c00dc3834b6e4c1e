"""Flow matching: learn the velocity that carries noise to data along straight lines.

Lipman et al., "Flow Matching for Generative Modeling", ICLR 2023, Eq. 23 with sigma_min = 0, which
is Liu, Gong & Liu, "Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified
Flow", ICLR 2023, Eq. 1. In both papers t runs from noise to data: it is our 1 - t. Couplings: Tong
et al., "Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal Transport",
TMLR 2024. On another path than the linear one it is flow matching on that path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from gendiff.couplings import optimal
from gendiff.denoiser import Denoiser
from gendiff.loss_weights import Weight
from gendiff.methods.base import Batch
from gendiff.methods.diffusion import Diffusion, DiffusionConfig
from gendiff.papers import FLOW_MATCHING, RECTIFIED_FLOW, cites
from gendiff.paths import Path
from gendiff.predictions import Kind
from gendiff.seeding import sample_noise
from gendiff.straightness import straightness

SAMPLES, STEPS = 64, 8
"""Trajectories whose straightness is logged, and their Euler steps."""


@dataclass(frozen=True)
class FlowConfig(DiffusionConfig):
    name: str = "flow"
    prediction: Kind = "velocity"
    weight: Weight = "velocity"
    """Weight of the squared error by noise level; velocity weighs that of dx_t/dt with 1."""
    coupling: Literal["independent", "optimal"] = "independent"
    """Which noise goes with which sample; optimal transports the noise of each ``coupling_size``
    samples, and with labels of each class among them."""
    coupling_size: int = 64
    """Consecutive samples that are coupled together; the batch and its parts are multiples."""
    straightness_every: int = 500
    """Global batches between two looks at how straight the average's flow is; 0 for none."""

    @property
    def mixes(self) -> int:
        """Consecutive samples that one loss mixes: no part of a batch may cut them."""
        return self.coupling_size if self.coupling == "optimal" else 1


@cites(FLOW_MATCHING, RECTIFIED_FLOW)
class Flow(Diffusion):
    """Flow matching: regress the velocity on straight lines from data to noise."""

    Config = FlowConfig
    ema: Denoiser

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        for name, least in {"coupling_size": 1, "straightness_every": 0}.items():
            if getattr(config, name) < least:
                raise ValueError(f"{name}: {getattr(config, name)} must be at least {least}")
        if config.coupling != "independent" and cls.couple is not Flow.couple:
            raise ValueError(f"coupling: {config.name} couples noise to data by its teacher")

    def couple(self, batch: Batch) -> tuple[Tensor, Tensor]:
        x0, eps = super().couple(batch)
        if self.config.coupling == "optimal":
            label = batch["label"] if self.classes else None
            eps = optimal(x0, eps, self.config.coupling_size, label)
        return x0, eps

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        every = self.config.straightness_every
        if every and self.batches_done % every == 0:
            self.losses["straightness"] = self.straightness()

    def straightness(self) -> Tensor:
        """S(Z) of the average's flow (Liu et al. 2023, Section 2.2), a scalar.

        Always on the same trajectories, with the labels in turn.
        """
        noise = sample_noise(self.seed, 0, SAMPLES, self.shape, self.device)(-1)
        labels = torch.arange(SAMPLES, device=self.device) % max(1, self.classes)
        cond = {"label": labels} if self.classes else {}
        return torch.tensor(straightness(self.ema, noise, cond, STEPS)["straightness"])

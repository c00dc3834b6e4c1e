"""Distillation of stored pairs into one step: noise is taken to the teacher's sample at once.

Liu, Gong & Liu, "Flow Straight and Fast", ICLR 2023, on distillation (the loss of reflow at the
noise end alone, after reflow); Luhman & Luhman, "Knowledge Distillation in Iterative Generative
Models for Improved Sampling Speed", 2021 (with the pairs of any teacher's deterministic sampler).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gendiff.loss_weights import Loss, penalty
from gendiff.methods.base import Batch
from gendiff.methods.student import Student, StudentConfig
from gendiff.papers import RECTIFIED_FLOW, Paper, cites
from gendiff.paths import Path
from gendiff.predictions import Kind
from gendiff.sampling import Sampling


@dataclass(frozen=True)
class PairDistillationConfig(StudentConfig):
    name: str = "pair_distillation"
    prediction: Kind = "velocity"
    loss: Loss = "squared"
    """What becomes of the error of x0."""
    native: str | None = None
    """Path that the student's network knows, as in flow."""


KNOWLEDGE = Paper(
    "Eric Luhman, Troy Luhman",
    "Knowledge Distillation in Iterative Generative Models for Improved Sampling Speed",
    "arXiv:2101.02388",
    2021,
)


@cites(RECTIFIED_FLOW, KNOWLEDGE)
class PairDistillation(Student):
    """Pair distillation: one step from each noise to where the teacher took it."""

    Config = PairDistillationConfig
    trains_on = "pairs"
    samplers = ("ddim",)

    @classmethod
    def sampling(cls, config: Any, path: Path, text: str | None, steps: int | None) -> Sampling:
        sampling = super().sampling(config, path, text, steps)
        sampling.check(path, 1, own_grid=True)  # it knows one time
        return sampling

    @classmethod
    def steps_range(cls, config: Any) -> tuple[int, int]:
        return 1, 1

    def loss(self, batch: Batch, role: str) -> dict[str, Tensor]:
        x0, eps, path = batch["x0"], batch["eps"], self.path
        t = eps.new_full((len(eps),), path.t_max)
        xt = path.sigma(t[0]) * eps  # all of it noise, as sampling begins
        made = self.student(xt, t, self.condition(batch)).x0
        self.shown = made, x0
        return {"loss": penalty(self.config.loss, made - x0).mean()}

"""Distribution matching distillation: students of one or a few steps.

Yin et al., "Improved Distribution Matching Distillation for Fast Image Synthesis" (DMD2), NeurIPS
2024: no regression on stored samples, several batches of the fake score for each of the student,
samples made as in sampling, and a game with a critic over noised samples, which is here
``adversarial_weight`` and a network of its own rather than a head on the fake score. The gradient
is that of DMD: Yin et al., "One-step Diffusion with Distribution Matching Distillation", CVPR 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gendiff.loss_weights import mean_square
from gendiff.methods.base import Batch
from gendiff.methods.score_distillation import (
    ScoreDistillation,
    ScoreDistillationConfig,
    distance,
)
from gendiff.papers import Paper, cites
from gendiff.paths import expand


@dataclass(frozen=True)
class DistributionMatchingConfig(ScoreDistillationConfig):
    name: str = "distribution_matching"
    fake_batches: int = 5
    """Batches of the fake score for each one of the student (DMD2, Section 4.2)."""


DMD = Paper(
    "Tianwei Yin, Michaël Gharbi, Richard Zhang, Eli Shechtman, Frédo Durand, William T. "
    "Freeman, Taesung Park",
    "One-step Diffusion with Distribution Matching Distillation",
    "CVPR",
    2024,
)
DMD2 = Paper(
    "Tianwei Yin, Michaël Gharbi, Taesung Park, Richard Zhang, Eli Shechtman, Frédo Durand, "
    "William T. Freeman",
    "Improved Distribution Matching Distillation for Fast Image Synthesis",
    "NeurIPS",
    2024,
)


@cites(DMD, DMD2)
class DistributionMatching(ScoreDistillation):
    """DMD2: samples move along the difference of the teacher's score and the fake one."""

    Config = DistributionMatchingConfig

    def student_loss(self, x0: Tensor, cond: Batch, told: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            xt, t, _ = self.noised(x0)
            teacher, fake = self.taught(cond)(xt, t, cond).x0, self.fake(xt, t, told).x0
            step = (teacher - fake) / expand(distance(x0, teacher), x0)  # DMD, Eq. 7 and 8
        self.shown = x0, (x0 + step).detach()
        return {"loss": mean_square(x0 - self.shown[1]).mean() / 2}

"""Score identity distillation: one-step students without data.

Zhou, Zheng, Wang, Yin & Huang, "Score identity Distillation", ICML 2024, Algorithm 1. Teachers may
be of diffusion or of flow: both are read as x0 along the student's path (Zhou et al. 2025, "Score
distillation of flow matching models").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gendiff.methods.base import Batch
from gendiff.methods.score_distillation import (
    ScoreDistillation,
    ScoreDistillationConfig,
    distance,
)
from gendiff.papers import Paper, cites
from gendiff.paths import Path


@dataclass(frozen=True)
class ScoreIdentityConfig(ScoreDistillationConfig):
    name: str = "score_identity"
    alpha: float = 1.0
    """Weight of the squared difference of the scores; 1.2 is the paper's best on CIFAR-10."""


SID = Paper(
    "Mingyuan Zhou, Huangjie Zheng, Zhendong Wang, Mingzhang Yin, Hai Huang",
    "Score identity Distillation: Exponentially Fast Distillation of Pretrained Diffusion Models "
    "for One-Step Generation",
    "ICML",
    2024,
)


@cites(SID)
class ScoreIdentity(ScoreDistillation):
    """SiD: lower the Fisher divergence from the teacher, through both scores."""

    Config = ScoreIdentityConfig

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        if not 0 <= config.alpha < math.inf:
            raise ValueError(f"alpha: {config.alpha} must be at least 0 and finite")
        if config.perceptual.weight:
            raise ValueError(f"perceptual.weight: {config.name} has no goal to compare with")

    def student_loss(self, x0: Tensor, cond: Batch, told: Batch) -> dict[str, Tensor]:
        xt, t, _ = self.noised(x0)
        # gradients pass through both networks into x_t: here the teacher needs a graph
        teacher, fake = self.taught(cond)(xt, t, cond).x0, self.fake(xt, t, told).x0
        self.shown = x0, x0.detach()  # it is drawn to no point
        apart = teacher - fake
        terms = apart * ((teacher - x0) - self.config.alpha * apart)  # Eq. 23
        return {"loss": (terms.flatten(1).mean(1) / distance(x0, teacher)).mean()}

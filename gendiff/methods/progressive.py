"""Progressive distillation: one student step learns to land where two teacher steps do.

Salimans & Ho, "Progressive Distillation for Fast Sampling of Diffusion Models", ICLR 2022,
Algorithm 2. One halving a stage; a chain of stages makes the rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from gendiff.denoiser import Denoiser, along
from gendiff.guidance import guide
from gendiff.loss_weights import mean_square, x0_weight
from gendiff.methods.base import Batch, Method, MethodConfig
from gendiff.paths import Path, expand


@dataclass(frozen=True)
class ProgressiveConfig(MethodConfig):
    name: str = "progressive"
    student_steps: int = 8
    """Steps of the student; the teacher is run at twice as many."""
    weighting: Literal["truncated_snr", "snr_plus_one"] = "truncated_snr"
    """Weight of the squared x0 error: max(SNR, 1) or SNR + 1 (their Section 4)."""
    guidance: float = 0.0
    """Guidance weight of the teacher."""


class Progressive(Method):
    """Progressive distillation: the student takes half the steps of its teacher."""

    Config = ProgressiveConfig
    roles = ("student", "teacher")
    frozen = ("teacher",)
    even_times = True
    samplers = ("ddim",)
    student: Denoiser
    teacher: Denoiser

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        if config.student_steps < 1:
            raise ValueError(f"student_steps: {config.student_steps}; a student takes at least 1")

    @classmethod
    def steps_range(cls, config: Any) -> tuple[int, int]:
        # below half its steps a student is no better than its teacher there
        return max(1, config.student_steps // 2), config.student_steps

    @torch.no_grad()
    def teach(self, xt: Tensor, t: Tensor, s: Tensor, cond: Batch) -> Tensor:
        """The x0 that takes a student from t to s as two teacher steps do (their Algorithm 2)."""
        middle, path = (s + t) / 2, self.path
        teacher = guide(along(self.teacher, path), self.config.guidance)
        xm = path.step(teacher(xt, t, cond).x0, xt, middle, t)
        xs = path.step(teacher(xm, middle, cond).x0, xm, s, middle)
        ratio = expand(path.sigma(s) / path.sigma(t), xt)
        alpha_s, alpha_t = expand(path.alpha(s), xt), expand(path.alpha(t), xt)
        return (xs - ratio * xt) / (alpha_s - ratio * alpha_t)

    def loss(self, batch: Batch, role: str) -> dict[str, Tensor]:
        steps, path = self.config.student_steps, self.path
        x0, cond = batch["x0"], self.condition(batch)
        i = self.draw.integers(1, steps + 1)
        t, s = path.t_max * i / steps, path.t_max * (i - 1) / steps
        xt = path.add_noise(x0, self.draw.normal(*self.shape), t)
        error = self.student(xt, t, cond).x0 - self.teach(xt, t, s, cond)
        weight = x0_weight(self.config.weighting, path.log_snr(t).exp())
        return {"loss": (weight * mean_square(error)).mean()}

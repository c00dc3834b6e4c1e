"""What score distillation shares: a fake score that follows the samples of a few-step student.

A student makes x0 in ``student_steps`` calls; the ``fake`` learns to denoise what it makes, as the
frozen ``teacher`` denoises data. Where the two differ at a noised sample, the student is told how
to move it. `score_identity` and `distribution_matching` say how.

With several steps the fake is told, as its condition ``second_time``, the noise level from which a
sample was made. The papers' is not, and so it asks only that the samples of all steps together are
right: on mixtures the first steps then leave out modes that the last ones make too often.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gendiff.denoiser import Condition, Denoiser
from gendiff.errors import check_count
from gendiff.loss_weights import mean_square
from gendiff.methods.base import Batch
from gendiff.methods.student import Distilled, DistilledConfig
from gendiff.paths import Path, expand
from gendiff.samplers import MOST_STEPS
from gendiff.samplers.steps import Noise
from gendiff.training_times import own_times

LEAST_SIGNAL = 0.05
"""Least alpha at which x0 is read from eps: it is divided by it."""


@dataclass(frozen=True)
class ScoreDistillationConfig(DistilledConfig):
    student_steps: int = 1
    """Calls in which the student makes a sample."""
    fake_batches: int = 1
    """Batches of the fake score for each one of the student."""
    start: float = 1.0
    """Share of the path at which sampling starts from pure noise; below 1 where the prediction says
    little of x0 at the end, as eps does (SiD starts at sigma 2.5, DMD2 on Stable Diffusion XL at
    step 399 of 1000)."""


class ScoreDistillation(Distilled):
    """Base of methods with a fake score."""

    Config = ScoreDistillationConfig
    roles = ("student", "fake", "teacher")
    samplers = ("consistency",)
    even_times = True
    fake: Denoiser

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        check_count("student_steps", config.student_steps, 1, MOST_STEPS)
        if config.fake_batches < 1:
            raise ValueError(f"fake_batches: {config.fake_batches} must be at least 1")
        if config.critic_batches > 1:
            raise ValueError("critic_batches: fake_batches gives the critic its batches here")
        if not 0 < config.start <= 1:
            raise ValueError(f"start: {config.start} must be above 0 and at most 1")
        kept = float(path.alpha(torch.tensor(config.start * path.t_max)))
        if config.prediction in ("eps", "score") and kept < LEAST_SIGNAL:
            raise ValueError(
                f"prediction: {config.prediction} says too little of x0 at the end of the path, "
                f"where alpha is {kept:.2g}; lower start, or use v"
            )

    @classmethod
    def steps_range(cls, config: Any) -> tuple[int, int]:
        return config.student_steps, config.student_steps

    @classmethod
    def check_networks(cls, config: Any, networks: Mapping[str, Any]) -> None:
        super().check_networks(config, networks)
        mine, theirs = networks["student"].conditions, networks["fake"].conditions
        if ("label" in mine) != ("label" in theirs):
            raise ValueError("fake.conditions: must have label if student.conditions has it")

    @classmethod
    def tells(cls, role: str, config: Any) -> dict[str, int]:
        several = role == "fake" and config.student_steps > 1
        return {**super().tells(role, config), **({"second_time": 1} if several else {})}

    def start(self, n: int, cond: Condition, noise: Noise, role: str) -> tuple[Tensor, float]:
        t = torch.tensor(self.config.start * self.path.t_max)
        return self.path.sigma(t).to(self.device) * noise(-1), float(t)

    def turns(self, batches_done: int) -> tuple[str, ...]:
        if (batches_done + 1) % self.config.fake_batches:
            return tuple(role for role in self.learning if role != "student")
        return tuple(sorted(self.learning, key=lambda role: role == "student"))

    def draw_sample(self, cond: Batch) -> tuple[Tensor, Batch]:
        """The student's x0 in one of its steps, at an x_t that it reached itself.

        Yin et al. 2024, "Improved Distribution Matching Distillation", Section 4.5; of one step,
        that is the sample of noise.

        Returns:
            x0, (B, *shape), and the condition that the fake is told.
        """
        path, steps = self.path, self.config.student_steps
        k = self.draw.integers(1, steps + 1)
        times = torch.linspace(0, self.config.start * path.t_max, steps + 1, device=self.device)
        x = xt = path.sigma(times[-1]) * self.draw.normal(*self.shape)
        with torch.no_grad():
            for i in range(steps, 1, -1):  # as `gendiff.samplers.consistency`
                x0 = self.student(x, times[i], cond).x0
                x = path.add_noise(x0, self.draw.normal(*self.shape), times[i - 1].expand(len(x)))
                xt = torch.where(expand(k < i, x), x, xt)
        told = {"second_time": path.noise_level(times[k])} if steps > 1 else {}
        return self.student(xt, times[k], cond).x0, {**cond, **told}

    def imagine(self, batch: Batch) -> Tensor:
        return self.draw_sample(self.condition(batch))[0]

    def noised(self, x0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x_t at the path's own training times, with t and eps."""
        t = own_times(self.path, self.draw)
        eps = self.draw.normal(*self.shape)
        return self.path.add_noise(x0, eps, t), t, eps

    def loss(self, batch: Batch, role: str) -> dict[str, Tensor]:
        cond = self.condition(batch)
        if role == "student":
            x0, told = self.draw_sample(cond)
            return self.student_loss(x0, cond, told)
        with torch.no_grad():
            x0, told = self.draw_sample(cond)
        xt, t, eps = self.noised(x0)
        output = self.fake(xt, t, told).output
        goal = self.fake.reading.target(x0, eps, t, self.path)
        return {"loss": mean_square(output - goal).mean()}

    def student_loss(self, x0: Tensor, cond: Batch, told: Batch) -> dict[str, Tensor]:
        """The student's loss on samples that carry its gradient.

        Args:
            cond, told: the conditions of the teacher, and of the fake.
        """
        raise NotImplementedError  # the one thing in which the methods differ


def distance(x0: Tensor, teacher: Tensor) -> Tensor:
    """Mean absolute difference of a sample and the teacher's x0, (B,): the scale of a step."""
    return (x0 - teacher).detach().abs().flatten(1).mean(1).clamp(min=1e-5)

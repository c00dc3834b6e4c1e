"""Progressive distillation: one student step learns to land where two teacher steps do.

Salimans & Ho, "Progressive Distillation for Fast Sampling of Diffusion Models", ICLR 2022,
Algorithm 2. One halving a stage; a chain of stages makes the rounds.

The student's steps are those of its path's own grid: even in t, as theirs; on `ve` and `edm` even
in log-SNR or in sigma^(1/7), and then they end at ``t_min``, as in the code of Song et al. 2023.
The teacher may have any path, prediction and network: it is read along the student's path.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from gendiff.errors import check_count
from gendiff.loss_weights import mean_square, x0_weight
from gendiff.methods.base import Batch
from gendiff.methods.student import Distilled, DistilledConfig
from gendiff.papers import PROGRESSIVE, cites
from gendiff.paths import Path, expand
from gendiff.samplers import MOST_STEPS, time_grid
from gendiff.sampling import Sampling


@dataclass(frozen=True)
class ProgressiveConfig(DistilledConfig):
    name: str = "progressive"
    student_steps: int = 8
    """Steps of the student; the teacher is run at twice as many."""
    weighting: Literal["snr", "truncated_snr", "snr_plus_one"] = "truncated_snr"
    """Weight of the squared x0 error: SNR, max(SNR, 1) or SNR + 1 (their Section 4)."""


@cites(PROGRESSIVE)
class Progressive(Distilled):
    """Progressive distillation: the student takes half the steps of its teacher."""

    Config = ProgressiveConfig
    samplers = ("ddim",)
    times: Tensor
    """Of the teacher's steps, clean to noisy, (2 student_steps + 1,); every other the student's."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        times = time_grid(self.path, 2 * self.config.student_steps, jump=False).flip(0)
        self.register_buffer("times", times.float(), persistent=False)

    @classmethod
    def teaches(cls, role: str) -> bool:
        return role in ("student", "ema")  # its steps are followed, and halved again

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        check_count("student_steps", config.student_steps, 1, MOST_STEPS)
        try:
            time_grid(path, 2 * config.student_steps, jump=False)
        except ValueError as error:  # a chain shorter than the teacher's steps
            raise ValueError(f"student_steps: its teacher's {error}") from None
        if config.weighting == "snr" and path.alpha(torch.tensor(path.t_max)) == 0:
            raise ValueError(
                f"weighting: snr is 0 where {type(path).__name__} starts, whose alpha ends at 0"
            )

    @classmethod
    def sampling(cls, config: Any, path: Path, text: str | None, steps: int | None) -> Sampling:
        sampling = replace(Sampling.parse(text or cls.samplers[0], cls.samplers), jump=False)
        if steps is not None:
            sampling.check(path, steps, own_grid=True)
        return sampling

    @classmethod
    def steps_range(cls, config: Any) -> tuple[int, int]:
        # below half its steps a student is no better than its teacher there
        return max(1, config.student_steps // 2), config.student_steps

    @torch.no_grad()
    def teach(self, xt: Tensor, t: Tensor, middle: Tensor, s: Tensor, cond: Batch) -> Tensor:
        """The x0 that takes a student from t to s as two teacher steps do (their Algorithm 2).

        At s = 0, where sigma is 0, it is the teacher's x0 at the middle, as it should be.
        """
        path = self.path
        teacher = self.taught(cond)
        xm = path.step(teacher(xt, t, cond).x0, xt, middle, t)
        xs = path.step(teacher(xm, middle, cond).x0, xm, s, middle)
        ratio = expand(path.sigma(s) / path.sigma(t), xt)
        alpha_s, alpha_t = expand(path.alpha(s), xt), expand(path.alpha(t), xt)
        return (xs - ratio * xt) / (alpha_s - ratio * alpha_t)

    def loss(self, batch: Batch, role: str) -> dict[str, Tensor]:
        path, times = self.path, self.times
        x0, cond = batch["x0"], self.condition(batch)
        i = 2 * self.draw.integers(1, self.config.student_steps + 1)
        t, middle, s = times[i], times[i - 1], times[i - 2]
        xt = path.add_noise(x0, self.draw.normal(*self.shape), t)
        made, goal = self.student(xt, t, cond).x0, self.teach(xt, t, middle, s, cond)
        self.shown = made, goal
        weight = x0_weight(self.config.weighting, path.log_snr(t).exp())
        return {"loss": (weight * mean_square(made - goal)).mean()}

"""Easy consistency tuning (ECT): from diffusion to consistency by bringing r ever closer to t.

Geng, Pokle, Luo, Lin & Kolter, "Consistency Models Made Easy", ICLR 2025, Algorithm 1, in the form
of their code. It starts from the weights of a diffusion model: at r = 0 its loss is diffusion's.

Their t and r are noise levels sigma of x0 + sigma eps: here sigma / alpha, on any path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gendiff.curricula import ect_earlier, ect_ratio
from gendiff.loss_weights import pseudo_huber
from gendiff.methods.base import Batch
from gendiff.methods.neighbours import Jumping, check_normal
from gendiff.methods.student import StudentConfig
from gendiff.papers import Paper, cites
from gendiff.paths import Path


@dataclass(frozen=True)
class EasyConsistencyConfig(StudentConfig):
    name: str = "easy_consistency"
    stages: int = 8
    """Equal parts of training, with r / t nearing 1 - 1 / q, 1 - 1 / q^2, ..."""
    q: float = 2.0
    """How much closer r comes to t with each stage; 256 with one stage in their longer runs."""
    k: float = 8.0
    """How much farther r is at small t; 0 for a constant ratio."""
    b: float = 1.0
    """How fast that fades as t grows."""
    times_mean: float = -1.1
    """Of the normal that ln t is drawn from."""
    times_std: float = 2.0
    """Of the normal that ln t is drawn from."""
    huber_c: float = 0.0
    """c of the pseudo-Huber distance sqrt(|error|^2 + c^2) - c; 0 for the norm."""


ECT = Paper(
    "Zhengyang Geng, Ashwini Pokle, William Luo, Justin Lin, J. Zico Kolter",
    "Consistency Models Made Easy",
    "ICLR",
    2025,
)


@cites(ECT)
class EasyConsistency(Jumping):
    """Easy consistency tuning (ECT): a diffusion model turned into a consistency model."""

    Config = EasyConsistencyConfig

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        if config.stages < 1:
            raise ValueError(f"stages: {config.stages} must be at least 1")
        if not 1 < config.q < math.inf or ect_ratio(config.stages - 1, config.q) == 1:
            raise ValueError(f"q: {config.q:g} must be above 1, and q^stages below 1e16")
        for name in ("k", "b", "huber_c"):
            if not 0 <= getattr(config, name) < math.inf:
                raise ValueError(f"{name}: {getattr(config, name)} must be at least 0 and finite")
        check_normal(config)

    def stage_now(self) -> int:
        """From 0 on."""
        stages = self.config.stages
        return min(self.batches_done * stages // self.max_steps, stages - 1)

    def draw_levels(self) -> tuple[Tensor, Tensor]:
        """Their t and r, noise levels sigma / alpha, each (B,) float64."""
        config, stage = self.config, self.stage_now()
        noisiest = math.exp(-self.path.log_snr_range[0] / 2)
        log_t = config.times_mean + config.times_std * self.draw.normal().double()
        t = log_t.exp().clamp(max=noisiest)
        return t, ect_earlier(t, stage, config.q, config.k, config.b)

    def loss(self, batch: Batch, role: str) -> dict[str, Tensor]:
        path, (level, earlier) = self.path, self.draw_levels()
        x0, cond = batch["x0"], self.condition(batch)
        eps = self.draw.normal(*self.shape)
        t, r = (path.inverse_log_snr(-2 * sigma.log()).to(x0) for sigma in (level, earlier))
        with self.as_target():
            goal = self.student(path.add_noise(x0, eps, r), r, cond).x0  # x0 itself at r = 0
        made = self.student(path.add_noise(x0, eps, t), t, cond).x0
        self.shown = made, goal
        weight = (1 / (level - earlier)).to(made)
        loss = (weight * pseudo_huber(made - goal, self.config.huber_c)).mean()
        return {"loss": loss, "stage": torch.tensor(float(self.stage_now()))}

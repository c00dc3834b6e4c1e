"""Diffusion: learn to denoise at every noise level.

Ho, Jain & Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020, Algorithm 1, in
continuous time (Song et al. 2021) on any Gaussian path. docs/training.md says which choices of
path, prediction, times and weight are which papers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gendiff.denoiser import Denoiser
from gendiff.loss_weights import Loss, Weight, check_weight, output_weight, penalty
from gendiff.methods.base import Batch, Method, MethodConfig
from gendiff.papers import DDPM, SCORE_SDE, cites
from gendiff.paths import Path
from gendiff.training_times import MEANS, LossSecondMoment, TimesKind, draw_times

BINS = 100
"""Of the times drawn by importance, where the path is continuous."""


@dataclass(frozen=True)
class DiffusionConfig(MethodConfig):
    name: str = "diffusion"
    times: TimesKind | None = None
    """How times are drawn; none takes the path's own way."""
    times_mean: float | None = None
    """Of the normal behind log_normal (-1.2 unless given) and logit_normal (0)."""
    times_std: float | None = None
    """Of the normal behind log_normal (1.2 unless given) and logit_normal (1)."""
    weight: Weight = "simple"
    """Weight of the squared error by noise level."""
    min_snr_gamma: float = 5.0
    """Cap of the min_snr weight."""
    loss: Loss = "squared"
    """What becomes of the error."""
    label_dropout: float = 0.1
    """Share of labels hidden in training, so that the model learns guidance."""
    native: str | None = None
    """Path that the student's network knows, if not the method's own, and on whose terms its output
    is read: weights trained there begin as the same function here."""


@cites(DDPM, SCORE_SDE)
class Diffusion(Method):
    """Diffusion: regress the prediction at random times."""

    Config = DiffusionConfig
    shards = True
    student: Denoiser

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.times: Any = self.config.times or self.path.training_times
        if self.times == "importance":
            self.importance = LossSecondMoment(self.path.steps or BINS)

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        check_weight(config.weight, config.times or path.training_times, path)
        if config.times_mean is not None and not math.isfinite(config.times_mean):
            raise ValueError(f"times_mean: {config.times_mean} must be finite")
        for name in ("times_std", "min_snr_gamma"):
            value = getattr(config, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}: {value} must be positive and finite")

    def couple(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Pairs of data and noise, each (B, ...): independent here."""
        return batch["x0"], self.draw.normal(*self.shape)

    def draw_times(self) -> tuple[Tensor, Tensor | None]:
        """Times, (B,), and the weights that undo what they favour."""
        if self.times == "importance":
            return self.importance.draw(self.path, self.draw)
        mean, std = MEANS.get(self.times, (0.0, 1.0))
        mean = mean if self.config.times_mean is None else self.config.times_mean
        std = std if self.config.times_std is None else self.config.times_std
        return draw_times(self.times, self.path, self.draw, mean, std), None

    def loss(self, batch: Batch, role: str) -> dict[str, Tensor]:
        config, path, student = self.config, self.path, self.student
        x0, eps = self.couple(batch)
        t, undo = self.draw_times()
        output = student(path.add_noise(x0, eps, t), t, self.condition(batch)).output
        reading, gamma = student.reading, config.min_snr_gamma
        weight = output_weight(config.weight, reading, path, t, gamma)
        error = penalty(config.loss, output - reading.target(x0, eps, t, path), weight)
        self.seen.append((t, error.detach()))
        return {"loss": (error if undo is None else error * undo).mean()}

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Losses are remembered once a batch: its parts are drawn alike, and a checkpoint, which
        is taken right after, holds them.
        """
        super().training_step(batch, batch_idx)
        if self.times == "importance":
            seen = [torch.cat(parts) for parts in zip(*self.seen, strict=True)]
            every: Any = self.all_gather(seen)  # so that all ranks remember the same
            t, losses = (part.flatten() for part in every)
            self.importance.update(self.path, t, losses)

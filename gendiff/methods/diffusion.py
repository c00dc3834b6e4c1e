"""Diffusion: learn to denoise at every noise level.

Ho, Jain & Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020, Algorithm 1, in
continuous time (Song et al. 2021) on any Gaussian path; with a linear path and velocity
prediction it is rectified flow (Liu et al. 2023, Eq. 1).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gendiff.denoiser import Denoiser, target
from gendiff.methods.base import Batch, Method, MethodConfig, mean_square

FIRST = 1e-5
"""Share of the path's range at which the training times begin."""


@dataclass(frozen=True)
class DiffusionConfig(MethodConfig):
    name: str = "diffusion"
    label_dropout: float = 0.1
    """Share of labels hidden in training, so that the model learns guidance."""


class Diffusion(Method):
    """Diffusion and flow matching: regress the prediction at uniform times."""

    Config = DiffusionConfig
    student: Denoiser

    def couple(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Pairs of data and noise, each (B, ...): independent here."""
        return batch["x0"], self.draw.normal(*self.shape)

    def loss(self, batch: Batch, role: str) -> dict[str, Tensor]:
        x0, eps = self.couple(batch)
        # some velocities are infinite at t = 0 itself
        t = self.draw.uniform().clamp(min=FIRST) * self.path.t_max
        xt = self.path.add_noise(x0, eps, t)
        prediction = self.student(xt, t, self.condition(batch))
        wanted = target(prediction.kind, x0, eps, t, self.path)
        return {"loss": mean_square(prediction.output - wanted).mean()}

"""Paths that are continuous in t and keep x_t of about unit size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gendiff.papers import FLOW_MATCHING, IDDPM, PROGRESSIVE, RECTIFIED_FLOW, SCM, SCORE_SDE, cites
from gendiff.paths.base import Path


@dataclass(frozen=True)
class VPConfig:
    name: str = "vp"
    beta_min: float = 0.1
    """Noise rate at t = 0."""
    beta_max: float = 20.0
    """Noise rate at t = 1."""


@cites(SCORE_SDE)
class VP(Path):
    """Variance preserving with a linear noise rate, continuous in t (Song et al. 2021, Eq. 32)."""

    Config = VPConfig

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0) -> None:
        if not 0 < beta_min < beta_max < math.inf:
            raise ValueError(f"beta_min {beta_min} must be positive and below beta_max {beta_max}")
        self.beta_min, self.beta_max = beta_min, beta_max

    def _log_alpha(self, t: Tensor) -> Tensor:
        return -0.25 * t**2 * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def alpha(self, t: Tensor) -> Tensor:
        return self._log_alpha(t).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(2 * self._log_alpha(t))).sqrt()

    def d_alpha(self, t: Tensor) -> Tensor:
        rate = self.beta_min + t * (self.beta_max - self.beta_min)
        return -0.5 * rate * self.alpha(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return -self.alpha(t) * self.d_alpha(t) / self.sigma(t)

    def inverse_log_snr(self, log_snr: Tensor) -> Tensor:
        # -2 log alpha = softplus(-log_snr) is a quadratic in t
        c, slope = torch.nn.functional.softplus(-log_snr), self.beta_max - self.beta_min
        return 2 * c / (self.beta_min + (self.beta_min**2 + 2 * slope * c).sqrt())


@dataclass(frozen=True)
class CosineConfig:
    name: str = "cosine"


@cites(IDDPM, PROGRESSIVE)
class Cosine(Path):
    """Variance preserving, alpha = cos(pi t / 2) (Salimans & Ho 2022, Section 2)."""

    Config = CosineConfig

    def alpha(self, t: Tensor) -> Tensor:
        # sin of the complement, because cos(pi / 2) is not 0 in floating point
        return torch.sin((1 - t) * (math.pi / 2))

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(t * (math.pi / 2))

    def d_alpha(self, t: Tensor) -> Tensor:
        return -(math.pi / 2) * self.sigma(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return (math.pi / 2) * self.alpha(t)

    def inverse_log_snr(self, log_snr: Tensor) -> Tensor:
        return torch.atan(torch.exp(-log_snr / 2)) * (2 / math.pi)


@dataclass(frozen=True)
class LinearConfig:
    name: str = "linear"


@cites(RECTIFIED_FLOW, FLOW_MATCHING)
class Linear(Path):
    """Straight lines, x_t = (1 - t) x0 + t eps: rectified flow (Liu et al. 2023, t reversed)."""

    Config = LinearConfig

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def d_alpha(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def inverse_log_snr(self, log_snr: Tensor) -> Tensor:
        return torch.sigmoid(-log_snr / 2)


@dataclass(frozen=True)
class TrigConfig:
    name: str = "trig"
    sigma_data: float = 1.0
    """Standard deviation of the data; the noise has the same."""


@cites(SCM)
class Trig(Path):
    """A quarter turn, x_t = cos(t) x0 + sin(t) z with z ~ N(0, sigma_data^2) (Lu & Song 2025).

    TrigFlow's t is ours, from 0 to pi / 2: the arctangent of EDM's sigma over sigma_data.
    """

    Config = TrigConfig
    t_max = math.pi / 2

    def __init__(self, sigma_data: float = 1.0) -> None:
        if not 0 < sigma_data < math.inf:
            raise ValueError(f"sigma_data: {sigma_data} must be positive and finite")
        self.sigma_data = sigma_data

    def alpha(self, t: Tensor) -> Tensor:
        # pi / 2 rounded to single precision lies beyond pi / 2
        return torch.sin((self.t_max - t).clamp(min=0))

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_data * torch.sin(t)

    def d_alpha(self, t: Tensor) -> Tensor:
        return -torch.sin(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return self.sigma_data * self.alpha(t)

    def inverse_log_snr(self, log_snr: Tensor) -> Tensor:
        return torch.atan(torch.exp(-log_snr / 2) / self.sigma_data)

"""Gaussian paths from data to noise: ``x_t = alpha(t) x0 + sigma(t) eps``.

Time: t = 0 is data and t grows with noise, for every path. How papers run:

========================  =====================================================
rectified flow            t = 0 is noise, t = 1 data: their t is our 1 - t
DDPM, iDDPM               integer t from 0, where 0 is already one noising step
progressive distillation  as here; ``log_snr`` is the full log(alpha^2 / sigma^2)
DPM-Solver                lambda is *half* of our ``log_snr``
========================  =====================================================
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

MAX_LOG_SNR = 20.0


def expand(t: Tensor, x: Tensor) -> Tensor:
    """View t, (B,) or (), so that it multiplies x, (B, ...)."""
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim)) if t.ndim else t


class Path(ABC):
    """``x_t = alpha(t) x0 + sigma(t) eps``; times are tensors in [0, ``t_max``]."""

    Config: type[Any]
    t_max: float = 1.0

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # compared by value, never a key

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Scale of the data."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise."""

    @abstractmethod
    def d_alpha(self, t: Tensor) -> Tensor:
        """Time derivative of alpha."""

    @abstractmethod
    def d_sigma(self, t: Tensor) -> Tensor:
        """Time derivative of sigma."""

    @abstractmethod
    def inverse_log_snr(self, log_snr: Tensor) -> Tensor:
        """The time at which the path has this log(alpha^2 / sigma^2)."""

    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2); +inf at t = 0, -inf where alpha is 0."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def noise_level(self, t: Tensor) -> Tensor:
        """What networks are told: the angle atan2(sigma, alpha) as a share of a right angle.

        In [0, 1], a function of the signal-to-noise ratio alone, finite at both ends; so a
        network trained on one path knows where it is on any other.
        """
        return torch.atan2(self.sigma(t), self.alpha(t)) * (2 / math.pi)

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t, for x0 and eps (B, ...) and t (B,)."""
        return expand(self.alpha(t), x0) * x0 + expand(self.sigma(t), x0) * eps

    def velocity(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """dx_t/dt at fixed x0 and eps."""
        return expand(self.d_alpha(t), x0) * x0 + expand(self.d_sigma(t), x0) * eps

    def transition(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """q(x_t | x_s) for s < t: the scale of x_s and the variance of the added noise."""
        scale = self.alpha(t) / self.alpha(s)
        return scale, self.sigma(t) ** 2 - scale**2 * self.sigma(s) ** 2

    def posterior(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q(x_s | x_t, x0) for s < t: weights of x0 and of x_t in the mean, and the variance.

        Source: Ho et al. 2020 (DDPM), Eq. 6 and 7, for any pair of times.
        """
        scale, variance = self.transition(s, t)
        share = variance / self.sigma(t) ** 2
        weight_xt = scale * self.sigma(s) ** 2 / self.sigma(t) ** 2
        return self.alpha(s) * share, weight_xt, self.sigma(s) ** 2 * share

    def step(self, x0: Tensor, xt: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Move x_t to time s along the line that x0 and x_t fix (DDIM with eta = 0).

        Source: Song et al. 2021 (DDIM), Eq. 12.
        """
        ratio = self.sigma(s) / self.sigma(t)
        return expand(self.alpha(s) - ratio * self.alpha(t), x0) * x0 + expand(ratio, x0) * xt


@dataclass(frozen=True)
class VPConfig:
    name: str = "vp"
    beta_min: float = 0.1
    """Noise rate at t = 0."""
    beta_max: float = 20.0
    """Noise rate at t = 1."""


class VP(Path):
    """Variance preserving with a linear noise rate, continuous in t (Song et al. 2021, Eq. 32)."""

    Config = VPConfig

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0) -> None:
        if not 0 < beta_min < beta_max:
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

"""What every Gaussian path has: ``x_t = alpha(t) x0 + sigma(t) eps``."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

MAX_LOG_SNR = 20.0
"""Beyond it, data or noise cannot be told apart from x_t in single precision."""

LEAST_LOG_SNR = -12.0
"""Where grids and draws over log-SNR start on paths that end in noise alone."""

SIGMA_MIN = 0.002
"""Noise, relative to the data, at which grids that would never reach t = 0 stop before it."""


def expand(t: Tensor, x: Tensor) -> Tensor:
    """View t, (B,) or (), so that it multiplies x, (B, ...)."""
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim)) if t.ndim else t


class Path(ABC):
    """``x_t = alpha(t) x0 + sigma(t) eps``; times are tensors in [0, ``t_max``].

    Attributes:
        t_max: where the noise ends.
        steps: of a discrete chain, whose times are the integers 0 to ``steps``; None where time
            is continuous.
        grid: the time grid that sampling takes unless another is asked for.
        training_times: how training draws its times unless told otherwise.
    """

    Config: type[Any]
    t_max: float = 1.0
    steps: int | None = None
    grid: str = "uniform"
    training_times: str = "uniform"

    @property
    def t_min(self) -> float:
        """Where sigma / alpha is 0.002: the last time before 0 of grids that need one."""
        return float(self.inverse_log_snr(torch.tensor(-2 * math.log(SIGMA_MIN)).double()))

    @property
    def log_snr_range(self) -> tuple[float, float]:
        """log-SNR at ``t_max`` and at ``t_min``; -12 for a start where alpha all but vanishes."""
        ends = torch.tensor([self.t_max, self.t_min], dtype=torch.float64)
        first, last = self.log_snr(ends).tolist()
        vanished = float(self.alpha(ends[0])) < math.exp(LEAST_LOG_SNR / 2)
        return (max(first, LEAST_LOG_SNR) if vanished else first), last

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

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
        # in float64: of float32 its last bit depends on how a batch is split between processes
        sigma = self.sigma(t)
        angle = torch.atan2(sigma.double(), self.alpha(t).double())
        return (angle * (2 / math.pi)).to(sigma.dtype)

    def input_scale(self, t: Tensor) -> Tensor | None:
        """Factor that brings x_t to about unit size before a network sees it; None for 1."""
        return None

    def size(self, t: Tensor) -> Tensor:
        """sqrt(alpha^2 + sigma^2): the size of x_t for data of unit variance."""
        return (self.alpha(t) ** 2 + self.sigma(t) ** 2).sqrt()

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
        before, after = self.sigma(s) ** 2, self.sigma(t) ** 2
        share = variance / after
        return self.alpha(s) * share, scale * before / after, before * share

    def step(self, x0: Tensor, xt: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Move x_t to time s along the line that x0 and x_t fix (DDIM with eta = 0).

        Source: Song et al. 2021 (DDIM), Eq. 12.
        """
        ratio = self.sigma(s) / self.sigma(t)
        return expand(self.alpha(s) - ratio * self.alpha(t), x0) * x0 + expand(ratio, x0) * xt


def carry(t: Tensor, path: Path, other: Path) -> tuple[Tensor, Tensor]:
    """The time of another path with the same signal-to-noise ratio, and the factor on x_t."""
    dtype = t.dtype if t.is_floating_point() else torch.float64
    t = t.double()  # as for `Path.noise_level`
    log_snr = path.log_snr(t).clamp(-MAX_LOG_SNR, MAX_LOG_SNR)
    there = other.inverse_log_snr(log_snr).clamp(max=other.t_max)
    return there.to(dtype), (other.size(there) / path.size(t)).to(dtype)

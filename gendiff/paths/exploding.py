"""Variance-exploding paths, x_t = x0 + t eps: time is the noise's standard deviation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gendiff.papers import EDM_PAPER, SCORE_SDE, cites
from gendiff.paths.base import Path


@dataclass(frozen=True)
class VEConfig:
    name: str = "ve"
    sigma_min: float = 0.01
    """Last noise level before the data, in units of the data."""
    sigma_max: float = 50.0
    """Noise level at which sampling starts, in units of the data."""


@cites(SCORE_SDE)
class VE(Path):
    """Variance exploding, noise levels spaced geometrically (Song et al. 2021, Appendix C).

    Their sigma(t), with t from 0 to 1, is our t itself, from 0 to ``sigma_max``.
    """

    Config = VEConfig
    grid = "log_snr"
    training_times = "log_snr"

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0) -> None:
        if not 0 < sigma_min < sigma_max < math.inf:
            raise ValueError(
                f"sigma_min: {sigma_min} must be positive and below sigma_max, {sigma_max}"
            )
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.t_max = sigma_max

    @property
    def t_min(self) -> float:
        """The smallest noise level."""
        return self.sigma_min

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def d_alpha(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def inverse_log_snr(self, log_snr: Tensor) -> Tensor:
        return torch.exp(-log_snr / 2)

    def input_scale(self, t: Tensor) -> Tensor | None:
        return (1 + t**2).rsqrt()


@dataclass(frozen=True)
class EDMConfig(VEConfig):
    name: str = "edm"
    sigma_min: float = 0.002
    sigma_max: float = 80.0


@cites(EDM_PAPER)
class EDM(VE):
    """EDM's range of noise levels, drawn log-normally and sampled with rho = 7 (Karras 2022)."""

    Config = EDMConfig
    grid = "karras"
    training_times = "log_normal"

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0) -> None:
        super().__init__(sigma_min, sigma_max)

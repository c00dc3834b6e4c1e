"""Discrete variance-preserving chains, and the spaced subsets that they are sampled on.

Our times are the integers 0 to T with alpha_bar(0) = 1, so t = 0 is data. DDPM, iDDPM and TDPM
count from 0, where 0 is already one noising step: their index is our t - 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from gendiff.papers import DDPM, IDDPM, cites
from gendiff.paths.base import Path

MAX_STEPS = 1_000_000
"""Longest chain: its table is held in memory."""

MAX_BETA = 0.999
"""Cap of the cosine schedule's betas (Nichol & Dhariwal 2021, Section 3.2)."""


class DiscreteVP(Path):
    """A variance-preserving chain of T steps, alpha(t)^2 = prod of (1 - beta) (Ho et al. 2020).

    Between the integers log alpha runs straight, for reading the chain's denoiser along another
    path; the chain itself has no derivative, and so no ODE.

    Args:
        betas: (T,), noise variances of the steps, each in (0, 1).

    Raises:
        ValueError: no betas, or one outside (0, 1).
    """

    def __init__(self, betas: Sequence[float] | Tensor) -> None:
        betas = torch.as_tensor(betas, dtype=torch.float64).cpu()
        if betas.ndim != 1 or not len(betas) or not ((betas > 0) & (betas < 1)).all():
            raise ValueError("betas: must be one or more numbers between 0 and 1")
        self.steps = len(betas)
        self.t_max = float(self.steps)
        table = torch.cat([betas.new_zeros(1), torch.log1p(-betas).cumsum(0) / 2])
        self._last = float(table[-1])
        self._log_alphas = {torch.device("cpu"): table}

    def __eq__(self, other: object) -> bool:
        cpu = torch.device("cpu")
        return isinstance(other, DiscreteVP) and torch.equal(
            self._log_alphas[cpu], other._log_alphas[cpu]
        )

    @property
    def t_min(self) -> float:
        """The first step."""
        return 1.0

    def _table(self, like: Tensor) -> Tensor:
        if like.device not in self._log_alphas:
            table = self._log_alphas[torch.device("cpu")]
            self._log_alphas[like.device] = table.to(like.device)
        return self._log_alphas[like.device]

    def _log_alpha(self, t: Tensor) -> Tensor:
        table, t = self._table(t), t.double()
        before = t.floor().long()
        after = (before + 1).clamp(max=len(table) - 1)
        return torch.lerp(table[before], table[after], t - before)

    def alpha(self, t: Tensor) -> Tensor:
        return _typed(self._log_alpha(t).exp(), t)

    def sigma(self, t: Tensor) -> Tensor:
        return _typed((-torch.expm1(2 * self._log_alpha(t))).sqrt(), t)

    def d_alpha(self, t: Tensor) -> Tensor:
        raise ValueError("a discrete chain has no derivative; read its denoiser along VP")

    d_sigma = d_alpha

    def inverse_log_snr(self, log_snr: Tensor) -> Tensor:
        table = self._table(log_snr)
        wanted = (-softplus(-log_snr.double()) / 2).clamp(min=self._last)
        after = torch.searchsorted(-table, -wanted).clamp(1, len(table) - 1)
        low, high = table[after - 1], table[after]
        return _typed(after - 1 + (wanted - low) / (high - low), log_snr)


def _typed(value: Tensor, like: Tensor) -> Tensor:
    """In the type of times that have one; integers get double precision."""
    return value.to(like.dtype) if like.is_floating_point() else value


@dataclass(frozen=True)
class DiscreteLinearConfig:
    name: str = "discrete_linear"
    steps: int = 1000
    """Length T of the chain."""


@cites(DDPM)
class DiscreteLinear(DiscreteVP):
    """The chain of DDPM: betas from 1e-4 to 0.02 at T = 1000, scaled by 1000 / T (Ho 2020)."""

    Config = DiscreteLinearConfig

    def __init__(self, steps: int = 1000) -> None:
        if not 20 < steps <= MAX_STEPS:
            raise ValueError(f"steps: {steps}; the linear schedule takes 21 to {MAX_STEPS}")
        scale = 1000 / steps
        super().__init__(torch.linspace(1e-4 * scale, 0.02 * scale, steps, dtype=torch.float64))


@dataclass(frozen=True)
class DiscreteCosineConfig(DiscreteLinearConfig):
    name: str = "discrete_cosine"


@cites(IDDPM)
class DiscreteCosine(DiscreteVP):
    """The chain of improved DDPM: squared cosine, offset 0.008 (Nichol & Dhariwal 2021, Eq. 17)."""

    Config = DiscreteCosineConfig

    def __init__(self, steps: int = 1000) -> None:
        if not 1 <= steps <= MAX_STEPS:
            raise ValueError(f"steps: {steps}; a chain has 1 to {MAX_STEPS}")
        share = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        alpha_bar = torch.cos((share + 0.008) / 1.008 * torch.pi / 2) ** 2
        super().__init__((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=MAX_BETA))


def spaced(steps: int, spacing: str) -> list[int]:
    """Indices, from 0, of a subset of a chain's steps, ascending (Nichol & Dhariwal 2021, code).

    Args:
        steps: length T of the chain.
        spacing: ``ddimN`` for N steps at a constant stride (Song et al. 2021), or comma-separated
            counts: ``10,15,20`` cuts the chain into three parts of 10, 15 and 20 steps.

    Raises:
        ValueError: no integer stride gives N steps, or a part is asked for more than it has.
    """
    if spacing.startswith("ddim") and spacing[4:].isdecimal():
        wanted = int(spacing[4:])
        for stride in range(1, steps):
            if len(range(0, steps, stride)) == wanted:
                return list(range(0, steps, stride))
        raise ValueError(f"{spacing}: no stride takes {wanted} of {steps} steps")
    counts = [part.strip() for part in spacing.split(",")]
    if not all(part.isdecimal() and int(part) for part in counts):
        raise ValueError(f"{spacing!r}: write ddimN, or counts such as 10,15,20")
    chosen: list[int] = []
    start = 0
    for i, count in enumerate(map(int, counts)):
        size = steps // len(counts) + (i < steps % len(counts))
        if count > size:
            raise ValueError(f"{spacing}: a part of {size} steps has no {count} to take")
        fraction = (size - 1) / (count - 1) if count > 1 else 1.0
        place = 0.0  # added up, as the original does: products round elsewhere
        for _ in range(count):
            chosen.append(start + round(place))
            place += fraction
        start += size
    return chosen

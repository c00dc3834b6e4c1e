"""Time grids: steps + 1 times from noisy to clean."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

from gendiff.paths import MAX_LOG_SNR, Path


class Noise(Protocol):
    """Standard normal numbers of a step: like x, or (B, *shape) when a shape is given."""

    def __call__(self, step: int, *shape: int) -> Tensor: ...


def time_grid(
    path: Path,
    steps: int,
    kind: Literal["uniform", "log_snr"] = "uniform",
    t_end: float = 0.0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Times (steps + 1,), from ``path.t_max`` down to ``t_end``.

    Args:
        kind: evenly spaced in t, or in log-SNR (which needs ``t_end`` > 0; a start where alpha
            is 0 is moved to log-SNR -20).

    Raises:
        ValueError: fewer than one step, or a log-SNR grid that ends at t = 0.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; a sampler takes at least 1")
    start, end = torch.tensor([path.t_max, t_end], dtype=torch.float64)
    if kind == "uniform":
        times = torch.linspace(path.t_max, t_end, steps + 1, dtype=torch.float64)
    else:
        if t_end <= 0:
            raise ValueError("a log_snr grid needs t_end > 0")
        first, last = path.log_snr(start).clamp(min=-MAX_LOG_SNR), path.log_snr(end)
        share = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        times = path.inverse_log_snr(first + share * (last - first))
        times[-1] = t_end
    return times.to(device, dtype)


def fresh_noise(x: Tensor) -> Noise:
    """The default for ``noise``: PyTorch's global generator."""
    return lambda step, *shape: (
        torch.randn_like(x) if not shape else x.new_empty(len(x), *shape).normal_()
    )

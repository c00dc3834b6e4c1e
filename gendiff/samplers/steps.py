"""What all samplers share: a step's coefficients as plain numbers, and its noise.

Times are known before the loop, so every coefficient is computed once, in float64 on the CPU;
inside the loop only the network and the samples' own arithmetic run, on any device and in any
type, and nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from gendiff.paths import Path

F = TypeVar("F", bound=Callable[..., Any])


class Noise(Protocol):
    """Standard normal numbers of a step: like x, or (B, *shape) when a shape is given."""

    def __call__(self, step: int, *shape: int) -> Tensor: ...


def fresh_noise(x: Tensor) -> Noise:
    """The default for ``noise``: PyTorch's global generator."""
    return lambda step, *shape: (
        torch.randn_like(x) if not shape else x.new_empty(len(x), *shape).normal_()
    )


def continuous(sampler: F) -> F:
    """Mark a sampler that needs a path continuous in t: it differentiates the path, or visits
    times between those of its grid.
    """
    sampler.continuous = True  # type: ignore[attr-defined]  # a function takes any attribute
    return sampler


def needs_continuous_time(sampler: Any) -> bool:
    """Whether a sampler was so marked."""
    return getattr(sampler, "continuous", False)


def numbers(*values: Tensor) -> list[list[float]]:
    """Each tensor as a list."""
    return [value.tolist() for value in values]


def on_cpu(times: Tensor) -> Tensor:
    """Times for the coefficients: float64 on the CPU."""
    return times.detach().cpu().double()


def slopes(path: Path, times: Tensor) -> tuple[Tensor, Tensor]:
    """(u, w) of the probability flow ``dx/dt = u x + w x0`` at each time, in float64."""
    a, s, da, ds = (f(times) for f in (path.alpha, path.sigma, path.d_alpha, path.d_sigma))
    return ds / s, da - ds * a / s

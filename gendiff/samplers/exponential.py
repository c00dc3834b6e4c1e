"""Exponential integrators: DPM-Solver and DPM-Solver++.

Lu et al., "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around 10
Steps", NeurIPS 2022, and "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion
Probabilistic Models", 2022. Their lambda, log(alpha / sigma), is half of our ``log_snr``.

Both integrate the linear part of the flow exactly and expand what the network says, m, in lambda:
DPM-Solver m = eps, DPM-Solver++ m = x0. To first order both are DDIM. With h the step in lambda,
(k, S) = (h, sigma_s) for eps and (-h, alpha_s) for x0, the rest is

    x_s = DDIM - S [phi2(k) m' + phi3(k) m'' / 2],   m' and m'' per step, from differences.

A step that begins where alpha is 0 or ends where sigma is 0 spans an infinite h: it is DDIM's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from gendiff.denoiser import Condition, DenoiserLike, combine, x0_at
from gendiff.paths import Path

Expanded = Literal["eps", "x0"]
SHORT = 10
"""Multistep runs of fewer steps lower their order towards the end, as the authors' code does."""


def phi1(k: float) -> float:
    """e^k - 1."""
    return math.expm1(k)


def phi2(k: float) -> float:
    """(e^k - 1) / k - 1."""
    return math.expm1(k) / k - 1


def phi3(k: float) -> float:
    """(e^k - 1 - k) / k^2 - 1/2."""
    return (math.expm1(k) - k) / k**2 - 0.5


class Places:
    """The times a sampler visits, as plain numbers, and its arithmetic between two of them."""

    def __init__(self, path: Path, times: Tensor, expanded: Expanded) -> None:
        self.alphas, self.sigmas = path.alpha(times).tolist(), path.sigma(times).tolist()
        self.lambdas, self.expanded = (path.log_snr(times) / 2).tolist(), expanded

    def endless(self, t: int, s: int) -> bool:
        """Whether the step from place t to place s spans an infinite h."""
        return self.alphas[t] == 0 or self.sigmas[s] == 0

    def k(self, t: int, s: int) -> float:
        h = self.lambdas[s] - self.lambdas[t]
        return h if self.expanded == "eps" else -h

    def scale(self, s: int) -> float:
        """S."""
        return self.sigmas[s] if self.expanded == "eps" else self.alphas[s]

    def read(self, x: Tensor, x0: Tensor, t: int) -> Tensor:
        """m, from x0."""
        if self.expanded == "x0":
            return x0
        return combine(1 / self.sigmas[t], x, -self.alphas[t] / self.sigmas[t], x0)

    def ddim(self, x: Tensor, x0: Tensor, t: int, s: int) -> Tensor:
        """The first-order step."""
        kept = self.sigmas[s] / self.sigmas[t]
        return combine(kept, x, self.alphas[s] - kept * self.alphas[t], x0)


def singlestep(
    denoiser: DenoiserLike,
    x: Tensor,
    times: Tensor,
    cond: Condition | None,
    orders: Sequence[int],
    expanded: Expanded,
) -> Tensor:
    """One step an interval, of the order given for it: as many calls, evenly spaced in lambda.

    Source: DPM-Solver, Algorithms 1 and 2 (r1 = 1/2; r1 = 1/3, r2 = 2/3); DPM-Solver++,
    Algorithm 1.
    """
    path, lambdas = denoiser.path, (denoiser.path.log_snr(times) / 2).tolist()
    visited: list[float] = []
    sizes: list[int] = []
    for i, order in enumerate(orders):
        h = lambdas[i + 1] - lambdas[i]
        size = order if math.isfinite(h) else 1
        inner = [2 * (lambdas[i] + h * j / size) for j in range(1, size)]
        visited.append(float(times[i]))
        visited += path.inverse_log_snr(torch.tensor(inner, dtype=torch.float64)).tolist()
        sizes.append(size)
    every = torch.tensor([*visited, float(times[-1])], dtype=torch.float64)
    at, predict, t = Places(path, every, expanded), x0_at(denoiser, every), 0
    for size in sizes:
        s = t + size
        x0 = predict(t, x, cond)
        end = at.ddim(x, x0, t, s)
        if size > 1:
            m, near = at.read(x, x0, t), at.ddim(x, x0, t, t + 1)
            slope = at.read(near, predict(t + 1, near, cond), t + 1) - m
            if size == 2:
                end.add_(slope, alpha=-at.scale(s) * phi1(at.k(t, s)))
            else:
                far = at.ddim(x, x0, t, t + 2)
                far.add_(slope, alpha=-at.scale(t + 2) * 2 * phi2(at.k(t, t + 2)))
                slope = at.read(far, predict(t + 2, far, cond), t + 2) - m
                end.add_(slope, alpha=-at.scale(s) * 1.5 * phi2(at.k(t, s)))
        x, t = end, s
    return x


def multistep(
    denoiser: DenoiserLike,
    x: Tensor,
    times: Tensor,
    cond: Condition | None,
    order: int,
    expanded: Expanded,
) -> Tensor:
    """One call a step; the differences come from the steps before.

    Source: DPM-Solver++, Algorithm 2, and for order 3 the authors' code. The first steps have
    lower order, so the third order is second overall.
    """
    at, predict = Places(denoiser.path, times, expanded), x0_at(denoiser, times)
    steps = len(times) - 1
    past: list[Tensor] = []
    for t in range(steps):
        s = t + 1
        x0 = predict(t, x, cond)
        m, x = at.read(x, x0, t), at.ddim(x, x0, t, s)
        possible = min(order, t + 1, steps - t if steps < SHORT else order)
        if possible > 1 and not at.endless(t, s):
            k, scale = at.k(t, s), at.scale(s)
            r0 = at.k(t - 1, t) / k  # infinite after a start from alpha = 0: no difference
            slope = (m - past[-1]) / r0
            if possible == 2:
                x.add_(slope, alpha=-scale * phi1(k) / 2)
            else:
                r1 = at.k(t - 2, t - 1) / k
                bend = (slope - (past[-1] - past[-2]) / r1) / (r0 + r1)
                x.add_(slope.add_(bend, alpha=r0), alpha=-scale * phi2(k))
                x.add_(bend, alpha=-scale * phi3(k))
        past = [*past[-1:], m]
    return x

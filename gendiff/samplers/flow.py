"""Runge-Kutta steps of the probability flow dx/dt in the path's own time.

Karras, Aittala, Aila & Laine, "Elucidating the Design Space of Diffusion-Based Generative Models",
NeurIPS 2022, Algorithms 1 and 2; on a variance-exploding path t is their sigma. A step to t = 0,
where some paths have no derivative, lands on x0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gendiff.denoiser import Condition, DenoiserLike, combine, x0_at
from gendiff.papers import EDM_PAPER, cites
from gendiff.paths import Path
from gendiff.samplers.steps import (
    Noise,
    continuous,
    fresh_noise,
    numbers,
    on_cpu,
    slopes,
)


@continuous
def euler(
    denoiser: DenoiserLike,
    x: Tensor,
    times: Tensor,
    cond: Condition | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """Euler's method: first order, one call a step.

    Args:
        x: (B, ...) at ``times[0]``.
        times: (steps + 1,), noisy to clean.
    """
    times = on_cpu(times)
    us, ws = numbers(*slopes(denoiser.path, times[:-1]))
    predict, ends = x0_at(denoiser, times), times[1:].tolist()
    for i, dt in enumerate(times.diff().tolist()):
        if ends[i] == 0:
            return predict(i, x, cond)
        x = predict.mix(i, x, 1 + dt * us[i], dt * ws[i], cond)
    return x


def _raised(path: Path, times: Tensor, churn: float, churn_min: float, churn_max: float) -> Tensor:
    """Times (steps,) after each step's added noise: sigma / alpha grows by 1 + gamma."""
    log_snr = path.log_snr(times)
    relative = (-log_snr / 2).exp()
    gamma = min(churn / len(times), math.sqrt(2) - 1)
    inside = (relative >= churn_min) & (relative <= churn_max) & relative.isfinite()
    raised = path.inverse_log_snr(log_snr - 2 * math.log1p(gamma)).clamp(max=path.t_max)
    return torch.where(inside, raised, times)


@cites(EDM_PAPER)
@continuous
def heun(
    denoiser: DenoiserLike,
    x: Tensor,
    times: Tensor,
    cond: Condition | None = None,
    noise: Noise | None = None,
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float = math.inf,
    churn_noise: float = 1.0,
) -> Tensor:
    """Heun's method (Algorithm 2): second order, two calls a step, one in a step to t = 0.

    Args:
        x: (B, ...) at ``times[0]``.
        times: (steps + 1,), noisy to clean.
        noise: noise(step) -> like x, used when ``churn`` > 0.
        churn: S_churn: noise added over the whole run; before each step sigma / alpha grows by
            the factor 1 + churn / steps, at most sqrt(2).
        churn_min, churn_max: S_min and S_max, the range of sigma / alpha where noise is added.
        churn_noise: S_noise, the standard deviation of the added noise.
    """
    path, noise, times = denoiser.path, noise or fresh_noise(x), on_cpu(times)
    here, there = times[:-1], times[1:]
    if churn:
        here = _raised(path, here, churn, churn_min, churn_max)
    scales, variances = path.transition(times[:-1], here)
    kept, stds = numbers(scales, churn_noise * variances.clamp(min=0).sqrt())
    u1, w1 = numbers(*slopes(path, here))
    u2, w2 = numbers(*slopes(path, there))
    predict = x0_at(denoiser, torch.stack([here, there], 1).flatten())
    moved, ends = (here != times[:-1]).tolist(), there.tolist()
    for i, dt in enumerate((there - here).tolist()):
        if moved[i]:
            x = combine(kept[i], x, stds[i], noise(i))
        if ends[i] == 0:
            return predict(2 * i, x, cond)
        guess = predict.mix(2 * i, x, 1 + dt * u1[i], dt * w1[i], cond)
        # x + dt (slope + slope') / 2, where guess = x + dt slope
        half = predict.mix(2 * i + 1, guess, (1 + dt * u2[i]) / 2, dt * w2[i] / 2, cond)
        x = half.add_(x, alpha=0.5)
    return x


@continuous
def midpoint(
    denoiser: DenoiserLike,
    x: Tensor,
    times: Tensor,
    cond: Condition | None = None,
    noise: Noise | None = None,
    rho: float = 3.0,
) -> Tensor:
    """Midpoint method: second order, two calls a step, one in a step to t = 0.

    Args:
        x: (B, ...) at ``times[0]``.
        times: (steps + 1,), noisy to clean.
        rho: the middle is the mean of the ends' t^(1 / rho): 3 in the consistency models' code,
            whose step to t = 0 takes a second call too, 1 for the plain middle.

    Raises:
        ValueError: rho is not positive.
    """
    if not 0 < rho < math.inf:
        raise ValueError(f"rho: {rho} must be positive and finite")
    times = on_cpu(times)
    here, there = times[:-1], times[1:]
    middle = ((here ** (1 / rho) + there ** (1 / rho)) / 2) ** rho
    u1, w1 = numbers(*slopes(denoiser.path, here))
    u2, w2 = numbers(*slopes(denoiser.path, middle))
    halves, wholes = numbers(middle - here, there - here)
    predict = x0_at(denoiser, torch.stack([here, middle], 1).flatten())
    ends = there.tolist()
    for i, (half, whole) in enumerate(zip(halves, wholes, strict=True)):
        if ends[i] == 0:
            return predict(2 * i, x, cond)
        guess = predict.mix(2 * i, x, 1 + half * u1[i], half * w1[i], cond)
        x = predict.mix(2 * i + 1, guess, whole * u2[i], whole * w2[i], cond).add_(x)
    return x

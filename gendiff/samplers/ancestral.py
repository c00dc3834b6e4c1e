"""Ancestral sampling (Ho, Jain & Abbeel, "Denoising Diffusion Probabilistic Models", 2020)."""

from __future__ import annotations

from torch import Tensor

from gendiff.denoiser import Condition, DenoiserLike
from gendiff.samplers.grid import Noise, fresh_noise


def ancestral(
    denoiser: DenoiserLike,
    x: Tensor,
    times: Tensor,
    cond: Condition | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """Draw x_s from q(x_s | x_t, x0 predicted), step by step (Eq. 6 and 7, small variance).

    Args:
        x: (B, ...) at ``times[0]``.
        times: (steps + 1,), noisy to clean.
        noise: noise(step) -> like x; the last step to t = 0 adds none.
    """
    path, noise = denoiser.path, noise or fresh_noise(x)
    weights_x0, weights_xt, variances = path.posterior(times[1:], times[:-1])
    stds = variances.sqrt()
    for step in range(len(times) - 1):
        x0 = denoiser(x, times[step], cond).x0
        x = weights_x0[step] * x0 + weights_xt[step] * x + stds[step] * noise(step)
    return x

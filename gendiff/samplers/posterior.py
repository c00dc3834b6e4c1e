"""Posterior sampling for denoising diffusion GANs (Xiao et al., ICLR 2022, Section 3.2)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gendiff.denoiser import Condition
from gendiff.samplers.grid import Noise, fresh_noise


def posterior(
    generator: Any,
    x: Tensor,
    times: Tensor,
    cond: Condition | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """Imagine x0 from x_t and a fresh latent, then draw x_s from q(x_s | x_t, x0).

    Args:
        generator: a denoiser that takes the condition ``z`` of size ``generator.latent``.
        x: (B, ...) at ``times[0]``.
        times: (steps + 1,), noisy to clean.
        noise: noise(step) -> like x, noise(step, k) -> (B, k).
    """
    path, noise = generator.path, noise or fresh_noise(x)
    weights_x0, weights_xt, variances = path.posterior(times[1:], times[:-1])
    stds = variances.sqrt()
    for step in range(len(times) - 1):
        z = noise(step, generator.latent)
        x0 = generator(x, times[step], {**(cond or {}), "z": z}).x0
        x = weights_x0[step] * x0 + weights_xt[step] * x + stds[step] * noise(step)
    return x

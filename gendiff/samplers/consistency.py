"""Multistep consistency sampling (Song et al., "Consistency Models", ICML 2023, Algorithm 1)."""

from __future__ import annotations

from torch import Tensor

from gendiff.denoiser import Condition, DenoiserLike
from gendiff.samplers.grid import Noise, fresh_noise


def consistency(
    denoiser: DenoiserLike,
    x: Tensor,
    times: Tensor,
    cond: Condition | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """Jump to x0, add fresh noise up to the next time, jump again.

    Their x + sqrt(t^2 - t_min^2) z on the sigma scale is alpha(t) x0 + sigma(t) z on a path; the
    jumps here end at t = 0 rather than at t_min.

    Args:
        x: (B, ...) at ``times[0]``.
        times: (steps + 1,), noisy to clean.
        noise: noise(step) -> like x.
    """
    path, noise = denoiser.path, noise or fresh_noise(x)
    alphas, sigmas = path.alpha(times), path.sigma(times)
    x0 = denoiser(x, times[0], cond).x0
    for step in range(1, len(times) - 1):
        x = alphas[step] * x0 + sigmas[step] * noise(step)
        x0 = denoiser(x, times[step], cond).x0
    return x0

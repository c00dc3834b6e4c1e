"""DDIM (Song, Meng & Ermon, "Denoising Diffusion Implicit Models", ICLR 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from gendiff.denoiser import Condition, DenoiserLike, x0_at
from gendiff.papers import DDIM, cites
from gendiff.samplers.steps import Noise, fresh_noise, numbers, on_cpu


@cites(DDIM)
def ddim(
    denoiser: DenoiserLike,
    x: Tensor,
    times: Tensor,
    cond: Condition | None = None,
    noise: Noise | None = None,
    eta: float = 0.0,
) -> Tensor:
    """Deterministic implicit sampling (Eq. 12); eta = 1 has the ancestral sampler's variance.

    Args:
        x: (B, ...) at ``times[0]``.
        times: (steps + 1,), noisy to clean.
        noise: noise(step) -> like x, used when eta > 0.

    Raises:
        ValueError: eta is so large that a step's noise exceeds the path's.
    """
    path, noise, times = denoiser.path, noise or fresh_noise(x), on_cpu(times)
    alphas, sigmas = path.alpha(times), path.sigma(times)
    stds = torch.zeros_like(times[1:])
    if eta:
        stds = eta * path.posterior(times[1:], times[:-1])[2].sqrt()
        if (stds > sigmas[1:] * (1 + 1e-9)).any():
            raise ValueError(f"eta: {eta} adds more noise than a step may end with")
    # the part of x_s that keeps the direction of eps = (x_t - alpha x0) / sigma
    kept = (sigmas[1:] ** 2 - stds**2).clamp(min=0).sqrt() / sigmas[:-1]
    on_x, on_x0, on_noise = numbers(kept, alphas[1:] - kept * alphas[:-1], stds)
    predict = x0_at(denoiser, times)
    for i, std in enumerate(on_noise):
        x = predict.mix(i, x, on_x[i], on_x0[i], cond)
        if std:
            x = x.add_(noise(i), alpha=std)
    return x

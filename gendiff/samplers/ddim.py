"""DDIM (Song, Meng & Ermon, "Denoising Diffusion Implicit Models", ICLR 2021)."""

from __future__ import annotations

from torch import Tensor

from gendiff.denoiser import Condition, DenoiserLike
from gendiff.samplers.grid import Noise, fresh_noise


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
    """
    path, noise = denoiser.path, noise or fresh_noise(x)
    alphas, sigmas = path.alpha(times), path.sigma(times)
    _, _, variances = path.posterior(times[1:], times[:-1])
    stds = eta * variances.sqrt()
    directions = (sigmas[1:] ** 2 - stds**2).clamp(min=0).sqrt()
    for step in range(len(times) - 1):
        prediction = denoiser(x, times[step], cond)
        x = alphas[step + 1] * prediction.x0 + directions[step] * prediction.eps
        if eta:
            x = x + stds[step] * noise(step)
    return x

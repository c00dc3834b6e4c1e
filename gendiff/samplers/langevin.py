"""Samplers that walk on the density of each noise level: Langevin steps.

At time t, ``x <- x + d score + sqrt(2 d) z`` leaves the density of x_t as it is when d is small.
The step d is a share of sigma(t)^2, so that all noise levels are walked alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gendiff.denoiser import Condition, DenoiserLike, x0_at
from gendiff.papers import SCORE_SDE, cites
from gendiff.paths import Path
from gendiff.samplers.steps import Noise, fresh_noise, numbers, on_cpu


def _walk(path: Path, times: Tensor, share: float) -> list[list[float]]:
    """(on x, on x0, on noise) of a Langevin step of size ``share * sigma^2`` at each time."""
    # d score = share sigma^2 (alpha x0 - x) / sigma^2
    alphas, sigmas = path.alpha(times), path.sigma(times)
    return numbers(torch.full_like(times, 1 - share), share * alphas, (2 * share) ** 0.5 * sigmas)


def langevin(
    denoiser: DenoiserLike,
    x: Tensor,
    times: Tensor,
    cond: Condition | None = None,
    noise: Noise | None = None,
    walks: int = 4,
    size: float = 0.1,
) -> Tensor:
    """Annealed Langevin dynamics (Song & Ermon, NeurIPS 2019, Algorithm 1), denoised at the end.

    ``walks`` calls at each time but the last of the grid, and one more for x0, which is returned
    (Jolicoeur-Martineau et al. 2021, "Adversarial score matching"). From one time to the next x
    is scaled with alpha, which on their variance-exploding path is 1.

    Args:
        x: (B, ...) at ``times[0]``.
        times: (steps + 1,), noisy to clean.
        noise: noise(step) -> like x, one step a walk.
        walks: Langevin steps at each time; the authors take 100.
        size: d / sigma(t)^2. Their epsilon = 2e-5 with sigma_L = 0.01 is 0.1.

    Raises:
        ValueError: no walks, or a size outside (0, 1).
    """
    if walks < 1 or not 0 < size < 1:
        raise ValueError(f"walks: {walks} must be at least 1, and size, {size}, in (0, 1)")
    noise, times = noise or fresh_noise(x), on_cpu(times)
    on_x, on_x0, on_noise = _walk(denoiser.path, times, size)
    alphas = denoiser.path.alpha(times).tolist()
    predict = x0_at(denoiser, times)
    for i in range(len(times) - 1):
        for walk in range(walks):
            x = predict.mix(i, x, on_x[i], on_x0[i], cond)
            x.add_(noise(i * walks + walk), alpha=on_noise[i])
        if i + 2 < len(times) and alphas[i] > 0:
            x = x * (alphas[i + 1] / alphas[i])
    return predict(len(times) - 2, x, cond)


@cites(SCORE_SDE)
def predictor_corrector(
    denoiser: DenoiserLike,
    x: Tensor,
    times: Tensor,
    cond: Condition | None = None,
    noise: Noise | None = None,
    snr: float = 0.16,
    corrections: int = 1,
) -> Tensor:
    """Predictor-corrector sampling (Song et al., ICLR 2021, Algorithms 4 and 5).

    An ancestral step to the next time (their Appendix F), then Langevin steps there. They set
    the step to 2 (snr |z| / |score|)^2 from norms averaged over the batch; here the norms are
    replaced by what they are on average far from the data, sqrt(d) and sqrt(d) / sigma, so that
    a sample does not depend on its neighbours. The step to the last time is not corrected.

    Args:
        x: (B, ...) at ``times[0]``.
        times: (steps + 1,), noisy to clean.
        noise: noise(step) -> like x.
        snr: r, the size of a correction; 0.16 is theirs for variance-exploding paths.
        corrections: Langevin steps after each prediction; a call each.

    Raises:
        ValueError: a size outside (0, 0.7), where a correction would overshoot.
    """
    share = 2 * snr**2
    if not 0 < share < 1:
        raise ValueError(f"snr: {snr} must be in (0, 0.7)")
    noise, times = noise or fresh_noise(x), on_cpu(times)
    weights_x0, weights_x, variances = denoiser.path.posterior(times[1:], times[:-1])
    ps, qs, stds = numbers(weights_x0, weights_x, variances.sqrt())
    on_x, on_x0, on_noise = _walk(denoiser.path, times, share)
    predict, last = x0_at(denoiser, times), len(times) - 2
    for i, std in enumerate(stds):
        first = i * (corrections + 1)
        x = predict.mix(i, x, qs[i], ps[i], cond)
        if std:
            x.add_(noise(first), alpha=std)
        for j in range(corrections if i < last else 0):
            x = predict.mix(i + 1, x, on_x[i + 1], on_x0[i + 1], cond)
            x.add_(noise(first + 1 + j), alpha=on_noise[i + 1])
    return x

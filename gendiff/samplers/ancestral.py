"""Ancestral sampling (Ho, Jain & Abbeel, "Denoising Diffusion Probabilistic Models", 2020)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from gendiff.denoiser import Condition, DenoiserLike, x0_at
from gendiff.papers import DDPM, cites
from gendiff.samplers.steps import Noise, fresh_noise, numbers, on_cpu


@cites(DDPM)
def ancestral(
    denoiser: DenoiserLike,
    x: Tensor,
    times: Tensor,
    cond: Condition | None = None,
    noise: Noise | None = None,
    variance: Literal["small", "large"] = "small",
) -> Tensor:
    """Draw x_s from q(x_s | x_t, x0 predicted), step by step (Eq. 6 and 7).

    Args:
        x: (B, ...) at ``times[0]``.
        times: (steps + 1,), noisy to clean.
        noise: noise(step) -> like x; a step to t = 0 adds none.
        variance: of the posterior (``small``, right for data that are one point), or of the
            forward step (``large``, right for data that are normal) (their Section 3.2).
    """
    noise, times = noise or fresh_noise(x), on_cpu(times)
    s, t = times[1:], times[:-1]
    on_x0, on_x, variances = denoiser.path.posterior(s, t)
    if variance == "large":
        variances = denoiser.path.transition(s, t)[1] * (s > 0)
    ps, qs, stds = numbers(on_x0, on_x, variances.sqrt())
    predict = x0_at(denoiser, times)
    for i, std in enumerate(stds):
        x = predict.mix(i, x, qs[i], ps[i], cond)
        if std:
            x = x.add_(noise(i), alpha=std)
    return x

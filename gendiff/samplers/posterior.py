"""Posterior sampling for denoising diffusion GANs (Xiao et al., ICLR 2022, Section 3.2)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gendiff.denoiser import Condition, x0_at
from gendiff.papers import DDGAN, cites
from gendiff.samplers.steps import Noise, fresh_noise, numbers, on_cpu


@cites(DDGAN)
def posterior(
    generator: Any,
    x: Tensor,
    times: Tensor,
    cond: Condition | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """Imagine x0 from x_t and a fresh latent, then draw x_s from q(x_s | x_t, x0).

    Args:
        generator: a denoiser that takes the condition ``z`` of size ``generator.latent``, if any;
            with ``generator.direct`` its x0 is taken for x_s itself, and nothing is drawn.
        x: (B, ...) at ``times[0]``.
        times: (steps + 1,), noisy to clean.
        noise: noise(step) -> like x, noise(step, k) -> (B, k).
    """
    noise, times = noise or fresh_noise(x), on_cpu(times)
    on_x0, on_x, variances = generator.path.posterior(times[1:], times[:-1])
    ps, qs, stds = numbers(on_x0, on_x, variances.sqrt())
    if generator.direct:
        ps, qs, stds = [1.0] * len(stds), [0.0] * len(stds), [0.0] * len(stds)
    predict = x0_at(generator, times)
    for i, std in enumerate(stds):
        z = {"z": noise(i, generator.latent)} if generator.latent else {}
        x = predict.mix(i, x, qs[i], ps[i], {**(cond or {}), **z})
        if std:
            x = x.add_(noise(i), alpha=std)
    return x

"""Samplers of denoising diffusion GANs (Xiao et al., ICLR 2022, Section 3.2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gendiff.denoiser import Condition, x0_at
from gendiff.samplers.steps import Noise, fresh_noise, numbers, on_cpu


def posterior(
    generator: Any,
    x: Tensor,
    times: Tensor,
    cond: Condition | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """Imagine x0 from x_t and a fresh latent, then draw x_s from q(x_s | x_t, x0).

    Args:
        generator: a denoiser that takes the condition ``z`` of size ``generator.latent``, if any.
        x: (B, ...) at ``times[0]``.
        times: (steps + 1,), noisy to clean.
        noise: noise(step) -> like x, noise(step, k) -> (B, k).
    """
    noise, times = noise or fresh_noise(x), on_cpu(times)
    on_x0, on_x, variances = generator.path.posterior(times[1:], times[:-1])
    ps, qs, stds = numbers(on_x0, on_x, variances.sqrt())
    predict = x0_at(generator, times)
    for i, std in enumerate(stds):
        x = predict.mix(i, x, qs[i], ps[i], with_latent(generator, i, cond, noise))
        if std:
            x = x.add_(noise(i), alpha=std)
    return x


def direct(
    generator: Any,
    x: Tensor,
    times: Tensor,
    cond: Condition | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """Take the generator's output at x_t for x_s itself, with a fresh latent at every step.

    The same arguments; the authors' ablation of a generator without posterior sampling.
    """
    noise = noise or fresh_noise(x)
    for i, t in enumerate(times[:-1]):
        drawn = with_latent(generator, i, cond, noise)
        x = generator(x, t.to(x.device, torch.float32), drawn).output
    return x


def with_latent(generator: Any, step: int, cond: Condition | None, noise: Noise) -> Condition:
    """The condition with a step's latent, of a generator that has one."""
    z = {"z": noise(step, generator.latent)} if generator.latent else {}
    return {**(cond or {}), **z}

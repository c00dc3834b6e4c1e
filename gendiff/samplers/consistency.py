"""Multistep consistency sampling (Song et al., "Consistency Models", ICML 2023, Algorithm 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from gendiff.denoiser import Condition, DenoiserLike, combine, x0_at
from gendiff.papers import CONSISTENCY, cites
from gendiff.samplers.steps import Noise, fresh_noise, numbers, on_cpu


@cites(CONSISTENCY)
def consistency(
    denoiser: DenoiserLike,
    x: Tensor,
    times: Tensor,
    cond: Condition | None = None,
    noise: Noise | None = None,
    t_min: float = 0.0,
) -> Tensor:
    """Jump to the clean end, add fresh noise up to the next time, jump again.

    Args:
        x: (B, ...) at ``times[0]``.
        times: (steps + 1,), noisy to clean; the last is where the last jump lands, and is not
            visited.
        noise: noise(step) -> like x.
        t_min: where the jumps end. The authors' is 0.002 on VE, and their added noise
            sqrt(t^2 - t_min^2) is the path's own from ``t_min`` to t.
    """
    noise, times = noise or fresh_noise(x), on_cpu(times)
    scales, variances = denoiser.path.transition(torch.full_like(times, t_min), times)
    kept, stds = numbers(scales, variances.clamp(min=0).sqrt())
    predict = x0_at(denoiser, times)
    x0 = predict(0, x, cond)
    for i in range(1, len(times) - 1):
        x0 = predict(i, combine(kept[i], x0, stds[i], noise(i)), cond)
    return x0

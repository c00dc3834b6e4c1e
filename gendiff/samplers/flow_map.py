"""Steps of a flow map, which knows where the probability flow leads from one time to another."""

from __future__ import annotations

import torch
from torch import Tensor

from gendiff.denoiser import Condition, DenoiserLike, combine
from gendiff.papers import MEAN_FLOW, cites
from gendiff.samplers.steps import Noise, continuous, on_cpu


@cites(MEAN_FLOW)
@continuous
def flow_map(
    denoiser: DenoiserLike,
    x: Tensor,
    times: Tensor,
    cond: Condition | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """Go from each time to the next by the mean velocity on the way: x_s = x_t - (t - s) u.

    Exact for an exact map, however long the steps; one call a step (Geng et al. 2025, Eq. 12;
    Frans et al. 2024, Section 3.1).

    Args:
        denoiser: takes the condition ``second_time``, (B,), the noise level where a step ends;
            its velocity is then the mean one from there to x_t.
        x: (B, ...) at ``times[0]``.
        times: (steps + 1,), noisy to clean.
    """
    times = on_cpu(times)
    levels = denoiser.path.noise_level(times).to(torch.promote_types(x.dtype, torch.float32))
    for i, dt in enumerate(times.diff().tolist()):
        there = {"second_time": levels[i + 1].to(x.device).expand(len(x))}
        x = combine(1, x, dt, denoiser(x, times[i], {**(cond or {}), **there}).velocity)
    return x

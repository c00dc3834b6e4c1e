"""DPM-Solver and DPM-Solver++ as samplers; the algorithms are in `exponential`."""

from __future__ import annotations

import math

from torch import Tensor

from gendiff.denoiser import Condition, DenoiserLike, combine, x0_at
from gendiff.papers import Paper, cites
from gendiff.samplers.exponential import Places, multistep, singlestep
from gendiff.samplers.steps import Noise, continuous, fresh_noise, on_cpu

DPM_SOLVER = Paper(
    "Cheng Lu, Yuhao Zhou, Fan Bao, Jianfei Chen, Chongxuan Li, Jun Zhu",
    "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around 10 Steps",
    "NeurIPS",
    2022,
)


@cites(DPM_SOLVER)
@continuous
def dpm_solver(
    denoiser: DenoiserLike,
    x: Tensor,
    times: Tensor,
    cond: Condition | None = None,
    noise: Noise | None = None,
    order: int = 2,
    multi: bool = False,
) -> Tensor:
    """DPM-Solver of order 1 to 3 (Lu et al. 2022), which expands eps.

    Args:
        x: (B, ...) at ``times[0]``.
        times: (steps + 1,), noisy to clean.
        order: 1, 2 or 3; a step costs as many calls.
        multi: take the differences from the steps before instead: one call a step, and the
            chain of a discrete path will do.

    Raises:
        ValueError: another order.
    """
    if order not in (1, 2, 3):
        raise ValueError(f"order: {order}; there are 1, 2 and 3")
    times = on_cpu(times)
    if multi:
        return multistep(denoiser, x, times, cond, order, "eps")
    return singlestep(denoiser, x, times, cond, [order] * (len(times) - 1), "eps")


DPM_SOLVER_PP = Paper(
    "Cheng Lu, Yuhao Zhou, Fan Bao, Jianfei Chen, Chongxuan Li, Jun Zhu",
    "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
    "arXiv:2211.01095",
    2022,
)


@cites(DPM_SOLVER_PP)
@continuous
def dpmpp_2s(
    denoiser: DenoiserLike,
    x: Tensor,
    times: Tensor,
    cond: Condition | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """DPM-Solver++(2S) (Lu et al. 2022, Algorithm 1), which expands x0; two calls a step.

    Args:
        x: (B, ...) at ``times[0]``.
        times: (steps + 1,), noisy to clean.
    """
    times = on_cpu(times)
    return singlestep(denoiser, x, times, cond, [2] * (len(times) - 1), "x0")


@cites(DPM_SOLVER_PP)
def dpmpp_2m(
    denoiser: DenoiserLike,
    x: Tensor,
    times: Tensor,
    cond: Condition | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, Algorithm 2), which expands x0; one call a step.

    Args:
        x: (B, ...) at ``times[0]``.
        times: (steps + 1,), noisy to clean.
    """
    return multistep(denoiser, x, on_cpu(times), cond, 2, "x0")


@cites(DPM_SOLVER_PP)
def dpmpp_2m_sde(
    denoiser: DenoiserLike,
    x: Tensor,
    times: Tensor,
    cond: Condition | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022): 2M on the reverse diffusion equation.

    Args:
        x: (B, ...) at ``times[0]``.
        times: (steps + 1,), noisy to clean.
        noise: noise(step) -> like x.
    """
    noise, times = noise or fresh_noise(x), on_cpu(times)
    at, predict = Places(denoiser.path, times, "x0"), x0_at(denoiser, times)
    before: Tensor | None = None
    for t in range(len(times) - 1):
        s = t + 1
        x0, h = predict(t, x, cond), -at.k(t, s)
        slope = x0
        if before is not None and not at.endless(t, s):
            slope = x0.add(x0 - before, alpha=h / at.k(t, t - 1) / 2)
        gain = -math.expm1(-2 * h)  # 1 for an endless step
        kept = at.sigmas[s] / at.sigmas[t] * math.exp(-h)
        x = combine(kept, x, at.alphas[s] * gain, slope)
        if at.sigmas[s]:
            x.add_(noise(t), alpha=at.sigmas[s] * math.sqrt(gain))
        before = x0
    return x

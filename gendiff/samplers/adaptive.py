"""The probability flow to a tolerance: the near-exact reference."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

from gendiff.denoiser import Condition, DenoiserLike, along, combine
from gendiff.paths import Trig
from gendiff.samplers.steps import Noise, continuous, on_cpu

LAST = 1e-5
"""Angle from which a run to t = 0 jumps to x0; what that misses is of the order of its square."""


@continuous
def rk45(
    denoiser: DenoiserLike,
    x: Tensor,
    times: Tensor,
    cond: Condition | None = None,
    noise: Noise | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Tensor:
    """Adaptive Runge-Kutta 4(5) of Dormand and Prince, by SciPy (Song et al. 2021, Section 4.3).

    Solved in the angle atan2(sigma, alpha), in which every path is the quarter turn and the
    velocity is v, bounded at both ends. One tolerance holds for the whole batch, so a sample
    depends a little, within it, on its neighbours. The solver runs on the CPU in float64 and
    waits for the device: it is a reference, not a fast sampler.

    Args:
        x: (B, ...) at ``times[0]``.
        times: (steps + 1,), noisy to clean; only the first and the last matter.
        rtol, atol: tolerances, relative and absolute, of x at unit size.
    """
    path, turn = denoiser.path, Trig()
    ends = on_cpu(times)[[0, -1]]
    sizes = path.size(ends).tolist()
    start, end = torch.atan2(path.sigma(ends), path.alpha(ends)).tolist()
    moved, last = along(denoiser, turn), max(end, LAST)

    def velocity(angle: float, flat: NDArray[np.float64]) -> NDArray[np.float64]:
        y = torch.from_numpy(flat).reshape(x.shape).to(x)
        t = torch.tensor(angle, dtype=torch.float64)
        slope = moved(y, t, cond).velocity
        if not slope.isfinite().all():  # SciPy would shrink its step for ever
            raise ValueError(f"rk45: the velocity at angle {angle:.4g} is not finite")
        return slope.double().flatten().cpu().numpy()

    begun = (x / sizes[0]).double().flatten().cpu().numpy()
    solved = solve_ivp(velocity, (start, last), begun, method="RK45", rtol=rtol, atol=atol)
    if not solved.success:
        raise RuntimeError(f"rk45: {solved.message}")
    y = torch.from_numpy(solved.y[:, -1].copy()).reshape(x.shape).to(x)
    if end < LAST:
        x0 = moved(y, torch.tensor(last, dtype=torch.float64), cond).x0
        kept = math.sin(end) / math.sin(last)
        y = combine(kept, y, math.cos(end) - kept * math.cos(last), x0)
    return y * sizes[1]

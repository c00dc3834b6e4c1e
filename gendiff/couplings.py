"""Which noise goes with which sample: by optimal transport, or by a teacher's flow."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from gendiff.denoiser import Condition, DenoiserLike, along, x0_at
from gendiff.errors import UserError
from gendiff.paths import Path
from gendiff.samplers import time_grid
from gendiff.samplers.steps import Noise
from gendiff.sampling import ANY_DENOISER, Sampling

INVERTIBLE = ("ddim", "heun", "rk45")
"""Samplers that can be run from data to noise."""
RANDOM = ("eta", "churn")
"""Their settings that add noise, which none can take back."""


def optimal(x0: Tensor, eps: Tensor, size: int, label: Tensor | None = None) -> Tensor:
    """The noise in the order that brings it nearest to the data: minibatch optimal transport.

    Within each ``size`` consecutive samples it minimises the sum of |x0 - eps|^2 exactly (OT-CFM of
    Tong et al. 2024; BatchOT of Pooladian et al. 2023). With labels, only samples of one class
    swap their noise: otherwise that of a class would not be standard normal, as it is in sampling.
    Solved on the CPU.

    Args:
        x0, eps: (B, ...).
        label: (B,), or None.
    """
    data, noise = (x.detach().flatten(1).double().cpu() for x in (x0, eps))
    order = torch.arange(len(x0))
    for rows in order.clone().split(size):
        kinds = torch.zeros_like(rows) if label is None else label[rows.to(label.device)].cpu()
        for kind in kinds.unique():
            group = rows[kinds == kind]
            # |x0 - eps|^2 less what no order changes
            _, best = linear_sum_assignment(-(data[group] @ noise[group].T).numpy())
            order[group] = group[torch.from_numpy(best)]
    return eps[order.to(eps.device)]


def check_solver(text: str, allowed: tuple[str, ...], exact: bool) -> None:
    """Refuse, while a config loads, a sampler that cannot make pairs.

    Args:
        exact: no noise may be added on the way.

    Raises:
        ValueError: the message begins with the key.
    """
    try:
        sampling = Sampling.parse(text, allowed)
    except ValueError as error:
        raise ValueError(f"sampler: {error}".rstrip("?.")) from None
    noisy = [name for name in RANDOM if sampling.settings.get(name)]
    if exact and noisy:
        raise ValueError(f"sampler: {noisy[0]} adds noise, which cannot be taken back")


def solver(text: str, path: Path, steps: int) -> Sampling:
    """The sampler that takes noise to a teacher's samples, if it can be run along its path.

    Raises:
        UserError: it cannot; the message begins with the key of the method.
    """
    sampling = Sampling.parse(text, ANY_DENOISER)
    try:
        time_grid(sampling.path or path, steps, sampling.grid)
    except ValueError as error:
        raise UserError(f"method.solver_steps: {error}.") from None
    try:
        sampling.check(path, steps)
    except ValueError as error:
        raise UserError(f"method.sampler: {error}.") from None
    return sampling


def solve(
    sampling: Sampling,
    denoiser: DenoiserLike,
    eps: Tensor,
    steps: int,
    cond: Condition | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """Where a sampler takes eps, (B, ...) at unit size, from where its own grid begins: x0."""
    denoiser = along(denoiser, sampling.path or denoiser.path)
    times = time_grid(denoiser.path, steps, sampling.grid)
    x = eps * float(denoiser.path.sigma(times[0]))
    return sampling.function(denoiser, x, times, cond, noise, **sampling.settings)


def invert(
    sampling: Sampling,
    denoiser: DenoiserLike,
    x0: Tensor,
    steps: int,
    cond: Condition | None = None,
) -> Tensor:
    """The noise that `solve` takes to x0, (B, ...): eps, at unit size.

    The sampler's own grid backwards. Its first step, out of t = 0, is the trapezoid rule in
    sigma / alpha, where the slope of x / alpha is eps; it vanishes without noise, as the score is
    finite (Karras et al. 2022, Eq. 1). So a sampler keeps its order.

    Args:
        sampling: one of `INVERTIBLE`, without noise.
        steps: at least 2.
    """
    denoiser = along(denoiser, sampling.path or denoiser.path)
    path, times = denoiser.path, time_grid(denoiser.path, steps, sampling.grid).flip(0)[1:]
    scale = float(path.alpha(times[0]))
    x = x0_at(denoiser, times).mix(0, x0 * scale, 1.5, -0.5 * scale, cond)
    x = sampling.function(denoiser, x, times, cond, None, **sampling.settings)
    return x / float(path.sigma(times[-1]))

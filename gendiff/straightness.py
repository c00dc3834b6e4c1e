"""How straight a denoiser's probability flow runs from noise to data."""

from __future__ import annotations

import torch
from torch import Tensor

from gendiff.denoiser import Condition, DenoiserLike, along
from gendiff.metrics import Straightness
from gendiff.paths import Linear


@torch.no_grad()
def straightness(
    denoiser: DenoiserLike, noise: Tensor, cond: Condition | None = None, steps: int = 32
) -> dict[str, float]:
    """S(Z) of Liu et al. 2023, Section 2.2, and its interval, as `Straightness` has them.

    0 where one Euler step is exact. Any denoiser is read along the straight path, and followed by
    ``steps`` Euler steps: few of them put the figure too low.

    Args:
        noise: where the trajectories begin, (B, ...).
        cond: of each trajectory.
    """
    denoiser, x, velocities = along(denoiser, Linear()), noise, []
    for step in range(steps):
        velocity = denoiser(x, torch.tensor(1 - step / steps), cond).velocity
        velocities.append(velocity)
        x = x - velocity / steps
    metric = Straightness().to(noise.device)
    metric.distributed_available_fn = lambda: False  # all trajectories are here
    metric.update(noise, x, -torch.stack(velocities))
    return {name: float(value) for name, value in metric.compute().items()}

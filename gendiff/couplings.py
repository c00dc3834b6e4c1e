"""Which noise goes with which sample: by optimal transport, or by a teacher's flow."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from gendiff.denoiser import Condition, DenoiserLike
from gendiff.errors import UserError
from gendiff.guidance import guide
from gendiff.samplers import ddim, time_grid


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


@torch.no_grad()
def transported(
    teacher: DenoiserLike, eps: Tensor, steps: int, guidance: float, cond: Condition
) -> Tensor:
    """Where a teacher's probability flow takes noise, (B, ...), in so many DDIM steps.

    Liu et al. 2023, Algorithm 1, Reflow: the other half of a pair.

    Raises:
        UserError: the teacher's path is a chain of fewer steps.
    """
    try:
        times = time_grid(teacher.path, steps, device=eps.device)
    except ValueError as error:
        raise UserError(f"method.solver_steps: {error}.") from None
    return ddim(guide(teacher, guidance), teacher.path.sigma(times[0]) * eps, times, cond)

"""Time grids: steps + 1 times from noisy to clean."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from gendiff.paths import Path, spaced

GridKind = Literal["uniform", "quadratic", "log_snr", "karras"]
GRIDS: tuple[str, ...] = get_args(GridKind)

SPACING = re.compile(r"ddim\d+|\d+(,\d+)*")
"""Subsets of a discrete chain."""

MOST_STEPS = 20_000
"""Of a grid: twice the 8192 from which progressive distillation's authors halve, and some."""

RHO = 7.0
"""Of Karras et al. 2022, Eq. 5."""


def _log_snr(path: Path, t: Tensor) -> Tensor:
    """No lower than where the path can be said to start."""
    return path.log_snr(t).clamp(min=path.log_snr_range[0])


EVEN_IN: dict[str, tuple[Callable[[Path, Tensor], Tensor], Callable[[Path, Tensor], Tensor]]] = {
    "uniform": (lambda path, t: t, lambda path, y: y),
    "quadratic": (lambda path, t: t.sqrt(), lambda path, y: y**2),
    "log_snr": (_log_snr, lambda path, y: path.inverse_log_snr(y)),
    "karras": (
        lambda path, t: (-_log_snr(path, t) / (2 * RHO)).exp(),
        lambda path, y: path.inverse_log_snr(-2 * RHO * y.log()),
    ),
}
"""What each grid is evenly spaced in, as a function of the time, and back."""


def time_grid(
    path: Path,
    steps: int,
    kind: str | None = None,
    t_end: float = 0.0,
    t_start: float | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    jump: bool = True,
) -> Tensor:
    """Times (steps + 1,), from ``t_start`` down to ``t_end``.

    Samplers turn times into coefficients once, before their loop: leave them in float64 on the
    CPU, wherever the samples live.

    Args:
        kind: evenly spaced in t (``uniform``), in its root (``quadratic``, DDIM), in log-SNR
            (``log_snr``, DPM-Solver), or in (sigma / alpha)^(1/7) (``karras``, EDM); the path's
            own where none is given. On a discrete chain also a spaced subset of its steps, such
            as ``ddim25`` or ``10,15,20`` (see `gendiff.paths.spaced`).
        t_end: the last two kinds never reach t = 0: with ``t_end`` = 0 they go to the path's
            ``t_min`` in steps - 1 steps, and from there to 0 in one (Karras et al. 2022).
        jump: without it they end at ``t_min`` instead, as consistency models' do.
        t_start: the path's ``t_max`` unless given. Where alpha all but vanishes, the last two
            kinds start at log-SNR -12 instead.

    Raises:
        ValueError: fewer than one step or too many, an unknown kind, times out of order, or a
            discrete chain that would be visited twice at a step.
    """
    kind = kind or path.grid
    t_start = path.t_max if t_start is None else t_start
    if not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"steps is {steps}; a sampler takes 1 to {MOST_STEPS}")
    if SPACING.fullmatch(kind):
        return _subset(path, steps, kind, t_start).to(device, dtype)
    if kind not in EVEN_IN:
        raise ValueError(f"grid {kind!r} is unknown; there are {', '.join(GRIDS)}")
    jumps = t_end == 0 and kind in ("log_snr", "karras")
    if jumps and not jump:
        t_end, jumps = path.t_min, False
    if not 0 <= t_end < t_start <= path.t_max:
        raise ValueError(f"times must have 0 <= {t_end} < {t_start} <= {path.t_max}")
    forth, back = EVEN_IN[kind]
    inner = steps - jumps
    last = path.t_min if jumps else t_end
    if jumps and inner and t_start <= last:
        raise ValueError(f"a {kind} grid needs to start above {last:.3g}, not at {t_start:.3g}")
    ends = torch.tensor([t_start, last], dtype=torch.float64)
    first, final = forth(path, ends)
    share = torch.linspace(0, 1, inner + 1, dtype=torch.float64)
    times = back(path, first + share * (final - first))
    if inner:
        times[-1] = last
        if float(path.log_snr(ends[0])) >= path.log_snr_range[0]:
            times[0] = t_start
    else:
        times = ends[:1]
    if jumps:
        times = torch.cat([times, torch.zeros(1, dtype=torch.float64)])
    if path.steps is not None:
        times = times.round()
        if (times.diff() >= 0).any():
            raise ValueError(
                f"steps is {steps}: a {kind} grid visits a step of the chain of {path.steps} twice"
            )
    return times.to(device, dtype)


def _subset(path: Path, steps: int, spacing: str, t_start: float) -> Tensor:
    """The times of a spaced subset: index k, from 0, is our k + 1; then 0."""
    if path.steps is None:
        raise ValueError(
            f"grid {spacing!r} is a subset of a discrete chain, as in discrete_linear.{spacing}"
        )
    visited = [k + 1 for k in reversed(spaced(path.steps, spacing))]
    if len(visited) != steps:
        raise ValueError(f"steps is {steps}: {spacing} takes {len(visited)}")
    if visited[0] > t_start:
        raise ValueError(f"{spacing} starts at {visited[0]}, above the start at {t_start:.4g}")
    return torch.tensor([*visited, 0], dtype=torch.float64)

"""95 % intervals: over independent draws, or from a single one by leaving tenths out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

import torch
from scipy.stats import t as student_t
from torch import Tensor

GROUPS = 10
"""Parts that a single draw is cut into."""

Figures = dict[str, float]


def half_width(values: Sequence[float]) -> float:
    """Half the 95 % interval of the mean of two or more independent values (Student's t)."""
    t = float(student_t.ppf(0.975, len(values) - 1))
    return t * statistics.stdev(values) / math.sqrt(len(values))


def over_draws(draws: Sequence[Figures]) -> Figures:
    """Half width by figure, over independent draws; nothing for a single one."""
    if len(draws) < 2:
        return {}
    return {name: half_width(values) for name, values in in_all(draws).items()}


def in_all(draws: Sequence[Figures]) -> dict[str, list[float]]:
    """The values of every figure that all of some draws have."""
    names = [name for name in draws[0] if all(name in draw for draw in draws)]
    return {name: [draw[name] for draw in draws] for name in names}


def leaving_out(figures: Callable[[Tensor], Figures], n: int) -> Figures:
    """Half width by figure from one draw of n samples: the jackknife over ten groups.

    Efron & Tibshirani 1993, "An Introduction to the Bootstrap", Section 11.5. Not the bootstrap:
    samples drawn twice are each other's nearest neighbours, which ruins what manifolds are
    estimated from.

    Args:
        figures: of the samples at these indices, (m,), and of the real ones that they are paired
            with by their labels: so the width is also that of another reference.
    """
    index = torch.arange(n)
    values = [figures(index[index % GROUPS != group]) for group in range(GROUPS)]
    t = float(student_t.ppf(0.975, GROUPS - 1))
    scale = t * (GROUPS - 1) / math.sqrt(GROUPS)
    return {name: scale * statistics.stdev(left) for name, left in in_all(values).items()}

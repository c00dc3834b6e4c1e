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
    return {name: half_width([draw[name] for draw in draws]) for name in draws[0]}


def leaving_out(figures: Callable[[Tensor], Figures], strata: Tensor) -> Figures:
    """Half width by figure from one draw of n samples: the jackknife over ten groups.

    Efron & Tibshirani 1993, "An Introduction to the Bootstrap", Section 11.5. Not the bootstrap:
    samples drawn twice are each other's nearest neighbours, which ruins what manifolds are
    estimated from.

    Args:
        figures: of the samples at these indices, (m,).
        strata: (n,), what is the same in every draw, e.g. the labels asked for: each group has an
            equal share of every value.
    """
    group = torch.empty(len(strata), dtype=torch.long)
    group[strata.argsort(stable=True)] = torch.arange(len(strata)) % GROUPS
    values = [figures((group != left_out).nonzero()[:, 0]) for left_out in range(GROUPS)]
    t = float(student_t.ppf(0.975, GROUPS - 1))
    return {
        name: t * (GROUPS - 1) / math.sqrt(GROUPS) * statistics.stdev(v[name] for v in values)
        for name in values[0]
    }

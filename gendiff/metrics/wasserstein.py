"""Exact Wasserstein distance between small point sets."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from gendiff.metrics.base import FeatureMetric, Known

_MOST = 2000  # points; the time grows as their third power


def wasserstein2(x: Tensor, y: Tensor) -> float:
    """2-Wasserstein distance between two point sets of equal size, in the units of the points.

    The optimal plan between equally weighted sets of n points is a one-to-one assignment (Peyré &
    Cuturi 2019, "Computational Optimal Transport", Prop. 2.1), found exactly. The time grows as
    n³: meant for toy data of up to about 2000 points.

    Args:
        x: (n, d).
        y: (n, d).

    Raises:
        ValueError: the shapes differ, are not (n, d), or the sets are empty.
    """
    if x.shape != y.shape or x.ndim != 2 or len(x) == 0:
        raise ValueError(
            f"expected two equal shapes (n, d), got {tuple(x.shape)}, {tuple(y.shape)}"
        )
    x, y = x.detach().cpu().double(), y.detach().cpu().double()
    # Differences are formed: cdist through matrix products would cancel for close points.
    cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square().numpy()
    rows, columns = linear_sum_assignment(cost)
    return float(cost[rows, columns].mean() ** 0.5)


class Wasserstein2(FeatureMetric):
    """`wasserstein2` of real and generated points, the first min(n, m) of each."""

    higher_is_better = False
    figures = ("wasserstein2",)
    least = 1

    @classmethod
    def of(cls, known: Known) -> Wasserstein2 | None:
        """The metric for what is known; None unless these are points, and at most 2000."""
        return cls() if known.points and known.samples <= _MOST else None

    def compare(self, real: Tensor, generated: Tensor) -> Tensor:
        """2-Wasserstein distance of (n, d) and (m, d), in the units of the points."""
        n = min(len(real), len(generated))
        return real.new_tensor(wasserstein2(real[:n], generated[:n]))

"""Energy distance between point sets, which needs no bandwidth and no features."""

from __future__ import annotations

import torch
from torch import Tensor

from gendiff.metrics.base import FeatureMetric, Known

_PAIRS = 2**22  # distances held at a time, 32 MB


def energy_distance(x: Tensor, y: Tensor) -> float:
    """Squared energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'|, in the units of the points.

    Székely & Rizzo 2013, "Energy statistics: A class of statistics based on distances"; at least
    0, and 0 only between equal distributions. Here as a U-statistic: means over pairs of different
    points, so unbiased and hence possibly slightly negative.

    Args:
        x: (n, d).
        y: (m, d).

    Raises:
        ValueError: the points are not of one dimension, or fewer than 2 in a set.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(
            f"expected (n, d) and (m, d), n and m at least 2, got {tuple(x.shape)}, "
            f"{tuple(y.shape)}"
        )
    x, y = x.detach().double(), y.detach().to(x.device).double()
    n, m = len(x), len(y)
    across = _sum_of_distances(x, y) / (n * m)
    within = _sum_of_distances(x, x) / (n * (n - 1)) + _sum_of_distances(y, y) / (m * (m - 1))
    return float(2 * across - within)


def _sum_of_distances(x: Tensor, y: Tensor) -> Tensor:
    """Over all pairs of rows; a point is at distance 0 from itself."""
    # Differences are formed: matrix products would cancel for close points.
    parts = [
        torch.cdist(rows, y, compute_mode="donot_use_mm_for_euclid_dist").sum()
        for rows in x.split(max(1, _PAIRS // len(y)))
    ]
    return torch.stack(parts).sum()


class EnergyDistance(FeatureMetric):
    """`energy_distance` of real and generated points."""

    higher_is_better = False
    figures = ("energy_distance",)

    @classmethod
    def of(cls, known: Known) -> EnergyDistance | None:
        """The metric for what is known; None unless these are points."""
        return cls() if known.points else None

    def compare(self, real: Tensor, generated: Tensor) -> Tensor:
        """Squared energy distance of (n, d) and (m, d), in the units of the points."""
        return real.new_tensor(energy_distance(real, generated))

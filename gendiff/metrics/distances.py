"""Exact Euclidean distances between two sets of features, in blocks that fit in memory."""

from collections.abc import Iterator

import torch
from torch import Tensor

_PAIRS = 2**22  # distances held at a time, 32 MB


def row_blocks(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Distances of some rows of x at a time to all rows of y, in float64.

    Differences are formed, and in the same order for every pair: equal rows are at distance 0,
    d(a, b) is d(b, a), and what ties compares equal. Matrix products would be some ten times
    faster, and would break the ties.

    Args:
        x: (n, F).
        y: (m, F), on the device of x.

    Yields:
        Which rows of x these are, and their distances (rows, m), which may be written to.
    """
    x, y = x.double(), y.double()
    size = max(1, _PAIRS // max(1, len(y)))
    for start in range(0, len(x), size):
        rows = slice(start, min(start + size, len(x)))
        yield rows, torch.cdist(x[rows], y, compute_mode="donot_use_mm_for_euclid_dist")


def kth_nearest(x: Tensor, k: int) -> Tensor:
    """Distance of each row to its k-th nearest other row, (n,) in float64.

    A row is left out by its place, so that a duplicate of it counts, at distance 0.

    Args:
        x: (n, F), more than k rows.
        k: at least 1.
    """
    radii = torch.empty(len(x), dtype=torch.float64, device=x.device)
    for rows, block in row_blocks(x, x):
        block.diagonal(rows.start).fill_(torch.inf)
        radii[rows] = block.kthvalue(k, dim=1).values
    return radii


def nearest(x: Tensor, y: Tensor) -> Tensor:
    """Distance of each row of x (n, F) to the nearest row of y (m, F), (n,) in float64."""
    distances = torch.empty(len(x), dtype=torch.float64, device=x.device)
    for rows, block in row_blocks(x, y):
        distances[rows] = block.amin(1)
    return distances

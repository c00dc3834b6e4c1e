"""Squared distances between sets of features: by matrix products, and exact where it matters.

Matrix products are ten times faster than differences, and lose the last digits. What is compared
needs these: a copy is at distance 0 of its original, and what ties must tie. So every distance that
rounding could put on the wrong side of a comparison is computed again, from differences.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

_PAIRS = 2**22  # distances held at a time, 32 MB


def blocks(x: Tensor, y: Tensor, *bounds: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared distances, float64, of some rows of x at a time to all rows of y.

    Args:
        x: (n, F).
        y: (m, F), on the device of x.
        bounds: squared distances, (n, 1) or (1, m), that they are to be compared with: every
            comparison with one of these comes out as it would of exact distances.

    Yields:
        Which rows of x these are, and their squared distances (rows, m).
    """
    x, y = x.double(), y.double()
    for rows, block, error in _products(x, y):
        for bound in bounds:
            _settle(block, bound[rows] if len(bound) > 1 else bound, error, x[rows], y)
        yield rows, block


def kth_nearest(x: Tensor, k: int) -> Tensor:
    """Squared distance of each row to its k-th nearest other row, (n,) in float64, exact.

    A row is left out by its place, so that a duplicate of it counts, at distance 0.

    Args:
        x: (n, F), more than k rows.
        k: at least 1.
    """
    return _kth(x, x, k, others=True)


def nearest(x: Tensor, y: Tensor) -> Tensor:
    """Distance of each row of x (n, F) to the nearest row of y (m, F), (n,) in float64, exact."""
    return _kth(x, y, 1, others=False).sqrt()


def _kth(x: Tensor, y: Tensor, k: int, others: bool) -> Tensor:
    x, y = x.double(), y.double()
    found = x.new_empty(len(x))
    for rows, block, error in _products(x, y):
        if others:
            block.diagonal(rows.start).fill_(torch.inf)
        # the exact one is within the error of this one, and so among those that are settled
        _settle(block, _smallest(block, k)[:, None], 2 * error, x[rows], y)
        found[rows] = _smallest(block, k)
    return found


def _smallest(block: Tensor, k: int) -> Tensor:
    return block.amin(1) if k == 1 else block.kthvalue(k, dim=1).values


def _products(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor, float]]:
    """Blocks by matrix products, and a bound of their errors."""
    if len(x) == 0:
        return
    centre = y.mean(0)  # products of what lies near the origin lose less
    a, b = x - centre, y - centre
    norms_a, norms_b = a.square().sum(1, keepdim=True), b.square().sum(1)
    # a sum of F products is off by F roundings of its terms; the norms and the centring likewise
    roundings = 4 * (x.shape[1] + 4) * torch.finfo(torch.float64).eps
    error = roundings * float(norms_a.max() + norms_b.max())
    size = max(1, _PAIRS // max(1, len(y)))
    for start in range(0, len(x), size):
        rows = slice(start, min(start + size, len(x)))
        yield rows, torch.addmm(norms_b, a[rows], b.T, alpha=-2).add_(norms_a[rows]), error


def _settle(block: Tensor, bound: Tensor, error: float, x: Tensor, y: Tensor) -> None:
    """Compute the entries anew, exactly, that rounding could have put on either side."""
    close = ((block - bound).abs() <= error).nonzero()
    for i, j in (part.unbind(1) for part in close.split(_PAIRS // x.shape[1] + 1)):
        # cdist sums each pair by itself and in one order: equal differences, equal distances
        pairs = torch.cdist(x[i, None], y[j, None], compute_mode="donot_use_mm_for_euclid_dist")
        block[i, j] = pairs.flatten().square()

"""Kernel distance: maximum mean discrepancy of two sets of features."""

import torch
from torch import Tensor

from gendiff.metrics.base import FeatureMetric
from gendiff.papers import Paper, cites

_ROWS = 1024  # rows of the kernel matrix held at a time


KID = Paper(
    "Mikołaj Bińkowski, Danica J. Sutherland, Michael Arbel, Arthur Gretton",
    "Demystifying MMD GANs",
    "ICLR",
    2018,
)


@cites(KID)
class KernelDistance(FeatureMetric):
    """Unbiased squared MMD of real and generated features with the kernel (x·y / F + 1)³.

    Kernel: Bińkowski et al. 2018, "Demystifying MMD GANs", Sec. 4 (KID). Estimator: Gretton et al.
    2012, "A Kernel Two-Sample Test", Eq. 3, on all samples rather than on random subsets, so the
    result is deterministic. It is unbiased and hence may be slightly negative.
    """

    figures = ("kernel_distance",)
    higher_is_better = False

    def compare(self, real: Tensor, generated: Tensor) -> Tensor:
        """Unbiased squared MMD of (n, F) and (m, F)."""
        across = _kernel_sum(real, generated) / (len(real) * len(generated))
        return _mean_of_pairs(real) + _mean_of_pairs(generated) - 2 * across


def _mean_of_pairs(x: Tensor) -> Tensor:
    """Mean kernel value over the ordered pairs of different rows of (n, F)."""
    n, features = x.shape
    own = (x.square().sum(1) / features + 1).pow(3).sum()
    return (_kernel_sum(x, x) - own) / (n * (n - 1))


def _kernel_sum(x: Tensor, y: Tensor) -> Tensor:
    """Sum of the kernel over all pairs of rows."""
    blocks = [(rows @ y.T / x.shape[1] + 1).pow(3).sum() for rows in torch.split(x, _ROWS)]
    return torch.stack(blocks).sum()

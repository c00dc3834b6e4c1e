"""Kernel distance: maximum mean discrepancy of two sets of features."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

_ROWS = 1024  # rows of the kernel matrix held at a time


class KernelDistance(Metric):
    """Unbiased squared MMD of real and generated features with the kernel (x·y / F + 1)³.

    Kernel: Bińkowski et al. 2018, "Demystifying MMD GANs", Sec. 4 (KID). Estimator: Gretton et al.
    2012, "A Kernel Two-Sample Test", Eq. 3, on all samples rather than on random subsets, so the
    result is deterministic. It is unbiased and hence may be slightly negative.

    All features are kept. With an ensemble of M feature extractors the distance is computed for
    each member on its own.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    real_features: list[Tensor]
    generated_features: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("real_features", [], dist_reduce_fx="cat")
        self.add_state("generated_features", [], dist_reduce_fx="cat")

    def update(self, features: Tensor, real: bool) -> None:
        """Add a batch.

        Args:
            features: (B, F), or (B, M, F) for an ensemble.
            real: whether these are features of real samples or of generated ones.

        Raises:
            ValueError: the features have another number of axes.
        """
        if features.ndim not in (2, 3):
            raise ValueError(f"expected features (B, F) or (B, M, F), got {tuple(features.shape)}")
        kept = self.real_features if real else self.generated_features
        kept.append(features if features.ndim == 3 else features[:, None])

    def compute(self) -> Tensor:
        """Squared MMD averaged over the members, a float64 scalar.

        Raises:
            ValueError: fewer than 2 real or 2 generated samples.
        """
        real = _gather(self.real_features, "real")
        generated = _gather(self.generated_features, "generated")
        members = [_mmd2(x, y) for x, y in zip(real, generated, strict=True)]
        return torch.stack(members).mean()


def _gather(batches: list[Tensor] | Tensor, name: str) -> Tensor:
    """All features of a side, (M, n, F) in float64; after a sync they are one tensor already."""
    count = len(dim_zero_cat(batches)) if len(batches) else 0
    if count < 2:
        raise ValueError(f"the unbiased estimate needs at least 2 {name} samples, got {count}")
    return dim_zero_cat(batches).double().transpose(0, 1)


def _mmd2(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased squared MMD of (n, F) and (m, F)."""
    return _mean_of_pairs(x) + _mean_of_pairs(y) - 2 * _kernel_sum(x, y) / (len(x) * len(y))


def _mean_of_pairs(x: Tensor) -> Tensor:
    """Mean kernel value over the ordered pairs of different rows of (n, F)."""
    n, features = x.shape
    own = (x.square().sum(1) / features + 1).pow(3).sum()
    return (_kernel_sum(x, x) - own) / (n * (n - 1))


def _kernel_sum(x: Tensor, y: Tensor) -> Tensor:
    """Sum of the kernel over all pairs of rows."""
    blocks = [(rows @ y.T / x.shape[1] + 1).pow(3).sum() for rows in torch.split(x, _ROWS)]
    return torch.stack(blocks).sum()

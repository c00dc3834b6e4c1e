"""Fréchet distance between Gaussians fitted to two sets of features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gendiff.metrics.base import Known, SampleMetric
from gendiff.papers import FID, cites


def frechet_distance(mu1: Tensor, cov1: Tensor, mu2: Tensor, cov2: Tensor) -> Tensor:
    """Squared Fréchet (2-Wasserstein) distance between two Gaussians.

    d² = |mu1 - mu2|² + tr(cov1) + tr(cov2) - 2 tr((cov1 cov2)^½): Heusel et al. 2017, "GANs Trained
    by a Two Time-Scale Update Rule", Eq. 6, after Dowson & Landau 1982.

    Args:
        mu1: mean, (..., F).
        cov1: covariance, (..., F, F), symmetric positive semi-definite; may be singular.
        mu2: as `mu1`.
        cov2: as `cov1`.

    Returns:
        (...), at least 0, in squared units of the features. Pass float64: the root of a covariance
        halves the number of correct digits in directions of small variance.
    """
    # tr((S1 S2)^½) is the nuclear norm of S1^½ S2^½: no root of a non-symmetric matrix is taken.
    cross = torch.linalg.svdvals(_root(cov1) @ _root(cov2)).sum(-1)
    own = _trace(cov1) + _trace(cov2)
    distance: Tensor = (mu1 - mu2).square().sum(-1) + own - 2 * cross
    return distance.clamp(min=0)  # below 0 only by rounding


@cites(FID)
class FrechetDistance(SampleMetric):
    """Streaming `frechet_distance` between real and generated features.

    With an ensemble of M feature extractors the distance is computed for each member on its own.
    Means and covariances (divided by n - 1) are kept in float64 and merge exactly over ranks.

    Args:
        num_features: F, features per member.
        members: M, members of the ensemble.
    """

    figures = ("frechet_distance",)
    least = 2
    higher_is_better = False

    real_moments: Tensor
    generated_moments: Tensor

    def __init__(self, num_features: int, members: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_features = num_features
        self.members = members
        empty = torch.zeros(members, num_features + 2, num_features, dtype=torch.float64)
        self.add_state("real_moments", empty, dist_reduce_fx=_merge)
        self.add_state("generated_moments", empty.clone(), dist_reduce_fx=_merge)

    @classmethod
    def of(cls, known: Known) -> FrechetDistance:
        """The metric for the known number of features and of members."""
        return cls(known.num_features, known.members)

    def update(self, x: Tensor, real: bool) -> None:
        """Add a batch.

        Args:
            x: features (B, F) for a single member, else (B, M, F).
            real: whether these are features of real samples or of generated ones.

        Raises:
            ValueError: the shape is another one.
        """
        x = x[:, None] if x.ndim == 2 else x
        if x.ndim != 3 or x.shape[1:] != (self.members, self.num_features):
            raise ValueError(
                f"expected features (B, {self.members}, {self.num_features}), got {tuple(x.shape)}"
            )
        if len(x) == 0:
            return
        name = "real_moments" if real else "generated_moments"
        setattr(self, name, _merge(torch.stack([getattr(self, name), _moments(x)])))

    def compute(self) -> Tensor:
        """Distance averaged over the members, a float64 scalar.

        Raises:
            ValueError: fewer than 2 real or 2 generated samples.
        """
        gaussians = []
        for name, moments in (("real", self.real_moments), ("generated", self.generated_moments)):
            count = int(moments[0, 1, 0])
            if count < 2:
                raise ValueError(f"a covariance needs at least 2 {name} samples, got {count}")
            gaussians += [moments[:, 0], moments[:, 2:] / (count - 1)]
        return frechet_distance(*gaussians).mean()


# Moments of a set of features are one tensor (M, F + 2, F), since a merge needs them together:
# row 0 the mean, row 1 the count (repeated), rows 2 and on the sum of centred outer products.


def _moments(features: Tensor) -> Tensor:
    """Moments of a batch (B, M, F)."""
    x = features.double().transpose(0, 1)
    mean = x.mean(1, keepdim=True)
    x = x - mean
    return torch.cat([mean, torch.full_like(mean, len(features)), x.mT @ x], dim=1)


def _merge(parts: Tensor) -> Tensor:
    """Moments of the union of several sets, (R, M, F + 2, F) to (M, F + 2, F).

    Chan, Golub & LeVeque 1983, "Algorithms for Computing the Sample Variance": unlike plain sums
    of squares, it loses no digits when the mean is large against the spread.
    """
    mean, count, scatter = parts[..., :1, :], parts[..., 1:2, :], parts[..., 2:, :]
    total = count.sum(0)
    merged = (count * mean).sum(0) / total.clamp(min=1)
    offset = mean - merged
    scatter = (scatter + offset.mT @ (count * offset)).sum(0)
    return torch.cat([merged, total, scatter], dim=1)


def _trace(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)


def _root(cov: Tensor) -> Tensor:
    """Symmetric square root of positive semi-definite matrices (..., F, F)."""
    values, vectors = torch.linalg.eigh(cov)
    # Rounding leaves about eps in place of a zero eigenvalue, and its root is far from zero: with
    # fewer samples than features those would add up, so what lies below the rank cut is zero.
    cut = values[..., -1:] * (cov.shape[-1] * torch.finfo(cov.dtype).eps)
    values = torch.where(values > cut, values, 0)
    root: Tensor = (vectors * values.sqrt()[..., None, :]) @ vectors.mT
    return root

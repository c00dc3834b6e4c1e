"""Fréchet distance as it would be of infinitely many samples."""

from __future__ import annotations

import torch
from torch import Tensor

from gendiff.metrics.base import FeatureMetric, Known
from gendiff.metrics.frechet import frechet_distance
from gendiff.papers import Paper, cites

_CUTS = (1, 2, 3, 4)  # into how many parts the samples are cut


UNBIASED = Paper(
    "Min Jin Chong, David Forsyth",
    "Effectively Unbiased FID and Inception Score and Where to Find Them",
    "CVPR",
    2020,
)


@cites(UNBIASED)
class FrechetInfinity(FeatureMetric):
    """Fréchet distance without its bias in the number of samples n.

    The distance of finite sets is too large, by a term in 1/n to first order: Chong & Forsyth 2020,
    "Effectively Unbiased FID and Inception Score". As there, a line through distances of smaller
    sets is followed to 1/n = 0. They take fewer of the generated samples only; here both sides
    shrink together, so that the bias of the reference goes too. The first n of both sides are
    shuffled in one fixed order and cut into 1 to 4 parts, and the distances of the parts are
    averaged: where the i-th samples of both sides have a label in common, those of the parts do.

    May be slightly negative. Of the bias a term in 1/n² is left: on Gaussians of 8 features some
    6 % of it at n = 4.5 F, and 2 % at n = 8 F.
    """

    figures = ("frechet_infinity",)
    higher_is_better = False
    least = 2 * _CUTS[-1]

    @classmethod
    def of(cls, known: Known) -> FrechetInfinity | None:
        """The metric; None where the smallest parts would have no more samples than features."""
        return cls() if known.samples // _CUTS[-1] > known.num_features else None

    def compare(self, real: Tensor, generated: Tensor) -> Tensor:
        """Squared distance of infinitely many samples, from (n, F) and (m, F).

        Raises:
            ValueError: the smallest parts have no more samples than features.
        """
        n, features = min(len(real), len(generated)), real.shape[1]
        if n // _CUTS[-1] <= features:
            raise ValueError(
                f"{features} features need more than {features} samples in each of {_CUTS[-1]} "
                f"parts, got {n} samples"
            )
        order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
        x, y = real[order], generated[order]
        sizes = torch.tensor([n // k for k in _CUTS], dtype=torch.float64, device=real.device)
        distances = torch.stack([_distance_of_parts(x, y, k) for k in _CUTS])
        return _intercept(1 / sizes, distances, weights=sizes)


def _distance_of_parts(x: Tensor, y: Tensor, k: int) -> Tensor:
    """Mean distance between the k equal parts of two sets of n rows; up to k - 1 rows are left."""
    size = len(x) // k
    parts = [z[: k * size].unflatten(0, (k, size)) for z in (x, y)]
    (mu1, cov1), (mu2, cov2) = (_gaussians(part) for part in parts)
    return frechet_distance(mu1, cov1, mu2, cov2).mean()


def _gaussians(parts: Tensor) -> tuple[Tensor, Tensor]:
    """Means (k, F) and covariances (k, F, F) of parts (k, size, F)."""
    mean = parts.mean(1, keepdim=True)
    centred = parts - mean
    return mean[:, 0], centred.mT @ centred / (parts.shape[1] - 1)


def _intercept(x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Where the line of weighted least squares through points (x, y) crosses x = 0.

    The mean distance of k parts of near-equal distributions varies as (k/n)² / k, hence weights
    that fall as 1/k.
    """
    weights = weights / weights.sum()
    centre = (weights * x).sum()
    slope = (weights * (x - centre) * y).sum() / (weights * (x - centre).square()).sum()
    return (weights * y).sum() - slope * centre

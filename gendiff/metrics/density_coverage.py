"""Density and coverage of samples by the balls around the real ones."""

from typing import Any

import torch
from torch import Tensor

from gendiff.metrics.base import FeatureMetric
from gendiff.metrics.distances import blocks, kth_nearest
from gendiff.papers import Paper, cites

RELIABLE = Paper(
    "Muhammad Ferjad Naeem, Seong Joon Oh, Youngjung Uh, Yunjey Choi, Jaejun Yoo",
    "Reliable Fidelity and Diversity Metrics for Generative Models",
    "ICML",
    2020,
)


@cites(RELIABLE)
class DensityCoverage(FeatureMetric):
    """How many real neighbourhoods a generated sample is in, and how many of them have any.

    The ball of a real sample reaches to its k-th nearest other one, its rim left out. Density is
    how many balls a generated sample is in, over k: 1 on average for samples as the data, more
    where they crowd in its dense parts; in [0, n/k] for n real samples. Coverage is the share of
    balls with a generated sample in them, in [0, 1]: about 1 - 2⁻ᵏ for as many samples as the data.

    Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics for Generative Models". Unlike
    `PrecisionRecall` no ball is drawn around a generated sample, so stray ones span none.

    Args:
        k: neighbours, at least 1; fewer than the samples of a side.
    """

    figures = ("density", "coverage")
    higher_is_better = True

    def __init__(self, k: int = 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k = k
        self.least = k + 1

    def compare(self, real: Tensor, generated: Tensor) -> dict[str, Tensor]:
        """Density and coverage of features (n, F) and (m, F)."""
        radii = kth_nearest(real, self.k)[:, None]
        counts = torch.zeros(len(real), dtype=torch.float64, device=real.device)
        for rows, block in blocks(real, generated, radii):
            counts[rows] = (block < radii[rows]).sum(1).double()
        return {
            "density": counts.sum() / (self.k * len(generated)),
            "coverage": (counts > 0).double().mean(),
        }

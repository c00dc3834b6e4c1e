"""Precision and recall of samples by the balls that nearest neighbours span."""

from typing import Any

import torch
from torch import Tensor

from gendiff.metrics.base import FeatureMetric
from gendiff.metrics.distances import blocks, kth_nearest
from gendiff.papers import Paper, cites

PRECISION_RECALL = Paper(
    "Tuomas Kynkäänniemi, Tero Karras, Samuli Laine, Jaakko Lehtinen, Timo Aila",
    "Improved Precision and Recall Metric for Assessing Generative Models",
    "NeurIPS",
    2019,
)


@cites(PRECISION_RECALL)
class PrecisionRecall(FeatureMetric):
    """How many generated samples look real, and how many real ones could have been generated.

    Precision is the share of generated samples within a ball of the real ones, recall that of real
    samples within a ball of the generated ones, both in [0, 1]. The ball of a sample reaches to its
    k-th nearest other one on its own side, its rim included. Kynkäänniemi et al. 2019, "Improved
    Precision and Recall Metric for Assessing Generative Models", Eq. 1 and 2.

    Args:
        k: neighbours, at least 1; fewer than the samples of a side.
    """

    figures = ("precision", "recall")
    higher_is_better = True

    def __init__(self, k: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k = k
        self.least = k + 1

    def compare(self, real: Tensor, generated: Tensor) -> dict[str, Tensor]:
        """Precision and recall of features (n, F) and (m, F)."""
        around_real = kth_nearest(real, self.k)[:, None]
        around_generated = kth_nearest(generated, self.k)[None]
        precise = torch.zeros(len(generated), dtype=torch.bool, device=real.device)
        recalled = torch.zeros(len(real), dtype=torch.bool, device=real.device)
        for rows, block in blocks(real, generated, around_real, around_generated):
            precise |= (block <= around_real[rows]).any(0)
            recalled[rows] = (block <= around_generated).any(1)
        return {"precision": precise.double().mean(), "recall": recalled.double().mean()}

"""Class accuracy: how often a classifier sees the class that a sample was asked to have."""

from __future__ import annotations

import torch
from torch import Tensor

from gendiff.metrics.base import Known, SampleMetric
from gendiff.papers import Paper, cites

GAN_TEST = Paper(
    "Konstantin Shmelkov, Cordelia Schmid, Karteek Alahari",
    "How Good Is My GAN?",
    "ECCV",
    2018,
)


@cites(GAN_TEST)
class ClassAccuracy(SampleMetric):
    """Streaming share of hits among the generated samples, in [0, 1].

    The GAN-test of Shmelkov et al. 2018, "How good is my GAN?": a classifier trained on real
    samples judges generated ones. With an ensemble it is the mean over members. Real samples are
    ignored.
    """

    higher_is_better = True
    figures = ("class_accuracy",)
    sees = "hits"

    hits: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("hits", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    @classmethod
    def of(cls, known: Known) -> ClassAccuracy | None:
        """The metric for what is known; None where samples are not asked for these classes."""
        return cls() if known.classes and known.asked else None

    def update(self, x: Tensor, real: bool) -> None:
        """Add a batch.

        Args:
            x: hits, bool, (B,) of a single classifier, else (B, M).
            real: whether these are of real samples, which are ignored.

        Raises:
            ValueError: the shape or the type is another one.
        """
        if x.ndim not in (1, 2) or x.dtype != torch.bool:
            raise ValueError(f"expected bool hits (B,) or (B, M), got {x.dtype} {tuple(x.shape)}")
        if not real:
            self.hits += x.sum()
            self.count += x.numel()

    def compute(self) -> Tensor:
        """Share of hits, a float64 scalar.

        Raises:
            ValueError: no generated samples.
        """
        if self.count == 0:
            raise ValueError("ClassAccuracy needs at least 1 generated sample, got 0")
        return self.hits.double() / self.count

"""Inception score: how sure a classifier is of each sample, and how varied the classes are."""

from __future__ import annotations

import torch
from torch import Tensor

from gendiff.metrics.base import Known, SampleMetric
from gendiff.papers import INCEPTION_SCORE, cites


@cites(INCEPTION_SCORE)
class InceptionScore(SampleMetric):
    """Streaming exp of the mean of KL(p(y|x) || p(y)) over the generated samples.

    Salimans et al. 2016, "Improved Techniques for Training GANs", Sec. 4. In [1, C]: C when the
    classifier is sure of every sample and the classes are even, 1 when it sees no difference
    between samples. The marginal p(y) is that of all samples: no random splits, whose mean depends
    on their number (Barratt & Sharma 2018, "A Note on the Inception Score", Sec. 4.1). Kept in
    float64 sums that merge exactly over ranks. With an ensemble of M classifiers each has its own
    score, and the figure is their mean. Real samples are ignored.

    Args:
        classes: C, of the logits.
        members: M, classifiers in the ensemble.
    """

    higher_is_better = True
    figures = ("inception_score",)
    sees = "logits"

    entropies: Tensor
    probabilities: Tensor
    count: Tensor

    def __init__(self, classes: int, members: int = 1) -> None:
        super().__init__()
        zeros = torch.zeros(members, classes, dtype=torch.float64)
        self.add_state("entropies", zeros[:, 0].clone(), dist_reduce_fx="sum")
        self.add_state("probabilities", zeros, dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    @classmethod
    def of(cls, known: Known) -> InceptionScore | None:
        """The metric for what is known; None without classes."""
        return cls(known.classes, known.members) if known.classes else None

    def update(self, x: Tensor, real: bool) -> None:
        """Add a batch.

        Args:
            x: logits (B, C) of a single classifier, else (B, M, C).
            real: whether these are logits of real samples, which are ignored.

        Raises:
            ValueError: the shape is another one.
        """
        logits = x[:, None] if x.ndim == 2 else x
        if logits.ndim != 3 or logits.shape[1:] != self.probabilities.shape:
            members, classes = self.probabilities.shape
            raise ValueError(f"expected logits (B, {members}, {classes}), got {tuple(x.shape)}")
        if real:
            return
        p = logits.double().softmax(-1)
        self.entropies += torch.special.entr(p).sum((0, 2))  # 0 for p = 0, whatever the logit
        self.probabilities += p.sum(0)
        self.count += len(logits)

    def compute(self) -> Tensor:
        """Score averaged over the members, a float64 scalar.

        Raises:
            ValueError: no generated samples.
        """
        if self.count == 0:
            raise ValueError("InceptionScore needs at least 1 generated sample, got 0")
        # The mean divergence is the entropy of the marginal less the mean entropy.
        marginal = torch.special.entr(self.probabilities / self.count).sum(-1)
        return (marginal - self.entropies / self.count).exp().mean()

"""Whether samples are copies of the training data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gendiff.metrics.base import FeatureMetric, Known
from gendiff.metrics.distances import nearest


class Copying(FeatureMetric):
    """How near generated samples are to the training data, beside held-out real ones.

    From the distance of every sample to its nearest training sample:

    - ``nearest_ratio``: mean distance of generated samples over that of real ones: 1 as held-out
      data, 0 for copies, above 1 for samples off the data.
    - ``copying``: probability that a generated sample is the nearer one of a generated and a real
      one, ties half: 0.5 as held-out data, 1 for copies. This is the Mann-Whitney U over its range,
      the statistic of Meehan, Chaudhuri & Dasgupta 2020, "A Non-Parametric Test to Detect
      Data-Copying in Generative Models", who standardise it. Samples off the data lower it, and
      can hide copies among them.

    `update` must be given real samples that are not in the training data; where all of these have
    a copy in it the ratio is not a number. Only distances are kept.

    Args:
        train: features of the training data, (N, F), or (N, M, F) of an ensemble.
    """

    figures = ("nearest_ratio", "copying")
    least = 1

    train_features: Tensor

    def __init__(self, train: Tensor, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        train = train if train.ndim == 3 else train[:, None]
        self.register_buffer("train_features", train, persistent=False)

    @classmethod
    def of(cls, known: Known) -> Copying | None:
        """The metric for the known training features; None where there are none."""
        return None if known.train is None else cls(known.train)

    def update(self, x: Tensor, real: bool) -> None:
        """Add a batch.

        Args:
            x: features (B, F), or (B, M, F) of an ensemble.
            real: whether these are features of held-out samples or of generated ones.

        Raises:
            ValueError: the features have another shape than those of the training data.
        """
        x = x[:, None] if x.ndim == 2 else x
        members, features = self.train_features.shape[1:]
        if x.shape[1:] != (members, features):
            raise ValueError(f"expected features (B, {members}, {features}), got {tuple(x.shape)}")
        distances = [nearest(x[:, m], self.train_features[:, m]) for m in range(members)]
        super().update(torch.stack(distances, dim=1)[..., None], real)

    def compare(self, real: Tensor, generated: Tensor) -> dict[str, Tensor]:
        """Both figures from distances to the training data, (n, 1) and (m, 1)."""
        held_out, nearer = real[:, 0].sort().values, generated[:, 0].contiguous()
        below, up_to = (
            torch.searchsorted(held_out, nearer, right=right) for right in (False, True)
        )
        farther = 1 - (below + up_to).double() / (2 * len(held_out))
        return {"nearest_ratio": nearer.mean() / held_out.mean(), "copying": farther.mean()}

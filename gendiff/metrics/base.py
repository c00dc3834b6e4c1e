"""What all metrics of sample sets share: what they look at, and what they may know beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


@dataclass(frozen=True)
class Known:
    """What is known before any sample is compared.

    Attributes:
        num_features: F, features of one extractor.
        members: M, extractors in an ensemble; 1 for a single one.
        classes: C, of the extractor's logits; 0 where it has none.
        asked: whether these are the classes that samples are asked for.
        samples: the fewest that will be compared, on either side.
        points: whether the features are the data themselves, with no extractor between.
        modes: means (K, F), standard deviations (K,) and weights (K,) of the mixture that the data
            are drawn from; None where it is not known.
        mode_weights: true shares (C,) of the modes, where the data's are the classes C; None where
            they are not.
        train: features of the training half, (N, M, F); None where there are none.
    """

    num_features: int
    members: int = 1
    classes: int = 0
    asked: bool = False
    samples: int = 0
    points: bool = False
    modes: tuple[Tensor, Tensor, Tensor] | None = None
    mode_weights: Tensor | None = None
    train: Tensor | None = None


class SampleMetric(Metric):
    """Compares generated samples with real ones; streaming, and right over ranks.

    Update with batches of any size, on any number of ranks; every sample counts once. Rows are
    taken in the order of ranks, so contiguous shares give what a single process gives. A rank with
    no sample of a side is given an empty batch of it, as all must know its shape.

    Class attributes:

    - ``figures``: names of what it computes. `compute` gives a float64 scalar where there is one,
      else a dict by name.
    - ``least``: fewest samples a side that it can be computed from.
    - ``sees``: what `update` is given: ``features`` (B, M, F), ``logits`` (B, M, C), or ``hits``
      (B, M), whether each extractor sees the class that was asked for. One extractor's may come
      without the axis of members.
    """

    is_differentiable = False
    full_state_update = False

    figures: ClassVar[tuple[str, ...]]
    least: int = 1
    sees: ClassVar[Literal["features", "logits", "hits"]] = "features"

    @classmethod
    def of(cls, known: Known) -> SampleMetric | None:
        """The metric for what is known; None where it says nothing."""
        return cls()

    def update(self, x: Tensor, real: bool) -> None:
        """Add a batch of real or of generated samples."""
        raise NotImplementedError  # what a metric keeps of them sets metrics apart


class FeatureMetric(SampleMetric):
    """A metric that needs all features at once: a subclass is one formula, `compare`.

    With an ensemble of M extractors each is compared on its own, and the figures are their means.
    """

    least = 2

    real_features: list[Tensor]
    generated_features: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("real_features", [], dist_reduce_fx="cat")
        self.add_state("generated_features", [], dist_reduce_fx="cat")

    def compare(self, real: Tensor, generated: Tensor) -> Tensor | dict[str, Tensor]:
        """Figures from float64 features (n, F) and (m, F)."""
        raise NotImplementedError  # the one formula that a subclass is

    def update(self, x: Tensor, real: bool) -> None:
        """Add a batch.

        Args:
            x: features (B, F), or (B, M, F) of an ensemble.
            real: whether these are features of real samples or of generated ones.

        Raises:
            ValueError: the features have another number of axes.
        """
        if x.ndim not in (2, 3):
            raise ValueError(f"expected features (B, F) or (B, M, F), got {tuple(x.shape)}")
        kept = self.real_features if real else self.generated_features
        kept.append(x if x.ndim == 3 else x[:, None])

    def compute(self) -> Tensor | dict[str, Tensor]:
        """Figures averaged over the members, float64.

        Raises:
            ValueError: too few real or generated samples.
        """
        real = self._gather(self.real_features, "real")
        generated = self._gather(self.generated_features, "generated")
        members = [self.compare(x, y) for x, y in zip(real, generated, strict=True)]
        return mean_of(members)

    def _gather(self, batches: list[Tensor] | Tensor, name: str) -> Tensor:
        """All features of a side, (M, n, F); after a sync they are one tensor already."""
        count = len(dim_zero_cat(batches)) if len(batches) else 0
        if count < self.least:
            raise ValueError(
                f"{type(self).__name__} needs at least {self.least} {name} samples, got {count}"
            )
        return dim_zero_cat(batches).double().transpose(0, 1)


def mean_of(members: list[Any]) -> Any:
    """The mean of scalars, or of dicts by name."""
    if isinstance(members[0], dict):
        return {name: sum(m[name] for m in members) / len(members) for name in members[0]}
    return sum(members) / len(members)

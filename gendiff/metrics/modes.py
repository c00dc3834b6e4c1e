"""How many modes of a known distribution samples cover, how cleanly, and how evenly."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from gendiff.metrics.base import Known, SampleMetric
from gendiff.papers import PACGAN, VEEGAN, cites


def nearest_mode(x: Tensor, means: Tensor, stds: Tensor) -> tuple[Tensor, Tensor]:
    """The mode that each sample is nearest to, in that mode's own standard deviations.

    Args:
        x: samples, (n, d).
        means: (K, d).
        stds: (K,), in the units of x.

    Returns:
        Indices of the modes (n,), and distances in standard deviations (n,), float64.

    Raises:
        ValueError: the shapes do not agree.
    """
    if x.ndim != 2 or means.shape != (len(stds), x.shape[1]):
        raise ValueError(
            f"expected (n, d), (K, d) and (K,), got {tuple(x.shape)}, {tuple(means.shape)} and "
            f"{tuple(stds.shape)}"
        )
    x, means, stds = (value.detach().to(x.device).double() for value in (x, means, stds))
    # Differences are formed: matrix products would cancel for close points.
    distances = torch.cdist(x, means, compute_mode="donot_use_mm_for_euclid_dist") / stds
    distance, mode = distances.min(1)
    return mode, distance


class ModeHistogram(SampleMetric):
    """Streaming counts of generated samples by mode, given the index of each sample's mode.

    A mode is covered by ``least`` samples. The divergence is the reverse KL(samples || truth) of
    the shares of samples in each mode, nats, 0 when they are as they should be: Lin et al. 2018
    (PacGAN). The counts merge exactly over ranks. Real samples are ignored. A subclass finds the
    modes from what it sees.

    Args:
        weights: (K,) true shares, positive, scaled to sum 1.
        least: samples that cover a mode.

    Raises:
        ValueError: a weight is not positive, or they are not (K,).
    """

    figures: ClassVar[tuple[str, ...]] = ("modes_covered", "mode_divergence")

    weights: Tensor
    counts: Tensor

    def __init__(self, weights: Tensor, least: int = 1) -> None:
        super().__init__()
        if weights.ndim != 1 or not (weights > 0).all():
            raise ValueError(f"weights {tuple(weights.shape)} must be (K,) and positive")
        self.register_buffer("weights", weights.detach().double(), persistent=False)
        self.least = least
        self.add_state("counts", self._histogram(torch.tensor([]).long()), dist_reduce_fx="sum")

    def update(self, x: Tensor, real: bool) -> None:
        """Add a batch.

        Args:
            x: indices of modes, (B,), int64, in 0..K-1.
            real: whether these are of real samples, which are ignored.
        """
        if not real:
            self.counts += self._histogram(x)

    def compute(self) -> dict[str, Tensor]:
        """Figures by name, float64 scalars.

        Raises:
            ValueError: no generated samples.
        """
        total = self.counts.sum()
        if total == 0:
            raise ValueError(f"{type(self).__name__} needs at least 1 generated sample, got 0")
        share, truth = self.counts / total.double(), self.weights / self.weights.sum()
        return {
            "modes_covered": self._covered(self.counts),
            "mode_divergence": torch.special.xlogy(share, share / truth).sum(),
        }

    def _histogram(self, mode: Tensor) -> Tensor:
        return torch.bincount(mode, minlength=len(self.weights))

    def _covered(self, counts: Tensor) -> Tensor:
        return (counts >= self.least).sum().double()


@cites(VEEGAN, PACGAN)
class ModeCoverage(ModeHistogram):
    """Modes of a known mixture that generated points cover, how cleanly, and how evenly.

    A point belongs to the mode of `nearest_mode`. It is of high quality within ``radius`` standard
    deviations of it, and ``least`` of these cover a mode: Srivastava et al. 2017 (VEEGAN). The
    figures are the number of modes covered, the share of points of high quality, and the
    divergence of `ModeHistogram` over all points. In the plane 98.9 % of true points are within 3
    standard deviations; in d dimensions fewer, so ``radius`` should grow with sqrt(d).

    Args:
        means: (K, d).
        stds: (K,), in the units of the points.
        weights: (K,) true shares, positive, scaled to sum 1.
        radius: in standard deviations.
        least: points of high quality that cover a mode.

    Raises:
        ValueError: the shapes do not agree, or a weight is not positive.
    """

    figures = ("modes_covered", "high_quality", "mode_divergence")

    means: Tensor
    stds: Tensor
    good: Tensor

    def __init__(
        self, means: Tensor, stds: Tensor, weights: Tensor, radius: float = 3.0, least: int = 1
    ) -> None:
        super().__init__(weights, least)
        if means.ndim != 2 or not len(means) == len(stds) == len(weights):
            raise ValueError(
                f"expected (K, d), (K,) and (K,), got {tuple(means.shape)}, {tuple(stds.shape)} "
                f"and {tuple(weights.shape)}"
            )
        self.register_buffer("means", means.detach().double(), persistent=False)
        self.register_buffer("stds", stds.detach().double(), persistent=False)
        self.radius = radius
        self.add_state("good", torch.zeros_like(self.counts), dist_reduce_fx="sum")

    @classmethod
    def of(cls, known: Known) -> ModeCoverage | None:
        """The metric for what is known; None unless these are points of a known mixture."""
        return cls(*known.modes) if known.points and known.modes else None

    def update(self, x: Tensor, real: bool) -> None:
        """Add a batch.

        Args:
            x: points, (B, d) or (B, 1, d).
            real: whether these are real points, which are ignored.

        Raises:
            ValueError: the shape is another one.
        """
        if real:
            return
        points = x[:, 0] if x.ndim == 3 and x.shape[1] == 1 else x
        mode, distance = nearest_mode(points, self.means, self.stds)
        super().update(mode, real)
        self.good += self._histogram(mode[distance <= self.radius])

    def compute(self) -> dict[str, Tensor]:
        """Figures by name, float64 scalars.

        Raises:
            ValueError: no generated points.
        """
        return super().compute() | {
            "modes_covered": self._covered(self.good),
            "high_quality": self.good.sum() / self.counts.sum().double(),
        }

"""Straightness of trajectories: how far their velocity is from the chord."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric


class Straightness(Metric):
    """Streaming S = ∫ E|(Z_1 - Z_0) - dZ_t/dt|² dt over trajectories Z.

    Liu, Gong & Liu 2023, "Flow Straight and Fast"; at least 0, and 0 only for straight
    trajectories of constant speed, which one Euler step follows exactly. Squared units of the data,
    summed over their entries. In the paper time runs from noise to data, here t = 0 is data:
    turning time round flips the sign of both terms, so the figure is the same.

    The integral is the mean over the T instants: the midpoint rule when these are the middles of T
    equal intervals. Kept in float64 sums that merge exactly over ranks.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    figures: ClassVar[tuple[str, ...]] = ("straightness", "straightness_interval")

    total: Tensor
    squares: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("squares", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, start: Tensor, end: Tensor, velocities: Tensor) -> None:
        """Add a batch of trajectories, each of unit duration.

        Args:
            start: where they begin, (B, ...).
            end: where they arrive, (B, ...).
            velocities: (T, B, ...) at evenly spaced instants, by the time that grows from start
                to end: where a solver goes from t = 1 to t = 0, the negative of its dx/dt.

        Raises:
            ValueError: the shapes do not agree, or there are no instants.
        """
        if start.shape != end.shape or velocities.shape[1:] != end.shape or len(velocities) == 0:
            raise ValueError(
                f"expected (B, ...), (B, ...) and (T, B, ...), got {tuple(start.shape)}, "
                f"{tuple(end.shape)} and {tuple(velocities.shape)}"
            )
        chord = (end.double() - start)[..., None].flatten(1)
        deviation = chord.new_zeros(len(chord))
        for velocity in velocities:  # one instant in float64 at a time
            deviation += (chord - velocity[..., None].flatten(1)).square().sum(1)
        deviation /= len(velocities)
        self.total += deviation.sum()
        self.squares += deviation.square().sum()
        self.count += len(deviation)

    def compute(self) -> dict[str, Tensor]:
        """The mean over trajectories and half its 95 % interval, float64 scalars.

        The interval is 1.96 standard errors; a single trajectory has none.

        Raises:
            ValueError: no trajectories.
        """
        if self.count == 0:
            raise ValueError("Straightness needs at least 1 trajectory, got 0")
        mean = self.total / self.count
        if self.count == 1:
            return {"straightness": mean}
        variance = (self.squares - self.count * mean.square()) / (self.count - 1)
        error = (variance.clamp(min=0) / self.count).sqrt()  # below 0 only by rounding
        return {"straightness": mean, "straightness_interval": 1.96 * error}

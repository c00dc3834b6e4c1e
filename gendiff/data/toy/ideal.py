"""The ideal denoiser of a finite data set: what a network that learns by heart would say."""

from __future__ import annotations

import torch
from torch import Tensor

from gendiff.denoiser import Condition
from gendiff.paths import Path
from gendiff.predictions import Prediction

ELEMENTS = 2**22
"""float64 numbers in a temporary of a chunk: 32 MB."""


class IdealDenoiser:
    """E[x0 | x_t] when the data are exactly N points, equally likely.

    The softmax of -|x_t - a x_n|^2 / (2 s^2) over the points weights them: Karras et al. 2022
    (EDM), Eq. 57, on any path. At s = 0 it is the nearest point. Computed in float64, with the
    points in chunks, so that memory does not grow with N.

    Args:
        data: (N, ...), kept where it is.
        path: the path x_t is on.

    Attributes:
        nfe: calls so far.

    Raises:
        ValueError: there are no points.
    """

    def __init__(self, data: Tensor, path: Path) -> None:
        if data.ndim < 2 or len(data) == 0:
            raise ValueError(f"data {tuple(data.shape)} must be (N, ...), N at least 1")
        self.data, self.path, self.nfe = data, path, 0

    def __call__(self, xt: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        """Predict x0 at x_t, (B, ...), and t, (B,) or ().

        Raises:
            ValueError: x_t has not the shape of the points.
        """
        if xt.shape[1:] != self.data.shape[1:]:
            raise ValueError(f"x_t {tuple(xt.shape)}: the data are {tuple(self.data.shape)}")
        self.nfe += 1
        t = t.expand(len(xt))
        a, s = (scale.double()[:, None] for scale in (self.path.alpha(t), self.path.sigma(t)))
        # |x_t - a x_n| = a |x_t / a - x_n|: one set of points for all times of the batch; the
        # bounds keep a = 0 (all points weigh the same) and s = 0 (the nearest has all) finite
        a, s = a.clamp(min=1e-100), s.clamp(min=1e-100)
        x0 = self._mean(xt.flatten(1).double() / a, (a / s).square() / 2)
        return Prediction(x0.reshape(xt.shape).to(xt.dtype), "x0", xt, t, self.path)

    def _mean(self, x: Tensor, rate: Tensor) -> Tensor:
        """Mean of the points under the weights exp(-rate |x - x_n|^2), (B, D)."""
        nearest = torch.full_like(rate, torch.finfo(rate.dtype).max)  # inf would spoil gradients
        mass, total = torch.zeros_like(rate), torch.zeros_like(x)
        for part in self.data.flatten(1).split(max(1, ELEMENTS // max(x.shape))):
            points = part.to(x)
            # differences are formed: the matrix product would cancel for close points
            distance = torch.cdist(x, points, compute_mode="donot_use_mm_for_euclid_dist").square()
            near = torch.minimum(nearest, distance.amin(1, keepdim=True))
            # what is summed so far was relative to the point then nearest
            kept = torch.exp(-rate * (nearest - near))
            weights = torch.exp(-rate * (distance - near))
            mass = kept * mass + weights.sum(1, keepdim=True)
            total = kept * total + weights @ points
            nearest = near
        return total / mass

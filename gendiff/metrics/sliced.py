"""Sliced Wasserstein distance between point sets: sorting along lines instead of matching."""

from __future__ import annotations

import torch
from torch import Tensor

from gendiff.metrics.base import FeatureMetric, Known
from gendiff.papers import Paper, cites

_VALUES = 2**20  # projections held at a time, a few times 8 MB


SLICED = Paper(
    "Nicolas Bonneel, Julien Rabin, Gabriel Peyré, Hanspeter Pfister",
    "Sliced and Radon Wasserstein Barycenters of Measures",
    "Journal of Mathematical Imaging and Vision",
    2015,
)


@cites(SLICED)
class SlicedWasserstein(FeatureMetric):
    """`sliced_wasserstein2` of real and generated points along fixed random directions.

    On a line all directions are one, and the distance is the 2-Wasserstein distance itself.

    Args:
        projections: L, directions to average over, at least 1; what the figure is off from the
            mean over all directions falls as 1/sqrt(L).

    Raises:
        ValueError: no projections.
    """

    higher_is_better = False
    figures = ("sliced_wasserstein2",)
    least = 1

    def __init__(self, projections: int = 256) -> None:
        super().__init__()
        if projections < 1:
            raise ValueError(f"projections must be at least 1, got {projections}")
        self.projections = projections

    @classmethod
    def of(cls, known: Known) -> SlicedWasserstein | None:
        """The metric for what is known; None unless these are points."""
        return cls() if known.points else None

    def compare(self, real: Tensor, generated: Tensor) -> Tensor:
        """Sliced 2-Wasserstein distance of (n, d) and (m, d), in the units of the points."""
        directions = unit_directions(self.projections, real.shape[1])
        return sliced_wasserstein2(real, generated, directions)


def unit_directions(count: int, dimension: int) -> Tensor:
    """Uniform unit vectors (count, dimension), float64, always the same; on a line just one."""
    if dimension == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    normals = torch.randn(count, dimension, generator=generator, dtype=torch.float64)
    return normals / normals.norm(dim=1, keepdim=True)


def sliced_wasserstein2(x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
    """Root of the mean over directions of the squared 2-Wasserstein distance of the projections.

    Rabin et al. 2012, "Wasserstein Barycenter and Its Application to Texture Mixing";
    Bonneel et al. 2015, "Sliced and Radon Wasserstein Barycenters of Measures". At most the
    2-Wasserstein distance. Sets of different size are compared exactly. Sorting takes
    O(L (n log n + m log m)).

    Args:
        x: (n, d).
        y: (m, d).
        directions: unit vectors (L, d).

    Returns:
        A float64 scalar in the units of the points.

    Raises:
        ValueError: the points are not of one dimension, or a set is empty.
    """
    if not x.ndim == y.ndim == 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) == 0:
        raise ValueError(f"expected (n, d) and (m, d), got {tuple(x.shape)}, {tuple(y.shape)}")
    x, y, directions = (value.detach().to(x.device).double() for value in (x, y, directions))
    in_x, in_y, mass = _coupling(len(x), len(y), x.device)
    squares = []
    for lines in directions.split(max(1, _VALUES // (len(x) + len(y)))):
        along_x, along_y = (lines @ x.T).sort().values, (lines @ y.T).sort().values
        squares.append((along_x[:, in_x] - along_y[:, in_y]).square() @ mass)
    return torch.cat(squares).mean().sqrt()


def _coupling(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Which of n sorted values meets which of m, and the mass of each meeting, all (P,).

    Both quantile functions are constant between multiples of 1/n and 1/m; in units of 1/(n m) all
    these are whole numbers, so that ties are exact.
    """
    steps_n, steps_m = torch.arange(1, n + 1, device=device), torch.arange(1, m + 1, device=device)
    ends = torch.cat([steps_n * m, steps_m * n]).unique()
    widths = ends.diff(prepend=ends.new_zeros(1))
    return (ends - 1) // m, (ends - 1) // n, widths.double() / (n * m)

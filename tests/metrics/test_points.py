"""Figures of points: the energy distance and the modes covered."""

import math
from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor

from gendiff.metrics import energy, energy_distance, modes_covered


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("pairs", [2**22, 100])
def test_energy_agrees_with_scipy(monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    monkeypatch.setattr(energy, "_PAIRS", pairs)
    x, y = normal(40, seed=0), 2 * normal(25, seed=1) + 0.3
    # scipy: the root, and means over all pairs, a point with itself among them
    within = [float((z[:, None] - z).abs().mean()) / (len(z) - 1) for z in (x, y)]
    expected = scipy.stats.energy_distance(x, y) ** 2 - sum(within)
    assert energy_distance(x[:, None], y[:, None]) == pytest.approx(expected, rel=1e-10)


def mean_distance(shift: float, scale: float) -> float:
    """E|N(shift, scale²)|."""
    z = shift / scale
    tail = math.erfc(z / 2**0.5) / 2
    return scale * (2 / math.pi) ** 0.5 * math.exp(-z * z / 2) + shift * (1 - 2 * tail)


def test_energy_of_two_gaussians_without_bias() -> None:
    # Sets of 5 and 8: means over all pairs would be 0.3 too high.
    x, y = normal(3000, 5, 1, seed=0), 0.5 * normal(3000, 8, 1, seed=1) + 1
    values = torch.tensor([energy_distance(a, b) for a, b in zip(x, y, strict=True)])
    across = mean_distance(1.0, 1.25**0.5)
    expected = 2 * across - mean_distance(0.0, 2**0.5) - mean_distance(0.0, 0.5**0.5)
    assert values.mean().item() == pytest.approx(expected, abs=0.04)
    assert values.std() / len(values) ** 0.5 < 0.013


def test_energy_in_several_dimensions() -> None:
    # Two points a set, all on axes: each set has a single distance within, 10 and 13.
    x, y = torch.tensor([[0.0, 0, 3], [0, 0, -7]]), torch.tensor([[5.0, 0, 0], [0, 12, 0]])
    across = (34**0.5 + 153**0.5 + 74**0.5 + 193**0.5) / 4
    assert energy_distance(x, y) == pytest.approx(2 * across - 10 - 13, rel=1e-12)


@pytest.mark.parametrize("shapes", [((1, 2), (5, 2)), ((5, 2), (5, 3)), ((5,), (5,))])
def test_energy_rejects_other_shapes(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        energy_distance(*(torch.zeros(shape) for shape in shapes))


MEANS, STDS = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]), torch.tensor([1.0, 2.0, 0.5])
POINTS = torch.tensor(
    [
        *([0.0, 2.9], [-2.0, 2.0]),  # within 3 standard deviations of the first
        *([10.0, 5.9], [10.0, -6.1]),  # just within those of the second, and just beyond
        [3.9, 0.0],  # nearer to the first mean, yet in its own units to the second
        *([0.0, 8.4], [0.0, 8.4]),  # both beyond those of the third
        [99.0, 0.0],
    ]
)


@pytest.mark.parametrize(
    ("settings", "covered", "good"),
    [({}, 2, 3), ({"least": 2}, 1, 3), ({"radius": 3.3}, 3, 7), ({"radius": 0.1}, 0, 0)],
)
def test_modes_of_points_made_by_hand(settings: dict[str, Any], covered: int, good: int) -> None:
    modes = modes_covered(POINTS, MEANS, STDS, **settings)
    assert (modes.covered, modes.high_quality, modes.divergence) == (covered, good / 8, None)


@pytest.mark.parametrize(
    ("weights", "divergence"),
    [
        ([2.0, 4.0, 2.0], 0.0),
        ([1.0, 1.0, 1.0], 0.5 * math.log(0.75) + 0.5 * math.log(1.5)),
        ([1.0, 2.0, 5.0], 0.25 * math.log(2) + 0.5 * math.log(2) - 0.25 * math.log(2.5)),
    ],
)
def test_divergence_of_the_modes_from_their_weights(
    weights: list[float], divergence: float
) -> None:
    modes = modes_covered(POINTS, MEANS, STDS, weights=torch.tensor(weights))
    assert modes.divergence == pytest.approx(divergence, abs=1e-12)


def test_an_empty_mode_adds_nothing_to_the_divergence() -> None:
    modes = modes_covered(POINTS[:4], MEANS, STDS, weights=torch.ones(3))
    assert modes.divergence == pytest.approx(math.log(1.5))


@pytest.mark.parametrize(
    ("x", "stds", "weights", "message"),
    [
        (POINTS[:, :1], STDS, None, "expected"),
        (POINTS[:0], STDS, None, "expected"),
        (POINTS, STDS[:2], None, "expected"),
        (POINTS, STDS, torch.ones(2), "positive"),
        (POINTS, STDS, torch.tensor([1.0, 1.0, 0.0]), "positive"),
    ],
)
def test_modes_reject_what_does_not_fit(
    x: Tensor, stds: Tensor, weights: Tensor | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        modes_covered(x, MEANS, stds, weights=weights)

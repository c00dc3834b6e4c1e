"""Figures of points: distances against closed forms and other routes, and modes covered."""

import math
from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor

from gendiff.metrics import energy, energy_distance, sliced, wasserstein2
from gendiff.metrics.base import Known, SampleMetric
from gendiff.metrics.energy import EnergyDistance
from gendiff.metrics.modes import ModeCoverage, ModeHistogram, nearest_mode
from gendiff.metrics.sliced import SlicedWasserstein, sliced_wasserstein2, unit_directions
from gendiff.metrics.wasserstein import Wasserstein2


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


@pytest.mark.parametrize("values", [2**20, 300])
def test_sliced_distance_of_a_shifted_set(monkeypatch: pytest.MonkeyPatch, values: int) -> None:
    monkeypatch.setattr(sliced, "_VALUES", values)
    x, shift = normal(40, 3, seed=0), torch.tensor([1.0, -2.0, 5.0])
    directions = unit_directions(2000, 3)
    distance = sliced_wasserstein2(x, x + shift, directions)
    exact = (directions @ shift.double()).square().mean().sqrt()
    torch.testing.assert_close(distance, exact, rtol=1e-12, atol=0)
    # In expectation the square is |shift|² / d: here with a standard error of 2 %.
    assert distance.square().item() == pytest.approx(30 / 3, rel=0.06)


def test_sliced_distance_of_gaussians_of_two_scales() -> None:
    # Along any direction N(0, 1) and N(0, 3²) are |3 - 1| apart.
    x, y = normal(20000, 2, seed=0), 3 * normal(30000, 2, seed=1)
    distance = sliced_wasserstein2(x, y, unit_directions(16, 2))
    assert distance.item() == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize(("n", "m"), [(4, 6), (5, 7), (6, 4), (1, 9), (8, 2)])
def test_sliced_distance_of_sets_of_two_sizes(n: int, m: int) -> None:
    x, y, directions = normal(n, 3, seed=0), normal(m, 3, seed=1) + 1, unit_directions(20, 3)
    copies = x.repeat(m, 1), y.repeat_interleave(n, 0)  # n m points each
    expected = sliced_wasserstein2(*copies, directions)
    torch.testing.assert_close(sliced_wasserstein2(x, y, directions), expected)
    lines = [wasserstein2(*(z @ u[:, None] for z in copies)) ** 2 for u in directions]
    assert expected.item() == pytest.approx((sum(lines) / 20) ** 0.5, rel=1e-12)


def test_sliced_distance_on_a_line_is_exact() -> None:
    x, y = normal(50, 1, seed=0), 2 * normal(50, 1, seed=1)
    assert distance_of(SlicedWasserstein(3), x, y) == pytest.approx(wasserstein2(x, y), rel=1e-12)


def test_directions_are_uniform_units_and_always_the_same() -> None:
    directions = unit_directions(4000, 3)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(4000).double())
    second = directions.T @ directions / 4000
    torch.testing.assert_close(second, torch.eye(3).double() / 3, rtol=0, atol=0.02)
    assert directions.mean(0).abs().max() < 0.04
    torch.rand(3)
    assert unit_directions(4000, 3).equal(directions)


@pytest.mark.parametrize("shapes", [((0, 2), (5, 2)), ((5, 2), (5, 3)), ((5,), (5,))])
def test_sliced_distance_rejects_other_shapes(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        sliced_wasserstein2(*(torch.zeros(shape) for shape in shapes), unit_directions(4, 2))


def test_projections_are_needed() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        SlicedWasserstein(0)


def distance_of(metric: SampleMetric, x: Tensor, y: Tensor) -> float:
    metric.update(x, real=True)
    metric.update(y, real=False)
    value = metric.compute()
    assert value.dtype == torch.float64
    return value.item()


DISTANCES = [Wasserstein2, SlicedWasserstein, EnergyDistance]


@pytest.mark.parametrize("build", DISTANCES)
def test_distances_scale_with_the_points_and_ignore_where_they_are(build: Any) -> None:
    x, y = normal(30, 2, seed=0), 2 * normal(30, 2, seed=1)
    expected = distance_of(build(), x, y)
    assert expected > 0.1
    assert distance_of(build(), y, x) == pytest.approx(expected)
    assert distance_of(build(), 7 * x + 5, 7 * y.flip(0) + 5) == pytest.approx(7 * expected)
    assert distance_of(build(), x, x.flip(0)) < 1e-12


@pytest.mark.parametrize("build", DISTANCES)
def test_distances_in_batches_are_those_of_all(build: Any) -> None:
    x, y = normal(30, 2, seed=0), 2 * normal(23, 2, seed=1)
    metric = build()
    for rows in (slice(0, 7), slice(7, 7), slice(7, 30)):
        metric.update(x[rows], real=True)
        metric.update(y[rows], real=False)
    assert metric.compute().item() == distance_of(build(), x, y)


def test_metrics_of_points_are_their_functions() -> None:
    x, y = normal(30, 2, seed=0), 2 * normal(23, 2, seed=1)
    assert distance_of(EnergyDistance(), x, y) == energy_distance(x, y)
    assert distance_of(Wasserstein2(), x, y) == wasserstein2(x[:23], y)
    assert distance_of(Wasserstein2(), y, x) == wasserstein2(y, x[:23])
    sliced = sliced_wasserstein2(x, y, unit_directions(256, 2))
    assert distance_of(SlicedWasserstein(), x, y) == sliced.item()


@pytest.mark.parametrize(("build", "least"), zip(DISTANCES, [1, 1, 2], strict=True))
def test_distances_of_the_fewest_points(build: Any, least: int) -> None:
    x = torch.tensor([[3.0, 4.0], [3.0, 4.0]])[:least]
    assert distance_of(build(), x, x) == 0
    with pytest.raises(ValueError, match=f"at least {least} generated samples"):
        distance_of(build(), x, x[1:])


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


def coverage_of(x: Tensor, weights: list[float], **settings: Any) -> dict[str, float]:
    metric = ModeCoverage(MEANS, STDS, torch.tensor(weights), **settings)
    metric.update(x, real=False)
    figures = {name: value.item() for name, value in metric.compute().items()}
    assert set(figures) == set(metric.figures)
    return figures


def test_nearest_mode_in_its_own_standard_deviations() -> None:
    mode, distance = nearest_mode(POINTS[2:6].float(), MEANS, STDS)
    assert mode.tolist() == [1, 1, 1, 2]
    expected = torch.tensor([2.95, 3.05, 3.05, 3.2], dtype=torch.float64)
    torch.testing.assert_close(distance, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("settings", "covered", "good"),
    [({}, 2, 3), ({"least": 2}, 1, 3), ({"radius": 3.3}, 3, 7), ({"radius": 0.1}, 0, 0)],
)
def test_modes_of_points_made_by_hand(settings: dict[str, Any], covered: int, good: int) -> None:
    figures = coverage_of(POINTS, [1.0, 1.0, 1.0], **settings)
    assert (figures["modes_covered"], figures["high_quality"]) == (covered, good / 8)


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
    figures = coverage_of(POINTS, weights)
    assert figures["mode_divergence"] == pytest.approx(divergence, abs=1e-12)


def test_an_empty_mode_adds_nothing_to_the_divergence() -> None:
    figures = coverage_of(POINTS[:4], [1.0, 1.0, 1.0])
    assert figures["mode_divergence"] == pytest.approx(math.log(1.5))


def test_modes_in_batches_over_ranks_and_beside_real_points() -> None:
    here, there = (ModeCoverage(MEANS, STDS, torch.ones(3)) for _ in range(2))
    for batch in (POINTS[:3], POINTS[:0], POINTS[3:4, None]):
        here.update(batch, real=False)
    here.update(POINTS, real=True)
    there.update(POINTS[4:], real=False)
    here.merge_state(there)
    merged = {name: value.item() for name, value in here.compute().items()}
    assert merged == coverage_of(POINTS, [1.0, 1.0, 1.0])


def test_modes_given_by_their_indices() -> None:
    metric = ModeHistogram(torch.tensor([1.0, 1.0, 2.0, 4.0]), least=2)
    metric.update(torch.tensor([3, 3, 0]), real=False)
    metric.update(torch.tensor([1, 1, 1]), real=True)
    metric.update(torch.tensor([3]), real=False)
    figures = metric.compute()
    assert set(figures) == set(ModeHistogram.figures)
    assert figures["modes_covered"] == 1
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.125)
    assert figures["mode_divergence"].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("count", [0, 8])
def test_modes_need_generated_points(count: int) -> None:
    metric = ModeCoverage(MEANS, STDS, torch.ones(3))
    metric.update(POINTS[:count], real=True)
    with pytest.raises(ValueError, match="at least 1 generated sample, got 0"):
        metric.compute()


@pytest.mark.parametrize(
    ("x", "means", "weights", "message"),
    [
        (POINTS[:, :1], MEANS, torch.ones(3), "expected"),
        (POINTS[:, None].expand(8, 2, 2), MEANS, torch.ones(3), "expected"),
        (POINTS, MEANS[:2], torch.ones(3), "expected"),
        (POINTS, MEANS, torch.ones(2), "expected"),
        (POINTS, MEANS, torch.ones(3, 1), "positive"),
        (POINTS, MEANS, torch.tensor([1.0, 1.0, 0.0]), "positive"),
    ],
)
def test_modes_reject_what_does_not_fit(
    x: Tensor, means: Tensor, weights: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ModeCoverage(means, STDS, weights).update(x, real=False)


def test_figures_of_points_are_for_points_alone() -> None:
    modes = MEANS, STDS, torch.ones(3)
    every = [*DISTANCES, ModeCoverage]
    assert all(m.of(Known(2, samples=9, modes=modes)) is None for m in every)
    assert ModeCoverage.of(Known(2, points=True)) is None
    for count, known in ((2000, 4), (2001, 3)):
        built = [m.of(Known(2, samples=count, points=True, modes=modes)) for m in every]
        assert [type(m) for m in built if m is not None] == every[-known:]
    coverage = ModeCoverage.of(Known(2, points=True, modes=modes))
    assert coverage is not None
    assert coverage.means.equal(MEANS.double())

"""Figures of classifier outputs and of trajectories, against closed forms and torch-fidelity."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from gendiff.metrics.base import Known
from gendiff.metrics.class_accuracy import ClassAccuracy
from gendiff.metrics.inception_score import InceptionScore
from gendiff.metrics.straightness import Straightness


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def score_of(logits: Tensor) -> float:
    members, classes = (1, *logits.shape[1:])[-2:]
    metric = InceptionScore(classes, members)
    metric.update(logits, real=False)
    return metric.compute().item()


def straightness_of(start: Tensor, end: Tensor, velocities: Tensor) -> dict[str, float]:
    metric = Straightness()
    metric.update(start, end, velocities)
    return {name: value.item() for name, value in metric.compute().items()}


@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
def test_inception_score_agrees_with_torch_fidelity(spread: float) -> None:
    isc = pytest.importorskip("torch_fidelity.metric_isc")
    logits = spread * normal(500, 12, seed=0) + normal(12, seed=1)
    expected = isc.isc_features_to_metric(logits, splits=1)["inception_score_mean"]
    assert score_of(logits) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("size", [3.0, 1e4, math.inf])
def test_inception_score_of_sure_and_even_classes(size: float) -> None:
    # p = (a, b, b, b, b) in turn: an even marginal, and the same entropy for every sample.
    sure = torch.eye(5).bool()
    logits = torch.zeros(5, 5).masked_fill(~sure, -size).repeat(3, 1)
    b = 1 / (math.exp(size) + 4) if size < 100 else 0.0
    a = 1 - 4 * b
    entropy = -a * math.log(a) - (4 * b * math.log(b) if b else 0.0)
    assert score_of(logits) == pytest.approx(5 / math.exp(entropy), rel=1e-9)


@pytest.mark.parametrize("logits", [torch.full((1, 4), 1e4), torch.tensor([[1e4, -1e4]] * 7)])
def test_inception_score_of_equal_samples_is_one(logits: Tensor) -> None:
    assert score_of(logits) == pytest.approx(1, rel=1e-12)


def test_inception_score_of_members_is_their_mean() -> None:
    logits = normal(50, 3, 4, seed=0) * torch.tensor([0.1, 1.0, 5.0])[:, None]
    expected = sum(score_of(logits[:, m]) for m in range(3)) / 3
    assert score_of(logits) == pytest.approx(expected, rel=1e-12)


def test_inception_score_of_half_precision_is_summed_in_float64() -> None:
    logits = normal(3000, 4, seed=0).half()
    assert score_of(logits) == pytest.approx(score_of(logits.double()), rel=1e-13)


def test_class_accuracy_of_known_hits() -> None:
    metric = ClassAccuracy()
    metric.update(torch.tensor([[True, False], [True, True], [False, False]]), real=False)
    metric.update(torch.tensor([True, False, False, False]), real=False)
    assert metric.compute().item() == 4 / 10
    assert metric.compute().dtype == torch.float64


HITS = normal(40, 2, seed=0) > 0.3
SAMPLES: dict[str, tuple[Callable[[], Metric], Tensor]] = {
    "score": (lambda: InceptionScore(6, 2), normal(40, 2, 6, seed=0)),
    "accuracy": (ClassAccuracy, HITS),
}


@pytest.mark.parametrize(("build", "x"), SAMPLES.values(), ids=SAMPLES)
def test_batches_ranks_and_real_samples(build: Callable[[], Metric], x: Tensor) -> None:
    whole, here, there = build(), build(), build()
    whole.update(x, real=False)
    for batch in (x[:7], x[:0], x[7:15]):
        here.update(batch, real=False)
    here.update(x[:9].logical_not() if x.dtype == torch.bool else -x[:9], real=True)
    there.update(x[15:], real=False)
    here.merge_state(there)
    torch.testing.assert_close(here.compute(), whole.compute(), rtol=1e-13, atol=0)
    whole.reset()
    whole.update(x[:9], real=True)
    with pytest.raises(ValueError, match="at least 1 generated sample, got 0"):
        whole.compute()


@pytest.mark.parametrize(
    ("metric", "x"),
    [
        (InceptionScore(4), torch.zeros(5, 2, 4)),
        (InceptionScore(4, 2), torch.zeros(5, 4)),
        (InceptionScore(4), torch.zeros(4)),
        (ClassAccuracy(), torch.ones(5)),
        (ClassAccuracy(), torch.ones(5, 2, 3).bool()),
    ],
)
@pytest.mark.parametrize("real", [True, False])
def test_other_shapes_are_rejected(metric: Metric, x: Tensor, real: bool) -> None:
    with pytest.raises(ValueError, match="expected"):
        metric.update(x, real=real)


def test_classes_are_needed() -> None:
    for metric in (InceptionScore, ClassAccuracy):
        assert metric.of(Known(8)) is None
    assert isinstance(ClassAccuracy.of(Known(8, classes=10, asked=True)), ClassAccuracy)
    assert ClassAccuracy.of(Known(8, classes=10)) is None
    score = InceptionScore.of(Known(8, members=3, classes=10))
    assert score is not None
    assert score.probabilities.shape == (3, 10)


@pytest.mark.parametrize("shape", [(6,), (6, 2), (6, 1, 4, 4)])
def test_straight_lines_of_constant_speed(shape: tuple[int, ...]) -> None:
    start, end = normal(*shape, seed=0), normal(*shape, seed=1)
    figures = straightness_of(start, end, (end - start).expand(5, *shape))
    assert figures == {"straightness": 0, "straightness_interval": 0}
    # Twice as fast at first, and then standing still: straight, but not of constant speed.
    figures = straightness_of(start, end, torch.stack([2 * (end - start), 0 * start]))
    expected = (end - start).square().sum() / 6
    assert figures["straightness"] == pytest.approx(expected.item(), rel=1e-12)


def half_circles(radii: Tensor, instants: int) -> tuple[Tensor, Tensor, Tensor]:
    """Half circles in the plane at constant speed, the velocity at the middles of intervals."""
    angles = math.pi * (torch.arange(instants, dtype=torch.float64) + 0.5) / instants
    velocities = math.pi * torch.stack([-angles.sin(), angles.cos()], 1)[:, None] * radii[:, None]
    start = torch.stack([radii, torch.zeros_like(radii)], 1)
    return start, -start, velocities


def test_straightness_of_half_circles() -> None:
    # |chord - v|² over the half circle of radius r: 4 r² + (π r)² - 2 (2 r)².
    radii = normal(30, seed=0).exp()
    values = (math.pi**2 - 4) * radii.square()
    figures = straightness_of(*half_circles(radii, 4000))
    assert figures["straightness"] == pytest.approx(values.mean().item(), rel=1e-6)
    half_width = 1.96 * values.std().item() / 30**0.5
    assert figures["straightness_interval"] == pytest.approx(half_width, rel=1e-6)


def test_straightness_does_not_know_which_way_time_runs() -> None:
    start, end, velocities = half_circles(normal(8, seed=0).exp(), 7)
    expected = straightness_of(start, end, velocities)
    assert straightness_of(end, start, -velocities.flip(0)) == pytest.approx(expected)


def test_straightness_in_batches_and_over_ranks() -> None:
    shapes = [(20, 3), (20, 3), (4, 20, 3)]
    start, end, velocities = (normal(*s, seed=i).float() for i, s in enumerate(shapes))
    here, there = Straightness(), Straightness()
    for rows in (slice(0, 7), slice(7, 7), slice(7, 12)):
        here.update(start[rows], end[rows], velocities[:, rows])
    there.update(start[12:], end[12:], velocities[:, 12:])
    here.merge_state(there)
    merged = {name: value.item() for name, value in here.compute().items()}
    whole = straightness_of(start.double(), end.double(), velocities.double())
    assert merged == pytest.approx(whole, rel=1e-12)
    assert tuple(merged) == Straightness.figures


def test_a_single_trajectory_has_no_interval() -> None:
    figures = straightness_of(torch.zeros(1, 2), torch.ones(1, 2), torch.zeros(3, 1, 2))
    assert figures == {"straightness": 2}


def test_no_trajectory_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 trajectory, got 0"):
        straightness_of(torch.zeros(0, 2), torch.zeros(0, 2), torch.zeros(3, 0, 2))


@pytest.mark.parametrize(
    "shapes", [((3, 2), (3, 1), (4, 3, 2)), ((3, 2), (3, 2), (3, 2)), ((3, 2), (3, 2), (0, 3, 2))]
)
def test_straightness_rejects_other_shapes(shapes: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        Straightness().update(*(torch.zeros(shape) for shape in shapes))

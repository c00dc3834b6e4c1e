"""Modes that a classifier knows: decisions of ensembles, counts by hand, and the floor."""

import math

import pytest
import torch
from torch import Tensor

from gendiff.metrics.base import Known
from gendiff.metrics.class_modes import ClassModes
from gendiff.metrics.modes import ModeHistogram


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logits_of(modes: list[int], classes: int) -> Tensor:
    """Logits of a classifier that is sure of these modes, (n, C)."""
    return 20 * torch.eye(classes)[modes]


def figures_of(metric: ModeHistogram) -> dict[str, float]:
    figures = {name: value.item() for name, value in metric.compute().items()}
    assert set(figures) == set(metric.figures)
    return figures


@pytest.mark.parametrize(
    ("weights", "least", "covered", "divergence"),
    [
        # shares 1/2, 1/4, 1/4 and 0: PacGAN's KL(samples || truth), in nats
        ([1, 1, 1, 1], 1, 3, 0.5 * math.log(2)),
        ([4, 2, 2, 1], 2, 1, math.log(9 / 8)),
        ([1, 2, 3, 4], 1, 3, 0.5 * math.log(5) + 0.25 * math.log(1.25 * 10 / 12)),
    ],
)
def test_modes_counted_by_hand(
    weights: list[int], least: int, covered: int, divergence: float
) -> None:
    metric = ClassModes(torch.tensor(weights), least=least)
    metric.update(logits_of([0, 2, 0], 4), real=False)
    metric.update(logits_of([3, 3, 3], 4), real=True)
    metric.update(logits_of([1], 4), real=False)
    figures = figures_of(metric)
    assert figures["modes_covered"] == covered
    assert figures["mode_divergence"] == pytest.approx(divergence, rel=1e-12)


@pytest.mark.parametrize("scale", [0, 1e4])
def test_an_ensemble_decides_once_by_its_mean_log_probabilities(scale: float) -> None:
    # Mean log-probabilities say 1, whatever is added to a member's logits; the mean probabilities,
    # the first member and most members say 0.
    p = torch.tensor([[0.89, 0.10, 0.01], [0.45, 0.40, 0.15], [0.001, 0.899, 0.1]])
    assert p.mean(0).argmax() == 1
    p[2] = torch.tensor([0.001, 0.5, 0.499])
    assert p.mean(0).argmax() == 0
    metric = ClassModes(torch.ones(3), members=3)
    metric.update(p.log()[None] + scale * torch.tensor([1.0, 0.0, -1.0])[:, None], real=False)
    assert metric.counts.tolist() == [0, 1, 0]


def test_impossible_classes_are_never_decided_on() -> None:
    metric = ClassModes(torch.ones(4), members=2)
    impossible = torch.tensor([[[-math.inf, 0, 1, -math.inf], [5, 0, -1, -math.inf]]])
    metric.update(impossible, real=False)
    assert metric.counts.tolist() == [0, 1, 0, 0]


def test_half_precision_decides_as_float64_does() -> None:
    logits = normal(3000, 2, 7, seed=0).half()
    counts = []
    for x in (logits, logits.double()):
        metric = ClassModes(torch.ones(7), members=2)
        metric.update(x, real=False)
        counts.append(metric.counts)
    assert counts[0].equal(counts[1])


def test_batches_and_ranks_together_are_all() -> None:
    x = normal(2500, 2, 7, seed=0)
    whole, here, there = (ClassModes(torch.arange(1, 8), members=2) for _ in range(3))
    whole.update(x, real=False)
    expected = x.log_softmax(-1).mean(1).argmax(-1).bincount(minlength=7)
    assert whole.counts.equal(expected)
    for batch in (x[:1200], x[:0], x[1200:1201]):
        here.update(batch, real=False)
    there.update(x[1201:], real=False)
    here.update(-x, real=True)
    here.merge_state(there)
    assert figures_of(here) == figures_of(whole)


def test_floor_of_a_perfect_sampler() -> None:
    # 2 n KL is near to chi-squared with 999 degrees of freedom, a little more for few a mode
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(100):
        metric = ModeHistogram(torch.ones(1000))
        metric.update(torch.randint(1000, (26000,), generator=generator), real=False)
        figures = figures_of(metric)
        assert figures["modes_covered"] == 1000
        found.append(figures["mode_divergence"])
    mean = sum(found) / len(found)
    assert mean == pytest.approx(999 / 52000, rel=0.02)
    assert max(found) - min(found) < 0.006


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("shape", [(5, 4), (5, 2, 3), (5, 1, 4), (5, 2, 4, 1), (4,)])
def test_other_shapes_are_rejected(shape: tuple[int, ...], real: bool) -> None:
    with pytest.raises(ValueError, match=r"expected logits \(B, 2, 4\)"):
        ClassModes(torch.ones(4), members=2).update(torch.zeros(shape), real=real)


def test_generated_samples_and_positive_weights_are_needed() -> None:
    metric = ClassModes(torch.ones(4))
    metric.update(torch.zeros(5, 4), real=True)
    with pytest.raises(ValueError, match="ClassModes needs at least 1 generated sample, got 0"):
        metric.compute()
    with pytest.raises(ValueError, match="positive"):
        ClassModes(torch.tensor([1.0, 0.0]))


def test_logits_must_be_of_the_modes() -> None:
    weights = torch.tensor([1.0, 2.0, 3.0])
    metric = ClassModes.of(Known(8, members=2, classes=3, asked=True, mode_weights=weights))
    assert metric is not None
    assert metric.members == 2
    assert metric.weights.equal(weights.double())
    for other in (
        Known(8, classes=3, asked=True),
        Known(8, classes=3, mode_weights=weights),
        Known(8, classes=4, asked=True, mode_weights=weights),
        Known(8, asked=True, mode_weights=weights),
    ):
        assert ClassModes.of(other) is None

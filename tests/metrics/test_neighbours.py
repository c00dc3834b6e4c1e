"""Figures of nearest neighbours against loops, other packages and closed forms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from gendiff.metrics import distances
from gendiff.metrics.base import FeatureMetric, Known, SampleMetric
from gendiff.metrics.copying import Copying
from gendiff.metrics.density_coverage import DensityCoverage
from gendiff.metrics.precision_recall import PrecisionRecall

PRDC = json.loads(Path(__file__).with_name("prdc.json").read_text())


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grid(n: int, seed: int) -> Tensor:
    """Points on a small grid in the plane: many are equal, and most distances tie."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(5, (n, 2), generator=generator).double()


def figures(metric: SampleMetric, real: Tensor, generated: Tensor) -> dict[str, float]:
    metric.update(real, real=True)
    metric.update(generated, real=False)
    computed = metric.compute()
    computed = computed if isinstance(computed, dict) else {metric.figures[0]: computed}
    assert tuple(computed) == metric.figures
    assert {value.dtype for value in computed.values()} == {torch.float64}
    return {name: value.item() for name, value in computed.items()}


@pytest.fixture(params=[2**22, 50])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All distances at once, or a row or so at a time."""
    monkeypatch.setattr(distances, "_PAIRS", request.param)


def apart(x: Tensor, y: Tensor) -> np.ndarray:
    return np.linalg.norm(x.double().numpy()[:, None] - y.double().numpy(), axis=-1)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("k", [1, 3])
def test_distances_to_neighbours(k: int) -> None:
    x, y = grid(30, seed=0), grid(23, seed=1)
    others = [np.delete(row, i) for i, row in enumerate(apart(x, x))]
    expected = [np.sort(row)[k - 1] for row in others]
    assert distances.kth_nearest(x, k).tolist() == [d**2 for d in expected]
    assert min(expected) == 0 or k == 3  # duplicates are neighbours
    assert distances.nearest(x, y).tolist() == apart(x, y).min(1).tolist()


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("far", [0.0, 1e4, 1e7])
def test_what_is_compared_is_exact(far: float) -> None:
    x = normal(40, 7, seed=0) + far
    y = torch.cat([x[:5], normal(30, 7, seed=1) + far])
    exact = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()
    bounds = exact[:, 20, None], exact[None, 3]  # each ties with a distance a row or column
    rows_seen = 0
    for rows, block in distances.blocks(x, y, *bounds):
        rows_seen += len(block)
        for bound in (bounds[0][rows], bounds[1]):
            for compare in (torch.le, torch.lt):
                assert torch.equal(compare(block, bound), compare(exact[rows], bound))
    assert rows_seen == 40
    assert torch.equal(distances.nearest(x, y).square() == 0, torch.arange(40) < 5)
    torch.testing.assert_close(distances.nearest(x, y), exact.amin(1).sqrt(), rtol=1e-15, atol=0)


def in_balls(x: Tensor, centres: Tensor, k: int) -> float:
    """Share of x in a ball of the centres."""
    radii = [np.sort(np.delete(row, i))[k - 1] for i, row in enumerate(apart(centres, centres))]
    inside = [any(d <= r for d, r in zip(row, radii, strict=True)) for row in apart(x, centres)]
    return sum(inside) / len(inside)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("k", [1, 2, 3])
def test_precision_and_recall_equal_loops_with_ties(k: int) -> None:
    real, generated = grid(9, seed=6), grid(12, seed=1)
    expected = {"precision": in_balls(generated, real, k), "recall": in_balls(real, generated, k)}
    assert figures(PrecisionRecall(k), real, generated) == pytest.approx(expected, rel=1e-12)
    assert expected["precision"] < 1 or k > 1


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_agree_with_torch_fidelity(k: int) -> None:
    fidelity = pytest.importorskip("torch_fidelity.metric_prc")
    real, generated = normal(120, 6, seed=0), 0.8 * normal(90, 6, seed=1) + 0.5
    expected = fidelity.prc_features_to_metric(
        generated, real, prc_neighborhood=k, prc_batch_size=50, save_cpu_ram=False, verbose=False
    )
    expected.pop("f_score")
    assert 0.2 < expected["recall"] < expected["precision"] < 0.99
    assert figures(PrecisionRecall(k), real, generated) == pytest.approx(expected, abs=1e-6)


def test_the_rim_of_a_ball() -> None:
    real, generated = torch.tensor([[0.0], [1], [5]]), torch.tensor([[-1.0], [9], [9]])
    assert figures(PrecisionRecall(1), real, generated) == {"precision": 1, "recall": 1}
    assert figures(DensityCoverage(1), real, generated) == {"density": 0, "coverage": 0}


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("case", PRDC["cases"])
def test_density_and_coverage_of_their_authors(case: str, k: int) -> None:
    # prdc.json: compute_prdc of the package prdc 0.2, on the inputs stored there
    sets = PRDC["cases"][case]
    real, generated = (torch.tensor(sets[name]).double() for name in ("real", "generated"))
    expected = sets["expected"][str(k)]
    assert figures(DensityCoverage(k), real, generated) == pytest.approx(expected, rel=1e-12)


def test_expected_density_and_coverage_of_one_distribution() -> None:
    # The n - 1 other real samples and the m generated ones are equally likely to be in any order
    # of distance: one generated is among the k nearest with k/n, none is with the product below.
    n, m, k = 20, 30, 3
    none = np.prod([(n - 1 - j) / (n - 1 + m - j) for j in range(k)])
    draws = [
        figures(DensityCoverage(k), normal(n, 2, seed=2 * i), normal(m, 2, seed=2 * i + 1))
        for i in range(300)
    ]
    for name, expected in (("density", 1.0), ("coverage", 1 - none)):
        values = np.array([draw[name] for draw in draws])
        error = values.std(ddof=1) / len(values) ** 0.5
        assert abs(values.mean() - expected) < 3 * error < 0.04


@pytest.mark.usefixtures("blocks")
def test_copying_is_the_mann_whitney_statistic() -> None:
    train, real, generated = grid(6, seed=0), grid(40, seed=1), grid(30, seed=2) + 1
    held_out, nearer = apart(real, train).min(1), apart(generated, train).min(1)
    statistic = scipy.stats.mannwhitneyu(held_out, nearer).statistic
    assert np.isin(nearer, held_out).mean() > 0.3  # ties
    assert figures(Copying(train), real, generated) == pytest.approx(
        {
            "nearest_ratio": nearer.mean() / held_out.mean(),
            "copying": statistic / (len(nearer) * len(held_out)),
        },
        rel=1e-12,
    )


def test_copying_needs_the_training_data() -> None:
    assert Copying.of(Known(2)) is None
    train = normal(6, 3, 2, seed=0)
    metric = Copying.of(Known(2, members=3, train=train))
    assert metric is not None
    assert torch.equal(metric.train_features, train)
    assert "train_features" not in metric.state_dict()
    for shape in ((4, 2), (4, 3, 5), (4,)):
        with pytest.raises(ValueError, match=r"expected features \(B, 3, 2\)"):
            metric.update(torch.zeros(shape), real=True)
    assert metric.to("meta").train_features.device.type == "meta"


TRAIN = normal(50, 3, 4, seed=9)


def copying_of(member: slice) -> Copying:
    return Copying(TRAIN[:, member])


BUILDS = {
    "precision_recall": lambda member: PrecisionRecall(),
    "density_coverage": lambda member: DensityCoverage(),
    "copying": copying_of,
}


@pytest.mark.parametrize("name", BUILDS)
def test_members_are_averaged(name: str) -> None:
    shift = torch.arange(3.0)[:, None] / 4
    real, generated = normal(40, 3, 4, seed=0), normal(35, 3, 4, seed=1) + shift
    single = [figures(BUILDS[name](slice(m, m + 1)), real[:, m], generated[:, m]) for m in range(3)]
    expected = {figure: np.mean([s[figure] for s in single]) for figure in single[0]}
    found = figures(BUILDS[name](slice(None)), real, generated)
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("metric", "least"), [(PrecisionRecall(3), 4), (DensityCoverage(2), 3), (Copying(TRAIN[0]), 1)]
)
def test_too_few_samples(metric: FeatureMetric, least: int) -> None:
    metric.update(normal(9, 4, seed=0), real=True)
    metric.update(normal(least - 1, 4, seed=1), real=False)
    with pytest.raises(ValueError, match=f"{least} generated samples, got {least - 1}"):
        metric.compute()
    metric.update(normal(1, 4, seed=2), real=False)
    assert all(value.isfinite() for value in metric.compute().values())

"""The Fréchet distance of infinitely many samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from gendiff.metrics import frechet_distance
from gendiff.metrics.base import Known
from gendiff.metrics.infinity import FrechetInfinity


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def frechet(x: Tensor, y: Tensor) -> Tensor:
    return frechet_distance(x.mean(0), x.T.cov(), y.mean(0), y.T.cov())


def infinity_of(real: Tensor, generated: Tensor) -> FrechetInfinity:
    metric = FrechetInfinity()
    metric.update(real, real=True)
    metric.update(generated, real=False)
    return metric


@pytest.mark.parametrize(("shift", "stretch"), [(0.0, 0.0), (0.05, 0.15)])
def test_infinity_is_without_bias(shift: float, stretch: float) -> None:
    # Axis-aligned Gaussians: the exact distance is a sum over axes.
    scale = 1 + stretch * torch.linspace(-1, 1, 8, dtype=torch.float64)
    exact = 8 * shift**2 + float((scale - 1).square().sum())
    sets = [
        (normal(400, 8, seed=2 * i), shift + scale * normal(430, 8, seed=2 * i + 1))
        for i in range(60)
    ]
    estimates = torch.stack([infinity_of(x, y).compute() for x, y in sets]) - exact
    plain = torch.stack([frechet(x, y) for x, y in sets]) - exact
    error, plain_error = (values.std() / len(values) ** 0.5 for values in (estimates, plain))
    assert abs(estimates.mean()) < 3 * error < 0.03
    assert plain.mean() > 10 * plain_error


def test_infinity_keeps_labels_in_pairs() -> None:
    # Classes far apart, and as many of each on both sides: what is left is the noise within.
    estimates = []
    for i in range(40):
        label = torch.randint(4, (400,), generator=torch.Generator().manual_seed(i))
        centres = 20 * torch.eye(4, dtype=torch.float64)[label]
        x, y = (centres + normal(400, 4, seed=1000 * side + i) for side in (1, 2))
        estimates.append(infinity_of(x, y).compute())
    values = torch.stack(estimates)
    error = values.std() / len(values) ** 0.5
    assert abs(values.mean()) < 3 * error < 0.1


def test_infinity_is_the_weighted_line_through_its_parts() -> None:
    real, generated = normal(50, 3, seed=0), 1.5 * normal(43, 3, seed=1)
    order = torch.randperm(43, generator=torch.Generator().manual_seed(0))
    x, y = real[order], generated[order]
    sizes = np.array([43, 21, 14, 10])
    means = [
        np.mean([frechet(x[i : i + size], y[i : i + size]) for i in range(0, 43 - size + 1, size)])
        for size in sizes
    ]
    expected = np.polyfit(1 / sizes, means, 1, w=np.sqrt(sizes))[1]
    assert infinity_of(real, generated).compute().item() == pytest.approx(expected, rel=1e-10)


def test_infinity_needs_more_samples_than_features_in_each_part() -> None:
    assert FrechetInfinity.of(Known(5, samples=23)) is None
    assert FrechetInfinity.of(Known(5, samples=24)) is not None
    real, generated = normal(40, 5, seed=0), normal(24, 5, seed=1)
    assert infinity_of(real, generated).compute().isfinite()
    with pytest.raises(ValueError, match="5 features need more than 5 samples"):
        infinity_of(real, generated[:23]).compute()


def test_infinity_members_are_averaged_and_shuffled_alike() -> None:
    real, generated = normal(60, 3, 4, seed=0), normal(50, 3, 4, seed=1)
    single = [infinity_of(real[:, m], generated[:, m]).compute() for m in range(3)]
    torch.testing.assert_close(infinity_of(real, generated).compute(), torch.stack(single).mean())

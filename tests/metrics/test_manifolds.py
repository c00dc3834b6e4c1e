"""Samples of a known mixture that are wrong in known ways: which figures tell, and which do not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gendiff.metrics import FrechetDistance
from gendiff.metrics.copying import Copying
from gendiff.metrics.density_coverage import DensityCoverage
from gendiff.metrics.precision_recall import PrecisionRecall


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixture(n: int, seed: int, modes: int = 4) -> Tensor:
    """Samples of the first of four equal Gaussians, well apart."""
    mode = torch.randint(modes, (n,), generator=torch.Generator().manual_seed(seed))
    return 4 * torch.eye(4, dtype=torch.float64)[mode] + 0.5 * normal(n, 4, seed=seed + 100)


SEEN, HELD_OUT, FRESH = mixture(600, seed=0), mixture(500, seed=1), mixture(500, seed=2)
AS_DATA = {
    "precision": (0.88, 0.97),
    "recall": (0.88, 0.97),
    "density": (0.9, 1.1),
    "coverage": (0.93, 1),
    "nearest_ratio": (0.93, 1.07),
    "copying": (0.45, 0.55),
    "frechet_distance": (0, 0.3),
}
"""Ranges of all figures for samples as good as held-out data."""


@pytest.mark.parametrize(
    ("generated", "moves"),
    [
        pytest.param(FRESH, {}, id="fresh"),
        pytest.param(SEEN[:500], {"nearest_ratio": (0, 0), "copying": (1, 1)}, id="memorised"),
        pytest.param(
            torch.cat([SEEN[:250], FRESH[:250]]),
            {"nearest_ratio": (0.45, 0.55), "copying": (0.72, 0.78)},
            id="half memorised",
        ),
        pytest.param(
            mixture(500, seed=3, modes=1),
            {"recall": (0.2, 0.3), "coverage": (0.2, 0.3), "frechet_distance": (15, 25)},
            id="collapsed",
        ),
        pytest.param(
            FRESH + normal(500, 4, seed=6),
            {
                "precision": (0, 0.5),
                "recall": (0.97, 1),  # its balls are wide
                "density": (0, 0.4),
                "coverage": (0.4, 0.7),
                "nearest_ratio": (2, 5),
                "copying": (0, 0.2),
                "frechet_distance": (0.5, 2),
            },
            id="noisy",
        ),
    ],
)
def test_what_is_wrong_with_samples_of_a_mixture(
    generated: Tensor, moves: dict[str, tuple[float, float]]
) -> None:
    found: dict[str, Tensor] = {}
    for metric in (PrecisionRecall(), DensityCoverage(), Copying(SEEN), FrechetDistance(4)):
        metric.update(HELD_OUT, real=True)
        metric.update(generated, real=False)
        computed = metric.compute()
        found |= computed if isinstance(computed, dict) else {metric.figures[0]: computed}
    for name, (low, high) in (AS_DATA | moves).items():
        assert low <= found[name] <= high, name

"""Every metric over several processes gives what one process gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from gendiff.metrics import (
    ClassAccuracy,
    Copying,
    DensityCoverage,
    EnergyDistance,
    FrechetDistance,
    FrechetInfinity,
    InceptionScore,
    KernelDistance,
    ModeCoverage,
    PrecisionRecall,
    SlicedWasserstein,
    Wasserstein2,
)
from gendiff.metrics.base import SampleMetric

Figures = dict[str, Tensor]


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


REAL, GENERATED = normal(47, 2, 3, seed=0) + 3, 1.2 * normal(41, 2, 3, seed=1) + 3.3
CASES: dict[str, tuple[Callable[[], SampleMetric], Tensor, Tensor]] = {
    # name: what makes the metric, and what it sees of real and of generated samples
    "frechet_distance": (lambda: FrechetDistance(3, 2), REAL, GENERATED),
    "frechet_infinity": (FrechetInfinity, REAL, GENERATED),
    "kernel_distance": (KernelDistance, REAL, GENERATED),
    "precision_recall": (PrecisionRecall, REAL, GENERATED),
    "density_coverage": (DensityCoverage, REAL, GENERATED),
    "copying": (lambda: Copying(REAL.flip(0) + 0.3), REAL, GENERATED),
    "inception_score": (lambda: InceptionScore(3, 2), REAL, GENERATED),
    "class_accuracy": (ClassAccuracy, REAL[..., 0] > 3, GENERATED[..., 0] > 3),
    "modes": (lambda: ModeCoverage(REAL[:5, 0], *torch.full((2, 5), 0.4)), REAL, GENERATED[:, :1]),
    "wasserstein2": (Wasserstein2, REAL, GENERATED),
    "sliced_wasserstein": (SlicedWasserstein, REAL, GENERATED),
    "energy_distance": (EnergyDistance, REAL, GENERATED),
}
SHARES = {"one": [(47, 41)], "uneven": [(37, 22), (10, 19)], "empty": [(30, 41), (17, 0)]}
"""By name, how many real and generated samples each rank has; in batches of 8."""


def computed(name: str, real: slice, generated: slice) -> Figures:
    """Figures of the rows of a rank, together with those of the others."""
    build, *sides = CASES[name]
    metric = build()
    for x, rows, is_real in zip(sides, (real, generated), (True, False), strict=True):
        for batch in x[rows].split(8):
            metric.update(batch, real=is_real)
    figures = metric.compute()
    return figures if isinstance(figures, dict) else {metric.figures[0]: figures}


def work(rank: int, ranks: int, folder: str) -> None:
    """All metrics, for all shares over that many ranks."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet{ranks}", rank=rank, world_size=ranks
    )
    try:
        for label, shares in SHARES.items():
            if len(shares) == ranks:
                rows = [
                    slice(sum(counts[:rank]), sum(counts[: rank + 1]))
                    for counts in zip(*shares, strict=True)
                ]
                found = {name: computed(name, *rows) for name in CASES}
                torch.save(found, f"{folder}/{label}{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def over_ranks(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Figures]]:
    """What each rank computed, by the name of the shares."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    work(0, 1, str(folder))
    # fresh processes would import PyTorch again
    mp.start_processes(work, args=(2, str(folder)), nprocs=2, start_method="fork")

    def found(label: str) -> list[dict[str, Figures]]:
        files = [folder / f"{label}{rank}.pt" for rank in range(len(SHARES[label]))]
        return [torch.load(file, weights_only=True) for file in files]

    return found


@pytest.mark.parametrize("label", SHARES)
@pytest.mark.parametrize("name", CASES)
def test_ranks_together_equal_one_process(
    name: str, label: str, over_ranks: Callable[[str], list[dict[str, Figures]]]
) -> None:
    expected = computed(name, slice(None), slice(None))
    for found in over_ranks(label):
        torch.testing.assert_close(found[name], expected, rtol=1e-12, atol=1e-13)

"""Distances against closed forms, other routes to the same number, and their invariances."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor
from torchmetrics import Metric

from gendiff.metrics import FrechetDistance, KernelDistance, frechet_distance, wasserstein2
from gendiff.metrics.base import Known

Build = Callable[[Tensor, Tensor], Metric]


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def frechet_of(real: Tensor, generated: Tensor) -> FrechetDistance:
    metric = FrechetDistance(real.shape[-1], members=real.shape[1] if real.ndim == 3 else 1)
    metric.update(real, real=True)
    metric.update(generated, real=False)
    return metric


def kernel_of(real: Tensor, generated: Tensor) -> KernelDistance:
    metric = KernelDistance()
    metric.update(real, real=True)
    metric.update(generated, real=False)
    return metric


def sqrtm_frechet(real: Tensor, generated: Tensor) -> float:
    x, y = real.numpy(), generated.numpy()
    cov1, cov2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    cross = np.trace(scipy.linalg.sqrtm(cov1 @ cov2)).real
    mean = np.square(x.mean(0) - y.mean(0)).sum()
    return float(mean + np.trace(cov1) + np.trace(cov2) - 2 * cross)


def low_rank_frechet(real: Tensor, generated: Tensor) -> Tensor:
    """From the centred samples, with no covariance: tr((S1 S2)^½) is the nuclear norm of X Yᵀ."""
    x, y = real - real.mean(0), generated - generated.mean(0)
    scale = ((len(x) - 1) * (len(y) - 1)) ** 0.5
    own = x.square().sum() / (len(x) - 1) + y.square().sum() / (len(y) - 1)
    mean = (real.mean(0) - generated.mean(0)).square().sum()
    distance: Tensor = mean + own - 2 * torch.linalg.svdvals(x @ y.T).sum() / scale
    return distance


def test_frechet_agrees_with_scipy_sqrtm() -> None:
    real = normal(400, 12, seed=0) @ normal(12, 12, seed=1)
    generated = normal(300, 12, seed=2) @ normal(12, 12, seed=3) + 0.5
    expected = sqrtm_frechet(real, generated)
    assert frechet_of(real, generated).compute().item() == pytest.approx(expected, rel=1e-8)


def test_frechet_and_kernel_agree_with_torch_fidelity() -> None:
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    kid = pytest.importorskip("torch_fidelity.metric_kid")
    real, generated = normal(90, 8, seed=0), 0.8 * normal(90, 8, seed=1) + 0.4
    statistics = [fid.fid_features_to_statistics(x) for x in (real, generated)]
    (expected,) = fid.fid_statistics_to_metric(*statistics, verbose=False).values()
    assert frechet_of(real, generated).compute().item() == pytest.approx(expected, abs=1e-6)
    # one subset of all samples, where theirs is the mean of many
    whole = {"kid_subsets": 1, "kid_subset_size": 90, "verbose": False, "rng_seed": 0}
    kernel = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_coef0": 1}
    expected = kid.kid_features_to_metric(
        real, generated, **whole, **kernel, kid_kernel_poly_gamma=None
    )["kernel_inception_distance_mean"]
    assert kernel_of(real, generated).compute().item() == pytest.approx(expected, abs=1e-6)


def test_frechet_of_known_gaussians() -> None:
    # Covariances that commute: the sum over their shared axes of (s1 - s2)².
    axes = torch.linalg.qr(normal(5, 5, seed=0)).Q
    s1, s2 = torch.tensor([[1.0, 2, 3, 0, 5], [4.0, 2, 1, 2, 0]], dtype=torch.float64)
    cov1, cov2 = (axes @ torch.diag(s.square()) @ axes.T for s in (s1, s2))
    mu = torch.zeros(5, dtype=torch.float64)
    expected = 5 * 3.0**2 + (s1 - s2).square().sum()
    torch.testing.assert_close(
        frechet_distance(mu, cov1, mu + 3, cov2), expected, rtol=1e-12, atol=0
    )


def test_frechet_with_fewer_samples_than_features() -> None:
    real, generated = normal(20, 64, seed=0), 1.3 * normal(15, 64, seed=1) + 0.2
    expected = low_rank_frechet(real, generated)
    distance = frechet_of(real, generated).compute()
    torch.testing.assert_close(distance, expected, rtol=1e-12, atol=0)


def test_frechet_ignores_an_empty_batch() -> None:
    metric = frechet_of(normal(20, 4, seed=0), normal(20, 4, seed=1))
    expected = metric.compute()
    metric.update(torch.zeros(0, 4), real=True)
    torch.testing.assert_close(metric.compute(), expected)


def test_frechet_keeps_its_digits_far_from_the_origin() -> None:
    real, generated = normal(40, 64, seed=0) + 1e4, 1.1 * normal(40, 64, seed=1) + 1e4
    metric = FrechetDistance(64)
    for batch in torch.split(real, 7):
        metric.update(batch, real=True)
    for batch in torch.split(generated, 9):
        metric.update(batch, real=False)
    expected = low_rank_frechet(real, generated)
    torch.testing.assert_close(metric.compute(), expected, rtol=1e-9, atol=0)


def test_frechet_members_are_independent() -> None:
    real, generated = (
        normal(50, 3, 4, seed=0),
        normal(60, 3, 4, seed=1) + torch.arange(3.0)[:, None],
    )
    metric = frechet_of(real, generated)
    single = [frechet_of(real[:, m], generated[:, m]).compute() for m in range(3)]
    torch.testing.assert_close(metric.compute(), torch.stack(single).mean())


def test_frechet_in_float32_accumulates_in_float64() -> None:
    real, generated = normal(50, 4, seed=0).float(), normal(50, 4, seed=1).float()
    expected = frechet_of(real.double(), generated.double()).compute()
    torch.testing.assert_close(frechet_of(real, generated).compute(), expected, rtol=1e-13, atol=0)


def test_frechet_of_what_is_known() -> None:
    metric = FrechetDistance.of(Known(5, members=2))
    assert (metric.num_features, metric.members) == (5, 2)


@pytest.mark.parametrize("count", [0, 1])
def test_frechet_needs_two_samples(count: int) -> None:
    metric = frechet_of(normal(5, 3, seed=0), normal(count, 3, seed=1))
    with pytest.raises(ValueError, match=f"at least 2 generated samples, got {count}"):
        metric.compute()


def test_frechet_rejects_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"expected features \(B, 2, 3\)"):
        FrechetDistance(3, members=2).update(normal(5, 3, seed=0), real=True)


@pytest.mark.parametrize("build", [frechet_of, kernel_of])
def test_merging_two_halves_equals_one(build: Build) -> None:
    real, generated = normal(30, 2, 5, seed=0) + 3, normal(40, 2, 5, seed=1)
    metric = build(real[:11], generated[:25])
    metric.merge_state(build(real[11:], generated[25:]))
    torch.testing.assert_close(metric.compute(), build(real, generated).compute())


@pytest.mark.parametrize("build", [frechet_of, kernel_of])
def test_order_of_samples_does_not_matter(build: Build) -> None:
    real, generated = normal(30, 2, 5, seed=0) + 3, normal(40, 2, 5, seed=1)
    expected = build(real, generated).compute()
    torch.testing.assert_close(build(real.flip(0), generated.roll(7, 0)).compute(), expected)


def test_kernel_equals_a_double_loop() -> None:
    x, y = normal(7, 3, seed=0), normal(5, 3, seed=1) + 1

    def k(a: Tensor, b: Tensor) -> float:
        return float((a @ b / 3 + 1) ** 3)

    within_x = [k(x[i], x[j]) for i in range(7) for j in range(7) if i != j]
    within_y = [k(y[i], y[j]) for i in range(5) for j in range(5) if i != j]
    across = [k(a, b) for a in x for b in y]
    expected = np.mean(within_x) + np.mean(within_y) - 2 * np.mean(across)
    assert kernel_of(x, y).compute().item() == pytest.approx(expected, rel=1e-12)


def test_kernel_in_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normal(23, 4, seed=0), normal(17, 4, seed=1) + 1
    expected = kernel_of(x, y).compute()
    monkeypatch.setattr("gendiff.metrics.kernel._ROWS", 5)
    torch.testing.assert_close(kernel_of(x, y).compute(), expected)


def test_kernel_is_unbiased() -> None:
    # Sets of 10 from one distribution: the biased estimate would lie far above zero.
    values = torch.stack(
        [
            kernel_of(normal(10, 4, seed=2 * i), normal(10, 4, seed=2 * i + 1)).compute()
            for i in range(400)
        ]
    )
    error = values.std() / len(values) ** 0.5
    assert abs(values.mean()) < 3 * error
    assert values.min() < 0
    assert error < 0.05  # the self-similarity that a biased estimate adds is above 1


def test_kernel_members_are_averaged() -> None:
    real, generated = (
        normal(20, 3, 4, seed=0),
        normal(25, 3, 4, seed=1) + torch.arange(3.0)[:, None],
    )
    single = [kernel_of(real[:, m], generated[:, m]).compute() for m in range(3)]
    torch.testing.assert_close(kernel_of(real, generated).compute(), torch.stack(single).mean())


@pytest.mark.parametrize("count", [0, 1])
def test_kernel_needs_two_samples(count: int) -> None:
    metric = KernelDistance()
    metric.update(normal(5, 3, seed=0), real=True)
    if count:
        metric.update(normal(count, 3, seed=1), real=False)
    with pytest.raises(ValueError, match=f"at least 2 generated samples, got {count}"):
        metric.compute()


def test_kernel_rejects_other_shapes() -> None:
    with pytest.raises(ValueError, match="expected features"):
        KernelDistance().update(normal(5, seed=0), real=True)


def test_wasserstein_of_a_shifted_set_is_the_shift() -> None:
    x = normal(200, 2, seed=0)
    assert wasserstein2(x, x + torch.tensor([3.0, 4.0])) == pytest.approx(5, rel=1e-12)


def test_wasserstein_ignores_the_order() -> None:
    x = normal(200, 2, seed=0)
    assert wasserstein2(x, x.flip(0)) == 0


def test_wasserstein_finds_the_best_assignment() -> None:
    # On a line the sorted order is optimal; the greedy nearest match is not.
    x, y = normal(50, 1, seed=0), 2 * normal(50, 1, seed=1)
    expected = (x.sort(0).values - y.sort(0).values).square().mean().sqrt()
    assert wasserstein2(x, y) == pytest.approx(expected.item(), rel=1e-12)


def test_wasserstein_rejects_sets_of_different_size() -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        wasserstein2(normal(4, 2, seed=0), normal(5, 2, seed=1))

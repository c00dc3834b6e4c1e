"""Couplings of noise and data: against all permutations, in closed form, by a teacher's flow."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from gendiff.couplings import optimal, solve, solver
from gendiff.data.toy import GaussianMixture
from gendiff.paths import VP, Cosine, Linear


def cost(x0, eps):
    return (x0 - eps).flatten(1).square().sum().item()


def least(x0, eps):
    """Of all orders of the noise."""
    return min(cost(x0, eps[list(order)]) for order in permutations(range(len(x0))))


def rows(eps):
    return sorted(map(tuple, eps.flatten(1).tolist()))


@pytest.mark.parametrize("shape", [(2,), (1, 2, 3)])
def test_no_permutation_is_cheaper(shape):
    x0, eps = 3 + torch.randn(2, 18, *shape)
    coupled = optimal(x0, eps, 6)
    for part in torch.arange(18).split(6):
        assert rows(coupled[part]) == rows(eps[part])  # blocks keep their noise
        assert cost(x0[part], coupled[part]) == pytest.approx(least(x0[part], eps[part]))
    assert coupled.dtype == eps.dtype


def test_classes_keep_their_noise():
    x0, eps = torch.randn(2, 12, 2)
    label = torch.tensor([0, 1] * 6)
    coupled = optimal(x0, eps, 12, label)
    for kind in (0, 1):
        own = label == kind
        assert rows(coupled[own]) == rows(eps[own])
        assert cost(x0[own], coupled[own]) == pytest.approx(least(x0[own], eps[own]))
    assert cost(x0, optimal(x0, eps, 12)) < cost(x0, coupled)


def test_data_on_a_line_take_noise_in_order():
    """|x0 - eps|^2 then falls with how far the noise lies along the line: a sorting."""
    line, eps = torch.tensor([0.6, 0.8]), torch.randn(64, 2)
    place = torch.randn(64)
    coupled = optimal(place[:, None] * line, eps, 64)
    along = (coupled @ line)[place.argsort()]
    assert (along.diff() > 0).all()


@pytest.mark.parametrize("label", [None, torch.arange(32) % 3])
def test_it_does_not_depend_on_how_the_batch_is_cut(label):
    x0, eps = torch.randn(2, 32, 2)
    parts = [
        optimal(x0[part], eps[part], 8, None if label is None else label[part])
        for part in torch.arange(32).split(16)
    ]
    assert torch.cat(parts).equal(optimal(x0, eps, 8, label))


def test_groups_of_one_stay_as_they_are():
    x0, eps = torch.randn(2, 9, 2)
    assert optimal(x0, eps, 1).equal(eps)


@pytest.mark.parametrize("path", [Linear(), Cosine(), VP()])
def test_a_gaussian_is_reached_by_scaling_the_noise(path):
    mixture = GaussianMixture([1.0], [[0.5, -1.0]], [0.3])
    eps = torch.randn(50, 2, dtype=torch.float64)
    x0 = solve(solver("ddim", path, 400), mixture.denoiser(path), eps, 400)
    torch.testing.assert_close(x0, mixture.means + 0.3 * eps, rtol=0, atol=0.02)

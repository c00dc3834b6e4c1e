"""Straightness of the exact flow of a Gaussian, in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from gendiff.data.toy import GaussianMixture
from gendiff.paths import EDM, Cosine, Linear
from gendiff.straightness import straightness


@pytest.mark.parametrize("path", [Linear(), Cosine(), EDM()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("std", [0.2, 1.0])
def test_straightness_of_a_gaussian(path, std):
    """x_t = (1 - t) mu + r(t) z with r^2 = (1 - t)^2 std^2 + t^2, so S = E|z|^2 (int r'^2 dt -
    (1 - std)^2), and the integral is 1 + std^2 - pi std / 2."""
    noise = torch.randn(20, 3, dtype=torch.float64)
    denoiser = GaussianMixture([1.0], [[1.0, 2.0, -3.0]], [std]).denoiser(path)
    wanted = noise.square().sum(1).mean().item() * std * (2 - math.pi / 2)
    one, few, many = (straightness(denoiser, noise, steps=n)["straightness"] for n in (1, 80, 160))
    assert one < 1e-12
    assert few < many < wanted
    assert 2 * many - few == pytest.approx(wanted, rel=0.01)  # their error is of first order

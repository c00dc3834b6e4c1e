"""Distance from a Gaussian against closed forms and quadrature, and the time it is small enough."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from gendiff.data.base import Rows
from gendiff.data.toy import GaussianMixture
from gendiff.gaussianity import first_gaussian_time, look_along, non_gaussianity, some_rows
from gendiff.paths import EDM, VP, Cosine, DiscreteLinear, Linear

PATHS = [VP(), Cosine(), Linear(), EDM(), DiscreteLinear(1000)]
TWO = torch.tensor([[-3.0], [5.0]])


def by_quantiles(a, s, std=0.0):
    """Of two equal points, 1 from their mean each: int (F^-1(q) - Phi^-1(q))^2 dq, by root finding.

    By symmetry only of the upper half; std is the width of each point.
    """
    width = math.hypot(a * std, s)
    size = math.hypot(a, width)
    cdf = lambda y: (ndtr((size * y - a) / width) + ndtr((size * y + a) / width)) / 2  # noqa: E731
    move = lambda z: brentq(lambda y: cdf(y) - ndtr(z), -20, 20) - z  # noqa: E731
    half = quad(lambda z: move(z) ** 2 * math.exp(-z * z / 2), 0, 6)[0]
    return math.sqrt(2 * half / math.sqrt(2 * math.pi))


@pytest.mark.parametrize(
    ("x0", "distance", "tolerance"),
    [
        (TWO, math.sqrt(2 - 2 * math.sqrt(2 / math.pi)), 5e-3),
        (torch.linspace(2, 3, 4001)[:, None], math.sqrt(2 - 2 * math.sqrt(3 / math.pi)), 1e-4),
        (torch.randn(5000, 3, generator=torch.Generator().manual_seed(0)), 0.0, 0.03),
    ],
    ids=["points", "interval", "normal"],
)
def test_data_as_they_are(x0, distance, tolerance):
    assert abs(non_gaussianity(look_along(x0), VP(), 0.0) - distance) < tolerance


def test_directions_without_data_are_noise_alone():
    flat = torch.cat([TWO, torch.ones(2, 1)], 1)
    assert non_gaussianity(look_along(torch.ones(6, 3)), VP(), 1e-4) < 1e-5
    assert non_gaussianity(look_along(flat), VP(), 0.1) > 0.1


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("share", [0.1, 0.3, 0.7])
def test_noised_points_against_quantiles(path, share):
    t = float(path.inverse_log_snr(torch.tensor(20 * (0.5 - share)).double()))
    a, s = (float(f(torch.tensor(t).double())) for f in (path.alpha, path.sigma))
    found = non_gaussianity(look_along(TWO), path, t)
    assert found == pytest.approx(by_quantiles(4 * a, s), rel=1e-3, abs=1e-7)


def test_many_rows_are_kept_as_quantiles():
    """A mixture of two narrow normals, drawn evenly, at no noise and at some."""
    q = 0.2 * torch.tensor(ndtri((np.arange(10000) + 0.5) / 10000))
    x0 = torch.cat([q - 1, q + 1])[:, None]
    for t in (0.05, 0.3):
        a, s = (float(f(torch.tensor(t).double())) for f in (VP().alpha, VP().sigma))
        found = non_gaussianity(look_along(x0), VP(), t)
        assert found == pytest.approx(by_quantiles(a, s, 0.2), rel=5e-3)


def test_a_direction_that_is_far_is_seen_among_many():
    """Two clusters along one of 200 directions, the longest; all else is normal."""
    generator = torch.Generator().manual_seed(1)
    x0 = torch.randn(2000, 200, generator=generator)
    normal = non_gaussianity(look_along(x0), VP(), 0.1)
    x0[:, 7] = 5 * x0[:, 7].sign()
    assert non_gaussianity(look_along(x0), VP(), 0.1) > 2 * normal


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
def test_the_time_is_the_first_that_is_near_enough(path):
    mixture = GaussianMixture([0.5, 0.5], [[-0.7, 0.2], [0.6, -0.4]], [0.1, 0.2])
    x0 = mixture.sample(100, torch.Generator().manual_seed(0))[0]
    lines, before = look_along(x0), 0.0
    for within in (0.2, 0.03):
        t = first_gaussian_time(x0, path, within)
        assert before < t < path.t_max
        assert t == round(t) if path.steps else t == float(f"{t:.3g}")
        sooner = t - 1 if path.steps else 0.99 * t
        distances = [non_gaussianity(lines, path, time) for time in (t, sooner)]
        assert distances[0] <= within < distances[1]
        before = t


def test_gaussian_data_are_near_from_the_start_and_others_maybe_never():
    x0 = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    assert first_gaussian_time(x0, DiscreteLinear(1000), 0.3) == 1
    assert first_gaussian_time(x0, EDM(), 0.3) == pytest.approx(0.002)
    with pytest.raises(ValueError, match=r"^1e-06; even at the path's end the distance is 2"):
        first_gaussian_time(TWO, DiscreteLinear(100), 1e-6)


def test_directions_and_rows_are_the_same_every_time():
    x0 = torch.randn(6000, 40, generator=torch.Generator().manual_seed(0))
    rows = Rows(x0=x0, label=torch.zeros(6000))
    torch.manual_seed(1)
    first = some_rows(rows)
    state = torch.get_rng_state()
    assert first.shape == (5000, 40)
    torch.testing.assert_close(some_rows(rows), first, rtol=0, atol=0)
    torch.testing.assert_close(look_along(first), look_along(first), rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)  # the run's own numbers are left alone

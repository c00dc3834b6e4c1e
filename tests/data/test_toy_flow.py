"""The exact flow map of a mixture, against closed forms and another route to it."""

from __future__ import annotations

import pytest
import torch

from gendiff.data.toy import GaussianMixture
from gendiff.paths import Cosine, Linear


@pytest.mark.parametrize(("share", "end"), [(1.0, 0.0), (0.8, 0.1), (0.0, 0.9)])
def test_one_gaussian_keeps_its_deviations(path, share, end):
    """Either way in time, rows at times of their own, narrow as the Gaussian may be."""
    mean, std = torch.tensor([[0.4, -0.7]]).double(), 0.01
    x, t, s = torch.randn(9, 2).double(), share * path.t_max, end * path.t_max
    t = torch.full((9,), t).double() * torch.linspace(1.0, 0.9, 9)
    s = torch.tensor(s).double()
    a, b = path.alpha(t)[:, None], path.alpha(s)
    v, w = ((k * std).square() + path.sigma(r).square() for k, r in ((a[:, 0], t), (b, s)))
    x = a * mean + v.sqrt()[:, None] * x
    wanted = b * mean + (w / v).sqrt()[:, None] * (x - a * mean)
    found = GaussianMixture([1.0], mean, [std]).flow_map(path, x, t, s)
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("whole", [True, False])
def test_a_mixture_on_the_line_keeps_its_quantiles(path, gm1, exact_flow, whole):
    """All the way to the data, or some way to the noise; quantiles can be told from 0 and 1."""
    t, s = (path.t_max, 0.0) if whole else (1.0, 4.0) if path.t_max > 2 else (0.3, 0.9)
    x = path.size(torch.tensor(t)).double() * torch.linspace(-1.8, 1.8, 13).double()[:, None]
    wanted = exact_flow(path, x, t, s)
    torch.testing.assert_close(gm1.flow_map(path, x, t, s), wanted, rtol=1e-7, atol=1e-7)


def test_maps_follow_one_another(gm2):
    """By way of a time between, and back; in the type that was given."""
    x, path = torch.randn(30, 2, dtype=torch.float64), Cosine()
    whole = gm2.flow_map(path, x, 1.0, 0.0)
    halves = gm2.flow_map(path, gm2.flow_map(path, x, 1.0, 0.4), 0.4, 0.0)
    torch.testing.assert_close(whole, halves, rtol=0, atol=1e-6)
    torch.testing.assert_close(gm2.flow_map(path, whole, 0.0, 1.0), x, rtol=0, atol=1e-6)
    single = gm2.flow_map(Linear(), x.float(), torch.tensor(0.5), torch.tensor(0.5))
    assert single.equal(x.float())


def test_noise_is_carried_to_the_data(gm2):
    """What comes out is distributed as the data are."""
    x = gm2.flow_map(Linear(), torch.randn(1000, 2), 1.0, 0.0).double()
    mean = (gm2.weights[:, None] * gm2.means).sum(0)
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.08)
    near = torch.cdist(x, gm2.means).min(1)
    assert (near.values < 4 * gm2.stds[near.indices]).float().mean() > 0.99
    shares = near.indices.bincount(minlength=3) / 1000
    torch.testing.assert_close(shares.double(), gm2.weights, rtol=0, atol=0.05)

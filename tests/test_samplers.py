"""Samplers against distributions whose truth is known, and the mixture's own formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gendiff.predictions import Prediction
from gendiff.samplers import ancestral, consistency, ddim, posterior, time_grid

N = 10_000


class ConsistencyFunction:
    """Jumps along the exact flow to t = 0."""

    def __init__(self, path, flow):
        self.path, self.flow, self.nfe = path, flow, 0

    def __call__(self, xt, t, cond=None):
        self.nfe += 1
        return Prediction(self.flow(self.path, xt, t, 0.0), "x0", xt, t, self.path)


class Pull:
    """A generator whose x0 is the latent, so that it must be drawn."""

    latent = 2

    def __init__(self, path):
        self.path = path

    def __call__(self, xt, t, cond):
        return Prediction(cond["z"], "x0", xt, t.expand(len(xt)), self.path)


def grid(path, steps, **settings):
    return time_grid(path, steps, dtype=torch.float64, **settings)


def start(path, mixture, n=N):
    """x at t_max, with the mixture's own law there, and a noise for the sampler."""
    generator = torch.Generator().manual_seed(1)
    x0 = mixture.sample(n, generator)[0].double()
    draw = lambda *_: torch.randn(x0.shape, generator=generator, dtype=torch.float64)  # noqa: E731
    return path.add_noise(x0, draw(), torch.ones(n, dtype=torch.float64)), draw


def check_moments(x, mixture, bias=0.0):
    """Mean and second moments within four standard errors."""
    w, m = mixture.weights, mixture.means
    second = torch.einsum("k,ki,kj->ij", w, m, m) + (w * mixture.stds**2).sum() * torch.eye(
        m.shape[1], dtype=torch.float64
    )
    products = x[:, :, None] * x[:, None]
    for sample, truth in ((x, w @ m), (products, second)):
        error = (sample.mean(0) - truth).abs()
        assert (error < 4 * sample.std(0) / N**0.5 + bias).all()


def test_uniform_grid(path):
    times = time_grid(path, 4, t_end=0.2)
    torch.testing.assert_close(times, torch.tensor([1, 0.8, 0.6, 0.4, 0.2]))


def test_log_snr_grid(path):
    times = grid(path, 10, kind="log_snr", t_end=0.01)
    steps = path.log_snr(times).diff()
    torch.testing.assert_close(steps, steps[:1].expand(10))
    assert path.log_snr(times[0]) >= -20.0001
    assert times[0] > 0.99
    assert times[-1] == 0.01


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"steps": 0}, "steps is 0"), ({"steps": 2, "kind": "log_snr"}, "t_end > 0")],
)
def test_impossible_grids_are_refused(path, settings, message):
    with pytest.raises(ValueError, match=message):
        time_grid(path, **settings)


def test_ddim_converges_to_first_order(path, gm1, exact_flow):
    x = torch.linspace(-2, 2, 21, dtype=torch.float64)[:, None]
    truth = exact_flow(path, x, 1.0, 0.0)
    counts = [100, 200, 400]
    errors = [
        (ddim(gm1.denoiser(path), x, grid(path, steps)) - truth).square().mean().sqrt()
        for steps in counts
    ]
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert errors[-1] < 0.02
    assert -1.15 < slope < -0.85


@pytest.mark.parametrize("sampler", [ancestral, lambda *a: ddim(*a, eta=0.5)])
def test_stochastic_samplers_match_the_mixture(path, gm2, sampler):
    x, draw = start(path, gm2)
    # 100 steps leave a bias of their own, 0.013 on VP
    check_moments(sampler(gm2.denoiser(path), x, grid(path, 100), None, draw), gm2, bias=0.015)


@pytest.mark.parametrize("steps", [1, 3])
def test_consistency_sampler_matches_the_mixture(path, gm1, exact_flow, steps):
    x, draw = start(path, gm1)
    jump = ConsistencyFunction(path, exact_flow)
    check_moments(consistency(jump, x, grid(path, steps), None, draw), gm1)
    assert jump.nfe == steps


def test_ddim_with_eta_one_is_ancestral(path, gm2):
    x, _ = start(path, gm2, 50)
    times, noise = grid(path, 7), torch.randn(7, 50, 2, dtype=torch.float64)
    draw = lambda step: noise[step]  # noqa: E731
    denoiser = gm2.denoiser(path)
    a = ddim(denoiser, x, times, None, draw, eta=1.0)
    torch.testing.assert_close(a, ancestral(denoiser, x, times, None, draw), rtol=1e-9, atol=1e-9)
    assert denoiser.nfe == 14


@pytest.mark.parametrize("sampler", [ddim, ancestral, consistency])
def test_one_step_to_data_is_the_prediction(path, gm2, sampler):
    x, _ = start(path, gm2, 50)
    out = sampler(gm2.denoiser(path), x, grid(path, 1))
    torch.testing.assert_close(out, gm2.denoiser(path)(x, torch.tensor(1.0).double()).x0)


@pytest.mark.parametrize("sampler", [ddim, ancestral, consistency])
def test_no_noise_given_means_the_global_generator(path, gm2, sampler):
    x, _ = start(path, gm2, 50)
    outs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outs.append(sampler(gm2.denoiser(path), x, grid(path, 3)))
    assert outs[0].equal(outs[1])
    assert outs[0].equal(outs[2]) == (sampler is ddim)


def test_posterior_sampler_in_closed_form(path):
    x = torch.randn(6, 2, dtype=torch.float64)
    latents, noise = torch.randn(2, 2, 6, 2, dtype=torch.float64)
    times = grid(path, 2)
    out = posterior(
        Pull(path), x, times, None, lambda step, *k: latents[step] if k else noise[step]
    )
    # two steps, the second of which ends at its x0
    weight_x0, weight_xt, variance = path.posterior(times[1], times[0])
    middle = weight_x0 * latents[0] + weight_xt * x + variance.sqrt() * noise[0]
    weight_x0, weight_xt, _ = path.posterior(times[2], times[1])
    torch.testing.assert_close(out, weight_x0 * latents[1] + weight_xt * middle)
    torch.testing.assert_close(out, latents[1])


# ---- the mixture, on which the rest of this file relies ------------------------------------------


@pytest.mark.parametrize("t", [0.05, 0.4, 0.9])
def test_exact_denoiser_is_the_posterior_mean(path, gm1, t):
    t = torch.tensor(t, dtype=torch.float64)
    x = torch.linspace(-1.5, 1.5, 11, dtype=torch.float64)[:, None]
    x0 = torch.linspace(-3, 3, 20_001, dtype=torch.float64)
    normal = lambda z, s: torch.exp(-0.5 * (z / s) ** 2) / s  # noqa: E731
    prior = sum(
        w * normal(x0 - m, s)
        for w, m, s in zip(gm1.weights, gm1.means[:, 0], gm1.stds, strict=True)
    )
    joint = prior * normal(x - path.alpha(t) * x0, path.sigma(t))
    brute = torch.trapezoid(x0 * joint, x0) / torch.trapezoid(joint, x0)
    torch.testing.assert_close(gm1.denoiser(path)(x, t).x0[:, 0], brute, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("t", [None, 0.3])
def test_density_integrates_to_one(path, gm2, t):
    line = torch.linspace(-6, 6, 401, dtype=torch.float64)
    t = t if t is None else torch.tensor(t, dtype=torch.float64)
    density = gm2.log_density(torch.cartesian_prod(line, line), path, t).exp()
    assert density.sum() * (line[1] - line[0]) ** 2 == pytest.approx(1, abs=1e-6)


def test_score_is_the_gradient_of_the_density(path, gm2):
    x = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    t = torch.linspace(0.05, 1, 9, dtype=torch.float64)
    (slope,) = torch.autograd.grad(gm2.log_density(x, path, t).sum(), x)
    torch.testing.assert_close(gm2.denoiser(path)(x.detach(), t).score, slope)

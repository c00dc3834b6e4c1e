"""Stochastic samplers against distributions whose truth is known, and what all samplers share."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from gendiff.denoiser import Denoiser
from gendiff.paths import VP, DiscreteCosine
from gendiff.predictions import Prediction
from gendiff.samplers import (
    ancestral,
    consistency,
    ddim,
    dpm_solver,
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_2s,
    euler,
    heun,
    langevin,
    midpoint,
    posterior,
    predictor_corrector,
    time_grid,
)

N = 4_000


class ConsistencyFunction:
    """Jumps along the exact flow to t = 0."""

    def __init__(self, path, flow):
        self.path, self.flow, self.nfe = path, flow, 0

    def __call__(self, xt, t, cond=None):
        self.nfe += 1
        return Prediction(self.flow(self.path, xt, t, 0.0), "x0", xt, t, self.path)


class Pull:
    """A generator whose x0 is the latent, so that it must be drawn."""

    latent, direct = 2, False

    def __init__(self, path):
        self.path = path

    def __call__(self, xt, t, cond):
        return Prediction(cond["z"], "x0", xt, t.expand(len(xt)), self.path)


def start(path, mixture, n=N):
    """x at t_max, with the mixture's own law there, and a noise for the sampler."""
    generator = torch.Generator().manual_seed(1)
    x0 = mixture.sample(n, generator)[0].double()
    draw = lambda *_: torch.randn(x0.shape, generator=generator, dtype=torch.float64)  # noqa: E731
    t = torch.full((n,), path.t_max, dtype=torch.float64)
    return path.add_noise(x0, draw(), t), draw


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


STOCHASTIC = {
    "ancestral": ancestral,
    "ancestral-large": partial(ancestral, variance="large"),
    "ddim-eta": partial(ddim, eta=0.5),
    "heun-churn": partial(heun, churn=40.0),
    "dpmpp_2m_sde": dpmpp_2m_sde,
    "predictor_corrector": predictor_corrector,
    "langevin": partial(langevin, walks=4),
}


@pytest.mark.parametrize("name", STOCHASTIC)
def test_stochastic_samplers_match_the_mixture(path, gm2, name):
    x, draw = start(path, gm2)
    # 100 steps leave a bias of their own
    out = STOCHASTIC[name](gm2.denoiser(path), x, time_grid(path, 100), None, draw)
    check_moments(out, gm2, bias=0.015)


@pytest.mark.parametrize(
    "sampler", [ancestral, ddim, dpmpp_2m, dpmpp_2m_sde, partial(dpm_solver, order=3, multi=True)]
)
def test_a_chain_is_sampled_at_its_own_steps(gm2, sampler):
    path = DiscreteCosine(4000)
    x, draw = start(path, gm2)
    check_moments(sampler(gm2.denoiser(path), x, time_grid(path, 100), None, draw), gm2, 0.02)


@pytest.mark.parametrize("steps", [1, 3])
def test_consistency_sampler_matches_the_mixture(path, gm1, exact_flow, steps):
    x, draw = start(path, gm1)
    jump = ConsistencyFunction(path, exact_flow)
    check_moments(consistency(jump, x, time_grid(path, steps), None, draw), gm1)
    assert jump.nfe == steps


def test_ddim_with_eta_one_is_ancestral(path, gm2):
    x, _ = start(path, gm2, 50)
    times, noise = time_grid(path, 7), torch.randn(7, 50, 2, dtype=torch.float64)
    draw = lambda step: noise[step]  # noqa: E731
    denoiser = gm2.denoiser(path)
    a = ddim(denoiser, x, times, None, draw, eta=1.0)
    torch.testing.assert_close(a, ancestral(denoiser, x, times, None, draw), rtol=1e-9, atol=1e-9)
    assert denoiser.nfe == 14


@pytest.mark.parametrize(
    "sampler", [ddim, ancestral, consistency, euler, heun, midpoint, dpm_solver, dpmpp_2s, dpmpp_2m]
)
def test_one_step_to_data_is_the_prediction(path, gm2, sampler):
    x, _ = start(path, gm2, 50)
    out = sampler(gm2.denoiser(path), x, time_grid(path, 1))
    torch.testing.assert_close(out, gm2.denoiser(path)(x, torch.tensor(path.t_max).double()).x0)


@pytest.mark.parametrize("sampler", [ddim, consistency, *STOCHASTIC.values()])
def test_no_noise_given_means_the_global_generator(path, gm2, sampler):
    x, _ = start(path, gm2, 50)
    outs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outs.append(sampler(gm2.denoiser(path), x, time_grid(path, 3)))
    assert outs[0].equal(outs[1])
    assert outs[0].equal(outs[2]) == (sampler is ddim)


def test_posterior_sampler_in_closed_form(path):
    x = torch.randn(6, 2, dtype=torch.float64)
    latents, noise = torch.randn(2, 2, 6, 2, dtype=torch.float64)
    times = time_grid(path, 2)
    out = posterior(
        Pull(path), x, times, None, lambda step, *k: latents[step] if k else noise[step]
    )
    # two steps, the second of which ends at its x0
    weight_x0, weight_xt, variance = path.posterior(times[1], times[0])
    middle = weight_x0 * latents[0] + weight_xt * x + variance.sqrt() * noise[0]
    weight_x0, weight_xt, _ = path.posterior(times[2], times[1])
    torch.testing.assert_close(out, weight_x0 * latents[1] + weight_xt * middle)
    torch.testing.assert_close(out, latents[1])


ALL = [
    *STOCHASTIC.values(),
    *(ddim, euler, heun, midpoint, dpmpp_2s, dpmpp_2m, consistency),
    *(partial(dpm_solver, order=order, multi=multi) for order in (2, 3) for multi in (True, False)),
]


@pytest.mark.parametrize("sampler", ALL)
def test_nothing_in_the_loop_asks_the_device(path, sampler):
    """A tensor on the meta device has no numbers that could be asked for."""
    denoiser = Denoiser(torch.nn.Identity(), path, "x0")
    denoiser.network = lambda x, level, cond: x
    dtype = torch.bfloat16  # the first to give way where two meet
    x = torch.empty(3, 1, 4, 4, device="meta", dtype=dtype)
    out = sampler(denoiser, x, time_grid(path, 12))
    assert (out.device.type, out.dtype, out.shape) == ("meta", dtype, x.shape)


@pytest.mark.parametrize("settings", [{"walks": 0}, {"size": 1.0}])
def test_impossible_walks_are_refused(gm2, settings):
    with pytest.raises(ValueError, match="walks"):
        langevin(gm2.denoiser(VP()), torch.zeros(1, 2), time_grid(VP(), 2), **settings)


def test_an_overshooting_correction_is_refused(gm2):
    with pytest.raises(ValueError, match=r"snr: 0\.8"):
        predictor_corrector(gm2.denoiser(VP()), torch.zeros(1, 2), time_grid(VP(), 2), snr=0.8)

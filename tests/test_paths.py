"""Paths: closed forms, derivatives, and the identities of Gaussian conditioning."""

from __future__ import annotations

from pathlib import Path as File

import numpy as np
import pytest
import torch

from gendiff.paths import VP, Cosine, Linear, Path

DDGAN = np.load(File(__file__).parent / "oracles" / "ddgan_posterior.npz")
TIMES = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
# s < t, with both ends of the path
S = torch.tensor([0.0, 0.0, 0.001, 0.3, 0.5, 0.98], dtype=torch.float64)
T = torch.tensor([0.001, 1.0, 0.5, 0.31, 1.0, 1.0], dtype=torch.float64)


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("path", "alpha", "sigma"),
    [
        (
            VP(0.2, 10.0),
            lambda t: np.exp(-0.1 * t - 2.45 * t**2),
            lambda t: np.sqrt(1 - np.exp(-0.2 * t - 4.9 * t**2)),
        ),
        (Cosine(), lambda t: np.cos(np.pi * t / 2), lambda t: np.sin(np.pi * t / 2)),
        (Linear(), lambda t: 1 - t, lambda t: t),
    ],
)
def test_scales_in_closed_form(path, alpha, sigma):
    same(path.alpha(TIMES), alpha(TIMES))
    same(path.sigma(TIMES), sigma(TIMES))


def test_ends_are_data_and_noise(path):
    ends = torch.tensor([0.0, 1.0])
    assert path.alpha(ends)[0] == 1
    assert path.sigma(ends)[0] == 0
    assert path.alpha(ends)[1] == 0 or (isinstance(path, VP) and path.alpha(ends)[1] < 0.01)
    same(path.sigma(ends)[1], torch.tensor(1.0), 1e-4)


def test_little_noise_survives_single_precision(path):
    t = torch.logspace(-7, -3, 9, dtype=torch.float64)
    torch.testing.assert_close(path.sigma(t.float()).double(), path.sigma(t), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["alpha", "sigma"])
def test_rates_are_derivatives(path, name):
    t = TIMES.clone().requires_grad_()
    (slope,) = torch.autograd.grad(getattr(path, name)(t).sum(), t)
    same(getattr(path, f"d_{name}")(TIMES), slope, 1e-10)


def test_velocity_is_the_slope_of_the_line(path):
    x0, eps = torch.randn(2, 50, 1, 2, 2, dtype=torch.float64)
    h = 1e-5
    slope = (path.add_noise(x0, eps, TIMES + h) - path.add_noise(x0, eps, TIMES - h)) / (2 * h)
    same(path.velocity(x0, eps, TIMES), slope, 1e-5)


def test_inverse_log_snr(path):
    same(path.inverse_log_snr(path.log_snr(TIMES)), TIMES, 1e-10)
    same(path.log_snr(TIMES), (path.alpha(TIMES) / path.sigma(TIMES)).square().log(), 1e-10)


def test_noise_level_is_a_share(path):
    level = path.noise_level(torch.linspace(0, 1, 1001))
    assert level[0] == 0
    assert 0.99 < level[-1] <= 1
    assert (level.diff() > 0).all()


def test_noise_level_depends_on_the_signal_to_noise_ratio_alone(path):
    log_snr = torch.linspace(-9, 12, 30, dtype=torch.float64)
    t = path.inverse_log_snr(log_snr)
    # on the cosine path the level is the time itself
    same(path.noise_level(t), Cosine().inverse_log_snr(log_snr), 1e-10)


def test_transition_carries_one_marginal_to_the_next(path):
    scale, variance = path.transition(S, T)
    assert (variance > 0).all()
    same(scale * path.alpha(S), path.alpha(T))
    same(scale**2 * path.sigma(S) ** 2 + variance, path.sigma(T) ** 2)


def test_posterior_is_bayes_of_the_transition(path):
    weight_x0, weight_xt, variance = path.posterior(S, T)
    scale, _ = path.transition(S, T)
    # averaged over x_t it gives q(x_s | x0) back, and x_s and x_t covary as in the transition
    same(weight_x0 + weight_xt * path.alpha(T), path.alpha(S))
    same(variance + weight_xt**2 * path.sigma(T) ** 2, path.sigma(S) ** 2)
    same(weight_xt * path.sigma(T) ** 2, scale * path.sigma(S) ** 2)


@pytest.mark.parametrize("steps", [4, 1000])
def test_posterior_variance_survives_single_precision(path, steps):
    times = torch.linspace(1, 0, steps + 1)
    variance = path.posterior(times[1:], times[:-1])[2]
    exact = path.posterior(times[1:].double(), times[:-1].double())[2]
    torch.testing.assert_close(variance, exact.float(), rtol=0.02, atol=1e-9)


def test_step_lands_on_the_line(path):
    x0, eps = torch.randn(2, len(S), 1, 2, 2, dtype=torch.float64)
    same(path.step(x0, path.add_noise(x0, eps, T), S, T), path.add_noise(x0, eps, S))


class Truncated(VP):
    """The chain of denoising diffusion GANs: VP from t = 0.001 on, scaled to begin at alpha 1."""

    def alpha(self, t):
        return super().alpha(0.001 + 0.999 * t) / super().alpha(torch.full_like(t, 0.001))

    def sigma(self, t):
        return (1 - self.alpha(t) ** 2).sqrt()


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_posterior_of_the_authors_of_denoising_gans(steps):
    """Their index k is our pair s = k / T, t = (k + 1) / T; float64 numbers of their formulas."""
    path: Path = Truncated()
    times = torch.arange(steps + 1, dtype=torch.float64) / steps
    ours = path.posterior(times[:-1], times[1:])
    for name, value in zip(("coef1", "coef2", "var"), ours, strict=True):
        same(value, torch.from_numpy(DDGAN[f"T{steps}_{name}"]), 1e-10)


@pytest.mark.parametrize("betas", [(0.0, 1.0), (2.0, 1.0)])
def test_vp_refuses_impossible_rates(betas):
    with pytest.raises(ValueError, match="beta_min"):
        VP(*betas)

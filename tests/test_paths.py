"""Paths: closed forms, derivatives, and the identities of Gaussian conditioning."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gendiff.paths import EDM, VE, VP, Cosine, DiscreteLinear, DiscreteVP, Linear, Trig

# shares of a path's range
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
        (Trig(0.5), lambda t: np.cos(t), lambda t: 0.5 * np.sin(t)),
        (VE(), lambda t: t**0, lambda t: t),
        (EDM(), lambda t: t**0, lambda t: t),
    ],
)
def test_scales_in_closed_form(path, alpha, sigma):
    t = TIMES * path.t_max
    same(path.alpha(t), alpha(t))
    same(path.sigma(t), sigma(t))


def test_ends_are_data_and_noise(path):
    ends = torch.tensor([0.0, path.t_max])
    assert path.alpha(ends)[0] == 1
    assert path.sigma(ends)[0] == 0
    assert (path.alpha(ends) / path.sigma(ends))[1] < 0.021  # VE's 1 / 50


def test_little_noise_survives_single_precision(path):
    t = path.t_max * torch.logspace(-7, -3, 9, dtype=torch.float64)
    torch.testing.assert_close(path.sigma(t.float()).double(), path.sigma(t), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["alpha", "sigma"])
def test_rates_are_derivatives(path, name):
    t = (TIMES * path.t_max).requires_grad_()
    value = getattr(path, name)(t).sum() + 0 * t.sum()  # VE's alpha does not depend on t at all
    (slope,) = torch.autograd.grad(value, t)
    same(getattr(path, f"d_{name}")(t.detach()), slope, 1e-10)


def test_velocity_is_the_slope_of_the_line(path):
    x0, eps = torch.randn(2, 50, 1, 2, 2, dtype=torch.float64)
    t, h = TIMES * path.t_max, 1e-5
    slope = (path.add_noise(x0, eps, t + h) - path.add_noise(x0, eps, t - h)) / (2 * h)
    same(path.velocity(x0, eps, t), slope, 1e-5)


def test_inverse_log_snr(path):
    t = TIMES * path.t_max
    same(path.inverse_log_snr(path.log_snr(t)), t, 1e-10)
    same(path.log_snr(t), (path.alpha(t) / path.sigma(t)).square().log(), 1e-10)


def test_noise_level_is_a_share(path):
    level = path.noise_level(torch.linspace(0, path.t_max, 1001))
    assert level[0] == 0
    assert 0.98 < level[-1] <= 1
    assert (level.diff() > 0).all()


def test_noise_level_depends_on_the_signal_to_noise_ratio_alone(path):
    log_snr = torch.linspace(-7, 12, 30, dtype=torch.float64)
    t = path.inverse_log_snr(log_snr)
    # on the cosine path the level is the time itself
    same(path.noise_level(t), Cosine().inverse_log_snr(log_snr), 1e-10)


def test_transition_carries_one_marginal_to_the_next(path):
    s, t = S * path.t_max, T * path.t_max
    scale, variance = path.transition(s, t)
    assert (variance > 0).all()
    same(scale * path.alpha(s), path.alpha(t))
    same(scale**2 * path.sigma(s) ** 2 + variance, path.sigma(t) ** 2)


def test_posterior_is_bayes_of_the_transition(path):
    s, t = S * path.t_max, T * path.t_max
    weight_x0, weight_xt, variance = path.posterior(s, t)
    scale, _ = path.transition(s, t)
    # averaged over x_t it gives q(x_s | x0) back, and x_s and x_t covary as in the transition
    same(weight_x0 + weight_xt * path.alpha(t), path.alpha(s))
    same(variance + weight_xt**2 * path.sigma(t) ** 2, path.sigma(s) ** 2)
    same(weight_xt * path.sigma(t) ** 2, scale * path.sigma(s) ** 2)


@pytest.mark.parametrize("steps", [4, 1000])
def test_posterior_variance_survives_single_precision(path, steps):
    times = torch.linspace(path.t_max, 0, steps + 1)
    variance = path.posterior(times[1:], times[:-1])[2]
    exact = path.posterior(times[1:].double(), times[:-1].double())[2]
    torch.testing.assert_close(variance, exact.float(), rtol=0.03, atol=1e-9)


def test_step_lands_on_the_line(path):
    s, t = S * path.t_max, T * path.t_max
    x0, eps = torch.randn(2, len(s), 1, 2, 2, dtype=torch.float64)
    same(path.step(x0, path.add_noise(x0, eps, t), s, t), path.add_noise(x0, eps, s))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VP(0.0, 1.0), "beta_min"),
        (lambda: VP(2.0, 1.0), "beta_min"),
        (lambda: VE(0.0, 1.0), "sigma_min"),
        (lambda: EDM(2.0, 1.0), "sigma_min"),
        (lambda: Trig(0.0), "sigma_data"),
        (lambda: DiscreteVP([]), "betas"),
        (lambda: DiscreteVP([0.5, 1.0]), "betas"),
        (lambda: DiscreteLinear(20), "steps"),
    ],
)
def test_impossible_paths_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("same_as", [VP(), DiscreteLinear(100), Trig(0.5)])
def test_paths_are_equal_by_value(same_as):
    others = [VP(), VP(0.2), DiscreteLinear(100), DiscreteLinear(99), Trig(0.5), Trig(0.6)]
    assert sum(same_as == other for other in others) == 1

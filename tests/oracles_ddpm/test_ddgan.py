"""Denoising diffusion GANs against NVlabs/denoising-diffusion-gan.

Theirs: T + 1 noise levels at t = 0.001 to 1 of VP, where the first counts as clean, and index k is
the pair (x_k, x_{k+1}). Ours: the path `Truncated`, k is s = k / T and t = (k + 1) / T; or the
chain of their betas, k is s = k and t = k + 1. Their dummy first beta, 1e-8, is our exact 0.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gendiff.methods.denoising_gan import DenoisingGAN, DenoisingGANConfig
from gendiff.paths import VP, DiscreteVP
from gendiff.predictions import Prediction
from gendiff.samplers import posterior, time_grid

SHAPE = (3, 4, 4)
STEPS = pytest.mark.parametrize("steps", [1, 2, 4, 8])


class Truncated(VP):
    """VP from t = 0.001 on, scaled to begin at alpha 1."""

    def alpha(self, t):
        return super().alpha(0.001 + 0.999 * t) / super().alpha(torch.full_like(t, 0.001))

    def sigma(self, t):
        return (1 - self.alpha(t) ** 2).sqrt()


def upwards(path, steps):
    """Times 0 to t_max."""
    return time_grid(path, steps, "uniform").flip(0)


@STEPS
def test_levels_are_those_of_vp(theirs, agree, steps):
    times = 0.001 + 0.999 * upwards(Truncated(), steps)
    agree(times, theirs[f"T{steps}_time"])
    agree(VP().alpha(theirs[f"T{steps}_time"]) ** 2, theirs[f"T{steps}_f64_alpha_bar_vp"])


@STEPS
@pytest.mark.parametrize("kind", ["truncated", "chain"])
def test_coefficients(theirs, agree, steps, kind):
    betas = theirs[f"T{steps}_f64_betas"]
    path = Truncated() if kind == "truncated" else DiscreteVP(betas)
    times = upwards(path, steps)
    s, t = times[:-1], times[1:]
    scale, variance = path.transition(s, t)
    on_x0, on_xt, left = path.posterior(s, t)
    means = {"post_coef1": on_x0, "post_coef2": on_xt, "post_var": left}
    plain = {"betas": variance, "alphas_cumprod": path.alpha(t) ** 2}
    for name, value in {**means, **plain}.items():
        agree(value, theirs[f"T{steps}_f64_{name}"])
    for name, value in {**means, "post_logvar_clipped": left.clamp(min=1e-20).log()}.items():
        agree(value, theirs[f"T{steps}_{name}"], "S32")
    for name, value in plain.items():
        agree(value, theirs[f"T{steps}_post_{name}"], "S32")
    for name, value in {"betas": variance, "sigmas": variance.sqrt(), "a_s": scale}.items():
        agree(value, theirs[f"T{steps}_{name}"][1:], "S32")
    for name, value in {"a_s_cum": path.alpha(times), "sigmas_cum": path.sigma(times)}.items():
        agree(value, theirs[f"T{steps}_{name}"], "S32")


def test_sampling(theirs, agree):
    """Their draw j is our step j, on the pair of index 3 - j; the latent is drawn first."""

    class Imagined:
        path, latent, direct = Truncated(), 5, False

        def __call__(self, x, t, cond):
            index = 4 * t - 1
            x0 = torch.tanh(0.5 * x + 0.1 * index + cond["z"].mean(1)[:, None, None, None])
            return Prediction(x0, "x0", x, t, self.path)

    def noise(step, *shape):
        return theirs["loop_z" if shape else "loop_noise"][step]

    generator = Imagined()
    x = posterior(generator, theirs["loop_x_init"], time_grid(generator.path, 4), None, noise)
    agree(x, theirs["loop_out"], "S32")


# ---- training ------------------------------------------------------------------------------------


class Critic(nn.Module):
    """Says what it is told to, and remembers the pairs that it saw; or a given function of them."""

    def __init__(self, *says):
        super().__init__()
        self.says, self.seen = iter(says), []

    def forward(self, pair, level, cond):
        self.seen.append(pair)
        logits = next(self.says)
        return (logits(pair) if callable(logits) else logits)[:, None]


def method(critic, normal=(), k=None, **settings):
    """Training with a scripted critic; x0 is imagined as given in ``cond``, or else as x_t."""

    def generator(x, level, cond):
        return cond.get("x0", x)

    config = DenoisingGANConfig(latent=5, **settings)
    made = DenoisingGAN(config, {"critic": critic}, Truncated(), shape=SHAPE)
    made.generator = DenoisingGAN.wrap("generator", generator, made.path, config)
    given = iter(normal)
    made.draw = SimpleNamespace(
        integers=lambda low, high: k,
        normal=lambda *shape: next(given, torch.zeros(())) if shape == SHAPE else torch.zeros(1, 5),
    )
    return made


def test_training_pairs(theirs, agree):
    """The noise of x_s is drawn before that of the step from there to x_t."""
    critic = Critic(torch.zeros(4), torch.zeros(4))
    training = method(critic, (theirs["noise2"], theirs["noise1"]), theirs["t"] + 1, r1_gamma=0.0)
    training.batches_done = 1  # no penalty
    training.loss({"x0": theirs["x0"]}, "critic")
    xs, xt = critic.seen[0].chunk(2, 1)
    agree(xs, theirs["q_pairs_xt"], "S32")
    agree(xt, theirs["q_pairs_xtp1"], "S32")


def test_imagined_x_s(theirs, agree):
    training, t = method(Critic(), (theirs["noise1"],)), theirs["t"]
    xs = training.imagine(theirs["xt"], t / 4, (t + 1) / 4, {"x0": theirs["x0"]})
    agree(xs, theirs["sample_posterior"], "S32")


def test_critic_loss_and_its_gradients(theirs, agree):
    real, fake = (theirs[f"logits_{name}"].clone().requires_grad_() for name in ("real", "fake"))
    training = method(Critic(real, fake), k=torch.ones(16, dtype=torch.long))
    training.batches_done = 1  # no penalty
    losses = training.loss({"x0": torch.zeros(16, *SHAPE)}, "critic")
    losses["loss"].backward()
    agree(losses["real"], theirs["errD_real"])
    agree(losses["fake"], theirs["errD_fake"])
    agree(real.grad, theirs["dD_dreal"])
    agree(fake.grad, theirs["dD_dfake"])


def test_generator_loss_and_its_gradient(theirs, agree):
    fake = theirs["logits_fake"].clone().requires_grad_()
    training = method(Critic(fake), k=torch.ones(16, dtype=torch.long))
    loss = training.loss({"x0": torch.zeros(16, *SHAPE)}, "generator")["loss"]
    loss.backward()
    agree(loss, theirs["errG"])
    agree(fake.grad, theirs["dG_dfake"])


@pytest.mark.parametrize(("gamma", "name"), [(0.05, "gamma0p05"), (2.0, "gamma2")])
def test_r1_penalty(theirs, agree, gamma, name):
    """Of a quadratic critic, at s = 0 where x_s is the data."""

    def quadratic(pair):
        xs = pair[:, :3]
        return (theirs["r1_a"] * xs + theirs["r1_b"] * xs**2 / 2).flatten(1).sum(1)

    critic = Critic(quadratic, torch.zeros(6, dtype=torch.float64))
    training = method(critic, k=torch.ones(6, dtype=torch.long), steps=1, r1_gamma=gamma)
    losses = training.loss({"x0": theirs["r1_x"]}, "critic")
    agree(losses["loss"] - losses["real"] - losses["fake"], theirs[f"r1_penalty_{name}"])
    agree(losses["real"], nn.functional.softplus(-theirs["r1_D"]).mean())

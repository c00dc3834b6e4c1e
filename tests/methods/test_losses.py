"""The identities that the losses of diffusion, reflow and the denoising GAN rest on."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small import make
from torch import nn

from gendiff.methods.denoising_gan import DenoisingGAN, DenoisingGANConfig
from gendiff.methods.diffusion import Diffusion, DiffusionConfig
from gendiff.methods.reflow import Reflow, ReflowConfig
from gendiff.networks.mlp import MLP, MLPConfig
from gendiff.paths import Cosine, Linear
from gendiff.seeding import Draws


def mlp(channels=(2, 2), **conditions):
    return MLP(MLPConfig(width=16, depth=1, conditions=conditions), (channels[0],), channels[1])


def batch_of(n):
    x0, eps = torch.randn(2, n, 2)
    return {"x0": x0, "eps": eps, "label": torch.arange(n) % 3}


def draws(method, n, dtype=torch.float32):
    """Give a method random numbers outside training; double precision where asked for."""
    method.draw = Draws((0, "test"), 0, n, n)
    if dtype is torch.float64:
        plain = method.draw
        method.draw = SimpleNamespace(normal=lambda *shape: plain.normal(*shape, dtype=dtype))


# ---- diffusion and reflow ------------------------------------------------------------------------


@pytest.mark.parametrize(("dropout", "share"), [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0)])
def test_labels_are_hidden_behind_the_null_label(dropout, share):
    method = make(Diffusion, config=DiffusionConfig(label_dropout=dropout), classes=3)
    draws(method, 5000)
    label = torch.arange(5000) % 3
    shown = method.condition({"label": label})["label"]
    hidden = shown == 3
    assert hidden.float().mean().item() == pytest.approx(share, abs=0.02)
    assert shown[~hidden].equal(label[~hidden])
    assert make(Diffusion).condition({"label": label}) == {}


def test_reflow_keeps_the_pairs():
    """A network that knows where each pair's line leads has no loss left."""
    batch = batch_of(40)

    class Slope(nn.Module):
        def forward(self, x, level, cond):
            return batch["eps"] - batch["x0"]

    for cls, exact in ((Reflow, True), (Diffusion, False)):
        method = make(cls, config=ReflowConfig(), networks={"student": Slope()}, path=Linear())
        draws(method, 40)
        loss = method.loss(batch, "student")["loss"]
        assert (loss < 1e-12) == exact


# ---- denoising GAN -------------------------------------------------------------------------------


class Flat(nn.Module):
    """The same output everywhere."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=torch.float64))

    def forward(self, x, level, cond):
        return self.value.expand(len(x), -1)


class Plane(nn.Module):
    """A critic that is linear in (x_s, x_t)."""

    def __init__(self, *slopes):
        super().__init__()
        self.slopes = nn.Parameter(torch.tensor(slopes))

    def forward(self, x, level, cond):
        return (x @ self.slopes)[:, None]


def test_imagined_samples_have_the_posteriors_moments(path):
    n = 40_000
    networks = {"critic": mlp((4, 1)), "generator": Flat([0.5, -1.0])}
    method = make(DenoisingGAN, networks=networks, path=path)
    draws(method, n, torch.float64)
    xt = torch.tensor([[1.5, 0.2]], dtype=torch.float64).expand(n, 2)
    s, t = (torch.full((n,), time, dtype=torch.float64) for time in (0.4, 0.7))
    xs = method.imagine(xt, s, t, {}).detach()
    weight_x0, weight_xt, variance = path.posterior(s[:1], t[:1])
    mean = weight_x0 * torch.tensor([0.5, -1.0], dtype=torch.float64) + weight_xt * xt[0]
    deviation = variance.sqrt().item()
    torch.testing.assert_close(xs.mean(0), mean, rtol=0, atol=4 * deviation / n**0.5)
    torch.testing.assert_close(xs.var(0), variance.expand(2), rtol=0.03, atol=0)
    assert xs.T.cov()[0, 1].abs() < 4 * variance.item() / n**0.5


@pytest.mark.parametrize(("batches_done", "penalised"), [(0, True), (3, False), (10, True)])
def test_r1_acts_on_the_cleaner_sample_alone(batches_done, penalised):
    """|dD / dx_s|^2 is 3^2 + 4^2, though x_t depends on x_s, too."""
    networks = {"critic": Plane(3.0, 4.0, 7.0, -2.0), "generator": mlp(label=3, z=4)}
    config = DenoisingGANConfig(latent=4, r1_gamma=0.2, penalty_every=10)
    method = make(DenoisingGAN, config=config, networks=networks, classes=3)
    method.batches_done = batches_done
    draws(method, 16)
    losses = method.loss(batch_of(16), "critic")
    penalty = losses["loss"] - losses["real"] - losses["fake"]
    assert penalty.item() == pytest.approx(0.1 * 25 * penalised, abs=1e-4)


def test_gan_losses_pull_in_opposite_ways():
    """With a critic that says 0 every loss is log 2, and each role is pushed its own way."""
    networks = {"critic": Plane(0.0, 0.0, 0.0, 0.0), "generator": mlp(label=3, z=4)}
    config = DenoisingGANConfig(latent=4, r1_gamma=0.0)
    method = make(DenoisingGAN, config=config, networks=networks, classes=3)
    batch = batch_of(16)
    draws(method, 16)
    critic = method.loss(batch, "critic")
    for name in ("real", "fake"):
        assert critic[name].item() == pytest.approx(np.log(2))
    draws(method, 16)
    assert method.loss(batch, "generator")["loss"].item() == pytest.approx(np.log(2))


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "change", "message"),
    [
        (Diffusion, {"label_dropout": 1.5}, "^label_dropout: 1.5"),
        (Diffusion, {"prediction": "eps"}, "^prediction: eps does not fit Cosine"),
        (DenoisingGAN, {"penalty_every": 0}, "^penalty_every: 0"),
    ],
)
def test_check_names_the_key(cls, change, message):
    path = Cosine()
    cls.check(cls.Config(), path)
    with pytest.raises(ValueError, match=message):
        cls.check(replace(cls.Config(), **change), path)

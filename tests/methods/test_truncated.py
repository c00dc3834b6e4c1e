"""Truncated diffusion: its two ends, where its samples enter, and what a call costs."""

from __future__ import annotations

import pytest
import torch

from gendiff.data.base import Rows
from gendiff.data.toy import GaussianMixture
from gendiff.denoiser import Denoiser
from gendiff.errors import UserError
from gendiff.gaussianity import look_along, non_gaussianity
from gendiff.methods.diffusion import Diffusion, DiffusionConfig
from gendiff.methods.truncated import (
    Truncated,
    TruncatedConfig,
    TruncatedPlus,
    TruncatedPlusConfig,
)
from gendiff.networks.mlp import MLP, MLPConfig
from gendiff.paths import VP, Cosine, DiscreteLinear
from gendiff.seeding import Draws

PATHS = [VP(), DiscreteLinear(30)]


def make(cls, config, path=PATHS[0]):
    torch.manual_seed(0)
    outputs = {"student": 2, "generator": 2, "critic": 1}
    networks = {r: MLP(MLPConfig(width=16, depth=1), (2,), outputs[r]) for r in cls.roles}
    made = cls(config, networks, path, shape=(2,))
    made.draw = Draws(["test"], 0, 8, 2)
    return made


def batch():
    generator = torch.Generator().manual_seed(1)
    return {"x0": torch.randn(8, 2, generator=generator)}


@pytest.mark.parametrize("path", PATHS, ids=["continuous", "chain"])
@pytest.mark.parametrize("cls", [Truncated, TruncatedPlus])
def test_truncated_at_the_end_it_is_diffusion(path, cls):
    whole = make(cls, cls.Config(truncation=path.t_max, prediction="eps"), path)
    diffusion = make(Diffusion, DiffusionConfig(prediction="eps", times="uniform"), path)
    assert whole.turns(0) == ("student",)
    ours, theirs = whole.loss(batch(), "student"), diffusion.loss(batch(), "student")
    torch.testing.assert_close(ours["loss"], theirs["loss"])
    torch.testing.assert_close(whole.sample(5, 4), diffusion.sample(5, 4))


@pytest.mark.parametrize("cls", [Truncated, TruncatedPlus])
def test_truncated_at_the_data_it_is_a_plain_gan(cls):
    gan = make(cls, cls.Config(truncation=0.0, r1_gamma=0.0))
    generator = "student" if cls is Truncated else "generator"
    assert gan.turns(0) == (generator, "critic")
    assert set(gan.loss(batch(), generator)) == {"loss", "gan"}
    real = []
    gan.networks["critic"].register_forward_hook(lambda module, args, out: real.append(args[0]))
    gan.loss(batch(), "critic")
    torch.testing.assert_close(real[0], batch()["x0"])  # data as they are
    assert gan.sample(6, 1).shape == (6, 2)
    assert gan.ema.nfe == 1  # one call, and nothing to denoise


@pytest.mark.parametrize("cls", [Truncated, TruncatedPlus])
def test_samples_enter_where_the_denoiser_was_trained(cls):
    """On the chain both the critic's data and the noisiest denoising are at t_K itself."""
    path, asked = DiscreteLinear(30), []
    made = make(cls, cls.Config(truncation=7, prediction="eps"), path)
    for _ in range(40):
        made.draw = Draws(["test", len(asked)], 0, 8, 2)
        hook = made.networks["student"].register_forward_hook(
            lambda module, args, out: asked.append(args[1])
        )
        made.denoising_loss(batch()["x0"], {})
        hook.remove()
    levels = torch.cat(asked)
    assert levels.max() == path.noise_level(torch.tensor(7.0))
    assert levels.min() == path.noise_level(torch.tensor(1.0))
    _, start = made.start(3, {}, lambda step: torch.randn(3, 2), "ema")
    assert start == 7


@pytest.mark.parametrize("cls", [Truncated, TruncatedPlus])
def test_the_generators_call_is_counted(cls):
    made = make(cls, cls.Config(truncation=0.3))
    made.sample(4, 5)
    assert made.ema.nfe == 6
    assert made.student.nfe == 0


@pytest.mark.parametrize("path", PATHS, ids=["continuous", "chain"])
def test_an_open_truncation_is_asked_of_the_data(path):
    x0 = GaussianMixture([0.5, 0.5], [[1.0, 0.0], [-1.0, 0.0]], [0.1, 0.1]).sample(300)[0]
    rows, config = Rows(x0=x0, label=torch.zeros(300)), TruncatedConfig(gaussian_within=0.1)
    with pytest.raises(UserError, match="truncation: still open"):
        make(Truncated, config, path)
    found = Truncated.settle(config, path, lambda: rows).truncation
    lines, sooner = look_along(x0), found - 1 if path.steps else 0.99 * found
    assert non_gaussianity(lines, path, found) <= 0.1 < non_gaussianity(lines, path, sooner)
    given = TruncatedConfig(truncation=5.0)
    assert Truncated.settle(given, path, None) is given  # the data are not even opened


def test_a_trained_denoiser_begins_as_a_ddim_step():
    mixture, path = GaussianMixture([1.0], [[0.5, -0.2]], [0.4]), VP()
    made = make(Truncated, TruncatedConfig(truncation=0.3, prediction="x0"), path)
    made.student = mixture.denoiser(path)
    x = made.propose(torch.randn(20000, 2).double(), {})
    a, s = (float(f(torch.tensor(0.3))) for f in (path.alpha, path.sigma))
    # a single Gaussian at t_max is known to lie at its mean: x0 is the mean, and the noise is kept
    torch.testing.assert_close(x.mean(0), a * mixture.means[0], rtol=0, atol=0.03)
    torch.testing.assert_close(x.std(0), torch.full((2,), s).double(), rtol=0.02, atol=0)


@pytest.mark.parametrize("cut", [100, 50, 5])
def test_a_teacher_of_the_cosine_path_is_a_denoiser_of_the_chain(cut):
    """At equal signal-to-noise ratio: v and the noise level know nothing of the path's clock."""
    chain, cosine = DiscreteLinear(1000), Cosine()
    network = MLP(MLPConfig(width=16, depth=1), (2,), 2)
    t = torch.tensor(float(cut))
    there = cosine.inverse_log_snr(chain.log_snr(t.double())).float()
    x = torch.randn(8, 2)
    ours, teachers = (Denoiser(network, p, "v")(x, at) for p, at in ((chain, t), (cosine, there)))
    torch.testing.assert_close(ours.x0, teachers.x0, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.eps, teachers.eps, rtol=1e-4, atol=1e-4)


def test_reconstruction_is_exact_where_the_denoiser_is_and_nothing_was_lost():
    mixture, path = GaussianMixture([1.0], [[0.5, -0.2]], [0.4]), VP()
    x0 = mixture.sample(2000)[0].double()
    errors = {}
    for cut in (0.02, 0.2, 0.6):
        made = make(Truncated, TruncatedConfig(truncation=cut, prediction="x0"), path)
        made.ema = mixture.denoiser(path)
        errors[cut] = (made.reconstruct(x0, 50) - x0).square().mean()
    assert errors[0.02] < errors[0.2] < errors[0.6]
    # the flow keeps a Gaussian's standardised value: x0 = mu + std (x_t - a mu) / spread
    a, s = (f(torch.tensor(0.2).double()) for f in (path.alpha, path.sigma))
    spread = ((a * 0.4) ** 2 + s**2).sqrt()
    expected = 0.4**2 * ((a * 0.4 / spread - 1) ** 2 + (s / spread) ** 2)
    torch.testing.assert_close(errors[0.2], expected, rtol=0.06, atol=0)


@pytest.mark.parametrize(
    ("config", "path", "message"),
    [
        ({"truncation": 1.5}, PATHS[0], "truncation: 1.5 must be a number from 0 to 1"),
        ({"truncation": 3.5}, PATHS[1], "truncation: 3.5 must be an integer from 0 to 30"),
        *(
            ({"gaussian_within": bad}, PATHS[1], f"gaussian_within: {bad:g} must be between 0")
            for bad in (0.0, 1.0, float("nan"))
        ),
        ({"gan_weight": 0.0}, PATHS[0], "gan_weight: 0.0 must be positive"),
        ({"r1_gamma": -1.0}, PATHS[0], "r1_gamma: -1.0 must be at least 0"),
        ({"penalty_every": 0}, PATHS[0], "penalty_every: 0 must be at least 1"),
    ],
)
def test_refusals(config, path, message):
    with pytest.raises(ValueError, match=message):
        TruncatedPlus.check(TruncatedPlusConfig(**config), path)

"""The ablations of denoising GANs: what both networks are given, and how they are sampled."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gendiff.errors import UserError
from gendiff.methods.denoising_gan import DenoisingGAN, DenoisingGANConfig
from gendiff.paths import VP, expand
from gendiff.seeding import Draws

N = 64


class Told(nn.Module):
    """A network that puts out a function of its input, and remembers what it was given."""

    def __init__(self, says):
        super().__init__()
        self.says, self.given = says, []
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x, level, cond):
        self.given.append((x, level, dict(cond)))
        return self.says(x)


def make(generator, **settings):
    config = DenoisingGANConfig(**{"latent": 3, "r1_gamma": 0.0, **settings})
    networks = {"generator": Told(generator), "critic": Told(lambda x: 0 * x[:, :1])}
    made = DenoisingGAN(config, networks, VP(), shape=(2,))
    made.draw = Draws(["test"], 0, N, 2)
    return made, networks


def batch():
    return {"x0": torch.randn(N, 2, generator=torch.Generator().manual_seed(1))}


def test_a_direct_generator_puts_out_the_next_sample():
    made, networks = make(lambda x: 0.5 * x + 1, direct=True, steps=3)
    xt, s, t = torch.ones(N, 2), torch.full((N,), 0.2), torch.full((N,), 0.6)
    torch.testing.assert_close(made.imagine(xt, s, t, {}), torch.full((N, 2), 1.5))
    # x -> x / 2 + 1 three times from x_T
    x_T, _ = made.start(4, {}, lambda step, *shape: torch.ones(4, *(shape or (2,))), "generator")
    once = made.sample(4, 3, role="generator", seed=3)
    start = (once - 1.75) * 8
    assert networks["generator"].given[-1][0].shape == x_T.shape
    torch.testing.assert_close(networks["generator"].given[-3][0], start, rtol=1e-4, atol=1e-5)
    latents = [cond["z"] for _, _, cond in networks["generator"].given[-3:]]
    assert not torch.equal(latents[0], latents[1])


@pytest.mark.parametrize("direct", [False, True])
def test_a_generator_without_latent_is_given_none(direct):
    made, networks = make(lambda x: x, latent=0, direct=direct)
    made.loss(batch(), "generator")
    made.sample(2, 4, role="generator")
    assert [cond for _, _, cond in networks["generator"].given] == [{}] * 5


def test_an_eps_generator_knows_x0():
    """Of one point all noise is known: every sample is that point."""
    point, path = torch.tensor([0.3, -0.7]), VP()
    made, networks = make(None, prediction="eps")
    t = {float(path.noise_level(torch.tensor(k / 4))): torch.tensor(k / 4) for k in range(1, 5)}

    def noise_of(x, level, cond):
        time = min(t.items(), key=lambda pair: abs(pair[0] - float(level[0])))[1]
        return (x - path.alpha(time) * point) / path.sigma(time)

    networks["generator"].forward = noise_of
    drawn = made.sample(8, 4, role="generator")
    torch.testing.assert_close(drawn, point.expand(8, 2), rtol=0, atol=1e-5)


def test_a_one_shot_generator_is_judged_at_the_times_of_the_steps():
    """It makes x0 of pure noise; its critic sees one diffused sample and how noisy that is."""
    made, networks = make(lambda x: 0 * x + 2, one_shot=True, steps=4)
    assert DenoisingGAN.channels("critic", (2,), made.config) == (2, 1)
    made.loss(batch(), "generator")
    noise, level, cond = networks["generator"].given[0]
    assert cond["z"].shape == (N, 3)
    torch.testing.assert_close(level, torch.full((N,), made.path.noise_level(torch.tensor(1.0))))
    assert abs(noise.std() - 1) < 0.2
    judged, levels, _ = networks["critic"].given[0]
    s = torch.tensor([0.0, 0.25, 0.5, 0.75])
    assert set(levels.tolist()) == set(made.path.noise_level(s).tolist())
    clean = levels == 0
    torch.testing.assert_close(judged[clean], torch.full((int(clean.sum()), 2), 2.0))
    for time in s[1:]:
        here = judged[levels == made.path.noise_level(time)]
        left = (here - 2 * made.path.alpha(time)) / made.path.sigma(time)
        assert abs(left.mean()) < 0.7
        assert 0.5 < left.std() < 1.5
    torch.testing.assert_close(made.sample(5, 1, role="generator"), torch.full((5, 2), 2.0))
    with pytest.raises(UserError, match="this denoising_gan model takes 1 to 1"):
        made.sample(5, 4)


def test_real_samples_of_the_critic_are_the_datas():
    made, networks = make(lambda x: x, one_shot=True, steps=2)
    made.loss(batch(), "critic")
    real, levels, _ = networks["critic"].given[0]
    clean = levels == 0
    assert 0 < clean.sum() < N
    torch.testing.assert_close(real[clean], batch()["x0"][clean])
    noisy = expand(made.path.alpha(torch.tensor(0.5)), real) * batch()["x0"][~clean]
    assert abs((real[~clean] - noisy).std() / made.path.sigma(torch.tensor(0.5)) - 1) < 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent": -1}, "^latent: -1 must be at least 0"),
        ({"steps": 0}, "^steps: 0 must be at least 1"),
        ({"prediction": "eps", "direct": True}, "^prediction: eps; such a generator"),
        ({"prediction": "eps", "one_shot": True}, "^prediction: eps"),
        ({"direct": True, "one_shot": True}, "^direct: one_shot has no x_s"),
    ],
)
def test_ablations_that_contradict_each_other_are_refused(settings, message):
    DenoisingGAN.check(DenoisingGANConfig(), VP())
    with pytest.raises(ValueError, match=message):
        DenoisingGAN.check(DenoisingGANConfig(**settings), VP())

"""Games and penalties of critics: what their optima are, and closed forms."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from gendiff.adversarial import GAMES, control, gradient_penalty, slopes
from gendiff.methods.denoising_gan import DenoisingGAN, DenoisingGANConfig
from gendiff.seeding import Draws

SHAPE = (3,)


@pytest.mark.parametrize(
    ("name", "best"),
    [
        ("non_saturating", lambda p: (p / (1 - p)).log()),  # the log of the densities' ratio
        ("least_squares", lambda p: p),
        ("hinge", lambda p: (p > 0.5).double() * 2 - 1),
    ],
)
def test_the_best_critic(name, best):
    """Where a share p of what the critic sees at a point is real."""
    share = torch.tensor([0.1, 0.4, 0.7], dtype=torch.float64)
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=0.05)
    for _ in range(4000):
        loss = share * GAMES[name].real(logits) + (1 - share) * GAMES[name].fake(logits)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    torch.testing.assert_close(logits.detach(), best(share), rtol=0, atol=0.06)


@pytest.mark.parametrize("name", GAMES)
def test_generators_want_what_critics_call_real(name):
    logits = torch.linspace(-3, 0.9, 9, requires_grad=True)
    (slope,) = torch.autograd.grad(GAMES[name].generator(logits).sum(), logits)
    assert (slope < 0).all()


def quadratic(x):
    return (torch.arange(1.0, 4) * x**2 / 2 + x).sum(1)


def test_slopes_and_penalties_in_closed_form():
    x = torch.randn(5, 3, requires_grad=True)
    grad = torch.arange(1.0, 4) * x + 1
    torch.testing.assert_close(slopes(quadratic(x), x), grad.square().sum(1))
    real, fake, share = torch.randn(5, 3), torch.randn(5, 3), torch.rand(5)
    between = share[:, None] * real + (1 - share[:, None]) * fake
    norm = (torch.arange(1.0, 4) * between + 1).norm(dim=1)
    expected = (norm - 1).square().mean()
    torch.testing.assert_close(gradient_penalty(quadratic, real, fake, share), expected)
    torch.testing.assert_close(
        control(real[:, 0], fake[:, 0]), torch.cat([real, fake])[:, 0].square().mean()
    )


class Counted(nn.Module):
    """A quadratic critic with one weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(3.0))

    def forward(self, x):
        return self.weight * quadratic(x)


def method(**config):
    settings = {"r1_gamma": 0.0, "penalty_every": 1, **config}
    made = DenoisingGAN(DenoisingGANConfig(**settings), {"critic": Counted()}, shape=SHAPE)
    made.draw = Draws(["test"], 0, 6, 2)
    return made


def extra(made, real, fake):
    """What the penalties add to the critic's loss."""
    losses = made.critic_loss(made.networks["critic"], real, fake)
    return losses["loss"] - losses["real"] - losses["fake"]


def test_penalties_have_their_weights_and_their_batches():
    real, fake = torch.randn(6, 3), torch.randn(6, 3)
    slope = {
        n: (3 * (torch.arange(1.0, 4) * x + 1)).square().sum(1).mean()
        for n, x in (("r1_gamma", real), ("r2_gamma", fake))
    }
    for name, value in slope.items():
        torch.testing.assert_close(extra(method(**{name: 0.2}), real, fake), 0.1 * value)
    lazy = method(r1_gamma=0.2, penalty_every=4)
    lazy.batches_done = 4
    torch.testing.assert_close(extra(lazy, real, fake), 0.1 * slope["r1_gamma"])
    lazy.config = replace(lazy.config, penalty_rescaled=True)
    torch.testing.assert_close(extra(lazy, real, fake), 0.4 * slope["r1_gamma"])
    lazy.batches_done = 5
    torch.testing.assert_close(extra(lazy, real, fake), torch.tensor(0.0))


def test_control_is_in_every_batch():
    made = method(control=2.0, penalty_every=7)
    made.batches_done = 3
    real, fake = torch.randn(6, 3), torch.randn(6, 3)
    both = torch.cat([made.networks["critic"](x) for x in (real, fake)])
    torch.testing.assert_close(extra(made, real, fake), 2 * both.square().mean())


def test_penalties_are_in_full_precision_under_autocast():
    made, real = method(r1_gamma=1.0), torch.randn(6, 3)
    layers = nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 1), nn.Flatten(0)
    made.networks["critic"] = nn.Sequential(*layers)
    exact = extra(made, real, real)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(extra(made, real, real), exact, rtol=0, atol=0)


def test_critics_weights_are_clipped_after_their_update_alone():
    made = method(objective="wasserstein", clip_critic=0.01)
    made.after_update("generator")
    assert made.networks["critic"].weight == 3
    made.after_update("critic")
    assert made.networks["critic"].weight.item() == pytest.approx(0.01)

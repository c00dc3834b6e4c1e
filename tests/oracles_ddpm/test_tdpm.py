"""Truncated diffusion against JegZheng/truncated-diffusion-probabilistic-models.

Their index k, from 0, is our t = k + 1; a chain cut at index K diffuses over our times 1 to K.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gendiff.loss_weights import mean_square
from gendiff.paths import DiscreteLinear
from gendiff.predictions import Reading
from gendiff.seeding import mirrored
from gendiff.training_times import at_share

TABLE = json.loads((Path(__file__).parents[1] / "oracles" / "tdpm.json").read_text())["rows"]
PATH = DiscreteLinear(1000)


def test_schedule(theirs, agree):
    t = torch.arange(1, 1001, dtype=torch.float64)
    agree(PATH.transition(t - 1, t)[1], theirs["betas_f64"])
    agree(PATH.alpha(t) ** 2, theirs["alphas_cumprod_f64"])
    agree(PATH.alpha(t.float()) ** 2, theirs["alphas_cumprod_f32"], "S32")


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"K{row['K']}")
def test_table_of_truncations(agree, row):
    """At index K, where the generator hands over, and at K - 1, where denoising begins."""
    t = torch.tensor([row["K"], row["K"] - 1]).double() + 1
    ours = {
        "abar": PATH.alpha(t) ** 2,
        "sqrt_abar": PATH.alpha(t),
        "sqrt_1m_abar": PATH.sigma(t),
        "snr": PATH.log_snr(t).exp(),
        "beta": PATH.transition(t - 1, t)[1],
    }
    for name, value in ours.items():
        expected = torch.tensor([row[f"{name}_K"], row[f"{name}_Km1"]], dtype=torch.float64)
        agree(value, expected)
    single = torch.tensor([row["sqrt_abar_K_f32_theirs"], row["sqrt_1m_abar_K_f32_theirs"]])
    agree(torch.stack([PATH.alpha(t[0]), PATH.sigma(t[0])]), single, "S32")


@pytest.mark.parametrize("k", [1, 4, 50, 100, 500])
def test_real_samples_of_the_critic(theirs, agree, k):
    xt = PATH.add_noise(theirs["x0"], theirs["eps"], torch.full((6,), k + 1.0))
    agree(xt, theirs[f"K{k}_q_sample_real"], "S32")


def test_antithetic_times(theirs, agree):
    """Their integers h are shares (h + 1/2) / K of a chain of K = 50 steps."""
    shares = (theirs["antithetic_half"] + 0.5) / 50
    t = at_share(DiscreteLinear(50), mirrored(shares, 6))
    assert (t - 1).tolist() == theirs["antithetic_t"].tolist()


def test_denoising_loss(theirs, agree):
    """They sum over a sample's numbers, we take the mean; the network is .5 x + .01 index."""
    x0, eps, index = theirs["x0"], theirs["eps"], theirs["antithetic_t"]
    t = index + 1.0
    output = 0.5 * PATH.add_noise(x0, eps, t) + 0.01 * index[:, None, None, None]
    losses = mean_square(output - Reading("eps").target(x0, eps, t, PATH)) * x0[0].numel()
    agree(losses, theirs["diff_loss_keepdim"], "S32")
    agree(losses.mean(), theirs["diff_loss"], "S32")


def test_alpha_bar_of_data_is_one(theirs, agree):
    """Their DDIM code reads index -1 as clean."""
    t = theirs["compute_alpha_in"] + 1
    assert PATH.alpha(t)[0] == 1
    agree(PATH.alpha(t) ** 2, theirs["compute_alpha"].flatten(), "S32")

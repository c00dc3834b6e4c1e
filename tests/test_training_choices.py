"""Training choices: how times are drawn, and what errors weigh."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from gendiff.loss_weights import Weight, output_weight, penalty, x0_weight
from gendiff.paths import EDM, VP, Cosine, DiscreteLinear
from gendiff.predictions import Kind, Reading
from gendiff.seeding import Draws
from gendiff.training_times import LossSecondMoment, TimesKind, draw_times

N = 4096


def draws(first=0, count=N, total=N):
    return Draws(("times",), first, count, 64, total=total)


@pytest.mark.parametrize("kind", [k for k in get_args(TimesKind) if k != "importance"])
def test_times_lie_in_the_range(path, kind):
    t = draw_times(kind, path, draws(), -1.2, 3.0)
    assert t.shape == (N,)
    assert 0 < t.min() < 0.05 * path.t_max
    assert 0.9 * path.t_max < t.max() <= path.t_max


CHAIN_TIMES = ["uniform", "antithetic", "log_snr", "log_normal", "logit_normal", "u_shaped"]


@pytest.mark.parametrize("kind", CHAIN_TIMES)
def test_a_chain_is_trained_at_its_steps(kind):
    t = draw_times(kind, DiscreteLinear(50), draws(), 0.0, 1.0)
    assert t.equal(t.round())
    assert t.min() >= 1
    assert t.max() <= 50
    if kind == "uniform":
        assert torch.bincount(t.long(), minlength=51)[1:].min() > 0.5 * N / 50


@pytest.mark.parametrize(
    ("kind", "what", "mean", "std"),
    [
        ("uniform", lambda path, t: t / path.t_max, 0.5, 12**-0.5),
        ("antithetic", lambda path, t: t / path.t_max, 0.5, 12**-0.5),
        ("log_normal", lambda path, t: (path.sigma(t) / path.alpha(t)).log(), -1.0, 0.8),
        ("logit_normal", lambda path, t: (t / path.t_max).logit(), -1.0, 0.8),
    ],
)
def test_times_have_the_law_they_are_named_after(path, kind, what, mean, std):
    seen = what(path, draw_times(kind, path, draws(), -1.0, 0.8).double())
    assert seen.mean() == pytest.approx(mean, abs=4 * std / N**0.5)
    assert seen.std() == pytest.approx(std, rel=0.05)


def test_u_shaped_times_have_the_published_density(path):
    """In proportion to e^(4 x) + e^(4 (1 - x)) at a share x of the range."""
    x = draw_times("u_shaped", path, draws(count=4 * N, total=4 * N)).double() / path.t_max
    edges = torch.linspace(0, 1, 17, dtype=torch.float64)
    below = ((4 * edges).exp() - 1 + torch.tensor(4.0).exp() - (4 * (1 - edges)).exp()) / 2
    expected = below.diff() / torch.tensor(4.0).expm1() * 4 * N
    assert ((torch.histc(x, 16, 0, 1) - expected).abs() < 4 * expected.sqrt()).all()
    assert expected[0] == pytest.approx(expected[-1])
    assert expected[0] > 3 * expected[7]


def test_log_snr_is_even_between_the_ends_of_a_path(path):
    log_snr = path.log_snr(draw_times("log_snr", path, draws()).double())
    ends = path.log_snr(torch.tensor([path.t_max, path.t_min]).double())
    ends = ends.clamp(min=-12) if path.alpha(torch.tensor(path.t_max)) == 0 else ends
    share = (log_snr - ends[0]) / (ends[1] - ends[0])
    assert torch.histc(share, 8, 0, 1).min() > 0.8 * N / 8


@pytest.mark.parametrize("total", [7, 64, 96])
def test_antithetic_times_pair_over_the_global_batch(total):
    """However the batch is cut, and with the odd one out alone."""
    u = Draws(("a",), 0, total, 1, total=total).antithetic()
    half = total // 2
    torch.testing.assert_close(u[-half:], 1 - u[:half])
    parts = [Draws(("a",), first, 1, 1, total=total).antithetic() for first in range(total)]
    assert torch.cat(parts).equal(u)


# ---- drawn by importance -------------------------------------------------------------------------


def filled(bins, losses, path):
    resampler = LossSecondMoment(bins)
    width = path.t_max / bins
    for _ in range(resampler.history):
        t = torch.arange(bins).float() * width + (1.0 if path.steps else width / 2)
        resampler.update(path, t, torch.as_tensor(losses))
    return resampler


@pytest.mark.parametrize("path", [Cosine(), DiscreteLinear(40)], ids=["continuous", "chain"])
def test_times_are_drawn_where_losses_are_large(path):
    bins = path.steps or 40
    losses = torch.linspace(0.1, 4, bins)
    resampler = filled(bins, losses, path)
    t, undo = resampler.draw(path, draws())
    share = (t - 1) / path.t_max if path.steps else t / path.t_max
    counts = torch.histc(share.double() + 1e-6, bins, 0, 1)
    expected = resampler.probabilities() * N
    assert ((counts - expected).abs() < 5 * expected.sqrt() + 3).all()
    # an average under the weights is one under uniform times
    assert (undo * share).mean() == pytest.approx(0.5, abs=0.05)
    assert undo.mean() == pytest.approx(1, abs=0.05)


def test_losses_that_are_not_finite_are_not_remembered():
    path, resampler = VP(), LossSecondMoment(2, history=2)
    losses = torch.tensor([1.0, float("nan"), 2.0, float("inf"), 3.0])
    resampler.update(path, torch.tensor([0.1, 0.2, 0.6, 0.7, 0.9]), losses)
    assert resampler.counts.tolist() == [1, 2]
    assert resampler.losses.tolist() == [[1, 0], [2, 3]]


def test_times_are_uniform_until_every_bin_is_full():
    path, resampler = VP(), LossSecondMoment(4, history=2)
    resampler.update(path, torch.tensor([0.1, 0.1, 0.4, 0.4, 0.6, 0.6, 0.9]), torch.ones(7))
    _, undo = resampler.draw(path, draws())
    assert undo.eq(1).all()
    resampler.update(path, torch.tensor([0.9]), torch.tensor([3.0]))
    _, undo = resampler.draw(path, draws())
    assert undo.min() < 0.7


def test_the_oldest_loss_is_forgotten():
    path, resampler = VP(), LossSecondMoment(1, history=3)
    resampler.update(path, torch.full((5,), 0.5), torch.arange(5.0))
    assert resampler.losses.tolist() == [[2, 3, 4]]


# ---- weights -------------------------------------------------------------------------------------


OF_X0 = [w for w in get_args(Weight) if w not in ("simple", "elbo", "velocity")]


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_weight_on_x0_is_one_on_the_networks_own_error(path, kind):
    """The same loss, whatever the network puts out."""
    reading = Reading(kind, sigma_data=0.6)
    t = path.t_max * torch.linspace(0.02, 0.95, 12, dtype=torch.float64)
    x0, eps, off = torch.randn(3, 12, 2, dtype=torch.float64)
    xt = path.add_noise(x0, eps, t)
    p, q = reading.to_x0(path, t)
    output = reading.target(x0, eps, t, path) + off
    error = (p[:, None] * xt + q[:, None] * output - x0).square().mean(1)
    snr = path.log_snr(t).exp()
    for weight in OF_X0:
        ours = output_weight(weight, reading, path, t) * off.square().mean(1)
        wanted = x0_weight(weight, snr, 0.6) * error
        torch.testing.assert_close(ours, wanted, msg=lambda text, w=weight: f"{w}: {text}")


@pytest.mark.parametrize(
    ("kind", "weight"), [("x0", "uniform"), ("eps", "snr"), ("score", "snr"), ("edm", "edm")]
)
def test_simple_is_the_papers_weight(path, kind, weight):
    t = path.t_max * torch.linspace(0.02, 0.95, 12, dtype=torch.float64)
    ones = output_weight(weight, Reading(kind, 0.6), path, t)
    torch.testing.assert_close(ones, torch.ones_like(t))


def test_v_on_a_preserving_path_weighs_snr_plus_one():
    t = torch.linspace(0.02, 0.98, 12, dtype=torch.float64)
    ones = output_weight("snr_plus_one", Reading("v"), Cosine(), t)
    torch.testing.assert_close(ones, torch.ones_like(t))


@pytest.mark.parametrize("kind", ["x0", "eps", "v", "velocity"])
def test_elbo_is_half_the_slope_of_the_signal_to_noise_ratio(path, kind):
    t = (path.t_max * torch.linspace(0.05, 0.9, 12, dtype=torch.float64)).requires_grad_()
    (slope,) = torch.autograd.grad(path.log_snr(t).exp().sum(), t)
    t = t.detach()
    reading = Reading(kind)
    wanted = -slope / 2 * path.t_max * reading.gain(path, t) ** 2
    torch.testing.assert_close(output_weight("elbo", reading, path, t), wanted)


@pytest.mark.parametrize("weight", ["snr", "min_snr", "truncated_snr", "edm", "velocity"])
def test_weights_are_finite_where_training_begins(path, weight):
    t = torch.tensor([1e-5 * path.t_max, path.t_max], dtype=torch.float32)
    for kind in ("v", "edm"):
        assert output_weight(weight, Reading(kind), path, t).isfinite().all()


@pytest.mark.parametrize("d", [1, 192])
@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_pseudo_huber_is_on_the_vector(d, weight):
    """Lee et al. 2024: c = 0.00054 d; a square for small errors, a length for large ones."""
    error = torch.stack([torch.zeros(d), torch.full((d,), 0.5)]).double().view(2, 1, d)
    c = 0.00054 * d
    wanted = torch.tensor([0.0, ((weight * 0.25 * d + c**2) ** 0.5 - c) / d]).double()
    torch.testing.assert_close(penalty("pseudo_huber", error, torch.tensor(weight)), wanted)


def test_min_snr_has_its_cap():
    snr = torch.tensor([0.1, 3.0, 9.0])
    assert x0_weight("min_snr", snr).tolist() == pytest.approx([0.1, 3, 5])
    assert x0_weight("min_snr", snr, min_snr_gamma=2.0).tolist() == pytest.approx([0.1, 2, 2])


def test_edm_draws_and_weighs_as_published():
    """Karras et al. 2022, Table 1: ln sigma ~ N(-1.2, 1.2^2), and lambda c_out^2 = 1."""
    path = EDM()
    t = draw_times("log_normal", path, draws(), -1.2, 1.2)
    assert t.log().mean() == pytest.approx(-1.2, abs=0.1)
    torch.testing.assert_close(
        output_weight("edm", Reading("edm", 0.5), path, t), torch.ones_like(t), rtol=1e-4, atol=0
    )

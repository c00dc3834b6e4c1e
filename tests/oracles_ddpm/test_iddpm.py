"""Improved DDPM against openai/improved-diffusion: chains, spaced subsets, steps, resampling.

Their index k, from 0, is our t = k + 1, and the posterior of index k that of s = t - 1. Their log
variances repeat the second at index 0, where the variance is 0 and neither adds noise.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gendiff.denoiser import Denoiser
from gendiff.paths import DiscreteCosine, DiscreteLinear, DiscreteVP, spaced
from gendiff.paths.discrete import MAX_BETA
from gendiff.predictions import Prediction, Reading
from gendiff.samplers import ancestral
from gendiff.training_times import LossSecondMoment

SUBSETS = json.loads((Path(__file__).parents[1] / "oracles" / "iddpm.json").read_text())
CHAINS = {"linear": DiscreteLinear, "cosine": DiscreteCosine}
SCHEDULES = pytest.mark.parametrize("schedule", CHAINS)
KINDS = {"f32": (torch.float32, "S32"), "f64": (torch.float64, "X64")}
PRECISIONS = pytest.mark.parametrize("precision", KINDS)


@SCHEDULES
@pytest.mark.parametrize("steps", [1000, 4000])
def test_chain(theirs, agree, schedule, steps):
    path, name = CHAINS[schedule](steps), f"{schedule}{steps}"
    every = torch.arange(1, steps + 1, dtype=torch.float64)
    betas = path.transition(every - 1, every)[1]
    t = theirs[f"{name}_idx"].double() + 1
    stored = every if steps == 1000 else t
    agree(betas[stored.long() - 1], theirs[f"{name}_betas"])
    assert ((betas - MAX_BETA).abs() < 1e-12).sum() == theirs[f"{name}_n_clipped_0p999"]
    agree(path.alpha(every[-1]) ** 2, theirs[f"{name}_abar_T"])
    on_xt, on_eps = Reading("eps").to_x0(path, t)
    on_x0, on_x, variance = path.posterior(t - 1, t)
    not_first = t.clamp(min=2)
    ours = {
        "alphas_cumprod": path.alpha(t) ** 2,
        "log_betas": path.transition(t - 1, t)[1].log(),
        "sqrt_recip_alphas_cumprod": on_xt,
        "sqrt_recipm1_alphas_cumprod": -on_eps,
        "posterior_mean_coef1": on_x0,
        "posterior_mean_coef2": on_x,
        "posterior_variance": variance,
        "posterior_log_variance_clipped": path.posterior(not_first - 1, not_first)[2].log(),
    }
    for member, value in ours.items():
        agree(value, theirs[f"{name}_{member}"])


@pytest.mark.parametrize("case", SUBSETS)
def test_subset(case):
    steps, spacing = case.split("|")
    assert spaced(int(steps), spacing) == SUBSETS[case]


@pytest.mark.parametrize(("steps", "spacing"), [(1000, "ddim300"), (1000, "1001"), (9, "3,4,3")])
def test_subset_that_does_not_exist(steps, spacing):
    """No stride of a thousand steps takes 300, and no part gives more steps than it has."""
    with pytest.raises(ValueError, match=spacing):
        spaced(steps, spacing)


@pytest.mark.parametrize(
    ("name", "path", "spacing"),
    [
        ("lin1000_ddim25", DiscreteLinear(1000), "ddim25"),
        ("cos1000_10_15_20", DiscreteCosine(1000), "10,15,20"),
        ("cos4000_100", DiscreteCosine(4000), "100"),
    ],
)
def test_chain_of_a_subset(theirs, agree, name, path, spacing):
    """They build a shorter chain; ours is the same path, visited at fewer times."""
    chosen = spaced(path.steps, spacing)
    assert chosen == theirs[f"sp_{name}_timestep_map"].tolist()
    times = torch.tensor([0, *(k + 1 for k in chosen)]).double()
    s, t = times[:-1], times[1:]
    log_variance = path.posterior(s, t)[2].log()
    log_variance[0] = log_variance[1]
    agree(path.transition(s, t)[1], theirs[f"sp_{name}_betas"])
    agree(path.alpha(t) ** 2, theirs[f"sp_{name}_alphas_cumprod"])
    agree(log_variance, theirs[f"sp_{name}_posterior_log_variance_clipped"])


@PRECISIONS
@SCHEDULES
def test_noisy_samples_and_the_data_read_from_eps(theirs, agree, schedule, precision):
    """The coefficients of the reading are in double precision, as samplers and they have them."""
    path, name = CHAINS[schedule](1000), f"vb_{schedule}_{precision}"
    kind, near = KINDS[precision]
    x0, eps, output = (theirs[f"vb_{key}"].to(kind) for key in ("x_start", "noise", "model_output"))
    t = theirs["vb_t"].double() + 1
    xt, expected = theirs[f"{name}_x_t"], theirs[f"{name}_clip0_pred_xstart"]
    agree(path.add_noise(x0, eps, t.to(kind)), xt, near)
    read = Prediction(output[:, :3], "eps", xt, t, path).x0
    agree(read[:-1], expected[:-1], near)
    agree(read[-1], expected[-1], "far" if (schedule, precision) == ("cosine", "f32") else near)


@PRECISIONS
@SCHEDULES
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ancestral_step(theirs, agree, schedule, variance, precision):
    """The posterior mean and, but for index 0, one deviation more: the noise is ones."""
    path, name = CHAINS[schedule](1000), f"vb_{schedule}_{precision}"
    kind, near = KINDS[precision]
    stds = (theirs[f"{name}_fixed_{variance}_log_variance"] / 2).exp()
    ones = torch.ones(1, 3, 4, 4)
    for i, k in enumerate(theirs["vb_t"].tolist()):
        xt, eps = theirs[f"{name}_x_t"][i, None], theirs["vb_model_output"][i, None, :3].to(kind)
        denoiser = Denoiser(lambda x, level, cond, eps=eps: eps, path, "eps")
        times = torch.tensor([k + 1, k])
        ours = ancestral(denoiser, xt, times, None, lambda step: ones, variance)
        agree(ours[0], theirs[f"{name}_clip0_mean"][i] + stds[i] * (k > 0), near)


def test_resampling_by_loss(theirs, agree):
    """One bin a step; after ``rs_n_cold`` losses one history is still short."""
    path, times = DiscreteVP([0.1] * 6), LossSecondMoment(6)
    t, losses, cold = theirs["rs_ts"] + 1, theirs["rs_losses"], int(theirs["rs_n_cold"])
    assert times.history == theirs["rs_history_per_term"]
    assert times.uniform == theirs["rs_uniform_prob"]
    times.update(path, t[:cold], losses[:cold])
    agree(times.probabilities(), theirs["rs_weights_cold"] / 6)
    times.update(path, t[cold:], losses[cold:])
    agree(times.losses, theirs["rs_history"])
    p = times.probabilities()
    agree(p, theirs["rs_probs"])
    drawn, weights = times.draw(path, SimpleNamespace(uniform=lambda: p.cumsum(0) - p / 2))
    assert drawn.tolist() == [1, 2, 3, 4, 5, 6]
    agree(weights, theirs["rs_importance"], "S32")

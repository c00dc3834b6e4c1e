"""EDM against the code of its authors (Karras et al. 2022, NVlabs/edm 008a4e5).

Their x is x0 + sigma eps and their time sigma: our `EDM` path. Their ablations scale x by s(t) and
choose sigma(t): our path with alpha = s and sigma = s sigma, so sigma / alpha is their sigma.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gendiff.denoiser import Denoiser
from gendiff.loss_weights import output_weight, x0_weight
from gendiff.paths import EDM, VE, VP, DiscreteCosine, expand
from gendiff.paths import Path as GaussianPath
from gendiff.predictions import Reading
from gendiff.samplers import euler, heun, rk45, time_grid
from gendiff.training_times import draw_times

FILE = Path(__file__).parents[1] / "oracles" / "edm.npz"
THEIRS = {key: torch.from_numpy(value) for key, value in np.load(FILE).items()}
PATH, READING = EDM(), Reading("edm", sigma_data=0.5)
SIGMA = THEIRS["pc_sigma"]
CHURN = {"churn": 40, "churn_min": 0.05, "churn_max": 50, "churn_noise": 1.003}
STEPS = [5, 10, 18, 40]


class Root(GaussianPath):
    """Their schedule "ve" without scaling: x0 + sqrt(t) eps, time is the variance."""

    t_max = 1e4

    def alpha(self, t):
        return torch.ones_like(t)

    def d_alpha(self, t):
        return torch.zeros_like(t)

    def sigma(self, t):
        return t.sqrt()

    def d_sigma(self, t):
        return 0.5 / t.sqrt()

    def inverse_log_snr(self, log_snr):
        return torch.exp(-log_snr)


class Network(torch.nn.Module):
    """F = tanh(x_in) + c_noise / 10, and what it was last called with.

    Their c_noise, ln(sigma) / 4, is told by our noise level, atan(sigma) as a share of pi / 2.
    """

    def forward(self, x, level, cond):
        self.x_in, self.c_noise = x, torch.tan(level * (math.pi / 2)).log() / 4
        return self.x_in.tanh() + 0.1 * expand(self.c_noise, x)


class Recorder:
    """A denoiser that remembers the sigma / alpha of its calls."""

    def __init__(self, denoiser):
        self.denoiser, self.path, self.sigmas = denoiser, denoiser.path, []

    def __call__(self, xt, t, cond=None):
        self.sigmas.append(float(self.path.sigma(t) / self.path.alpha(t)))
        return self.denoiser(xt, t, cond)


@pytest.fixture
def denoiser(mixture):
    return mixture.denoiser(PATH)


@pytest.fixture
def start(mix):
    return 80 * THEIRS[f"{mix}_latents"]


@pytest.mark.parametrize("steps", STEPS)
def test_grid(same, steps):
    same(time_grid(PATH, steps, "karras"), THEIRS[f"sigmas_{steps}"], "X64")


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("sampler", [heun, euler])
def test_samplers(same, mix, denoiser, start, sampler, steps):
    ours = sampler(denoiser, start, time_grid(PATH, steps))
    same(ours, THEIRS[f"{mix}_{sampler.__name__}_{steps}"], "S64")


def test_churn(same, mix, denoiser, start):
    """They draw noise at every step, also where they add none; ours of a step has its number."""
    noise = THEIRS[f"{mix}_churn_noise"]
    ours = heun(denoiser, start, time_grid(PATH, 18), noise=lambda i: noise[i], **CHURN)
    same(ours, THEIRS[f"{mix}_heun_18_churn"], "S64")


@pytest.mark.parametrize(("end", "name"), [(0.0, "exact_0"), (0.002, "exact_0p002")])
def test_flow(same, mix, denoiser, start, end, name):
    ours = rk45(denoiser, start, torch.tensor([80.0, end]).double(), rtol=1e-10, atol=1e-11)
    same(ours, THEIRS[f"{mix}_{name}"], "O64")


def test_scalings_and_weight(same):
    """D = c_skip x + c_out F(c_in x) is our x0 = p x_t + q output; lambda weighs |D - y|^2."""
    c_skip, c_out = READING.to_x0(PATH, SIGMA)
    ours = {
        "c_skip": c_skip,
        "c_out": c_out,
        "c_in": READING.input_scale(PATH, SIGMA),
        "loss_weight": x0_weight("edm", PATH.log_snr(SIGMA).exp(), sigma_data=0.5),
    }
    for name, value in ours.items():
        same(value, THEIRS[name], "X64")


@pytest.mark.parametrize(
    ("dtype", "tolerance", "x_in", "c_noise", "d"),
    [
        (torch.float64, "X64", None, "c_noise", "pc_D_f64"),
        (torch.float32, "S32", "pc_model_input_f32", "pc_cnoise_f32", "pc_D_f32"),
    ],
    ids=["f64", "f32"],
)
def test_preconditioned_network(same, dtype, tolerance, x_in, c_noise, d):
    """EDMPrecond is our Denoiser of the edm kind."""
    network = Network()
    ours = Denoiser(network, PATH, READING)(THEIRS["pc_x"].to(dtype), SIGMA.to(dtype)).x0
    assert ours.dtype == dtype
    same(ours, THEIRS[d], tolerance)
    same(network.c_noise, THEIRS[c_noise], tolerance)
    if x_in:
        same(network.x_in, THEIRS[x_in], tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, "X64"), (torch.float32, "S32")])
@pytest.mark.parametrize("weight", ["edm", "simple"])
def test_loss(same, dtype, tolerance, weight):
    """Theirs is lambda |D - y|^2; ours the error of F against its own target.

    On that error lambda c_out^2 = 1, so the weight ``edm`` is ``simple``.
    """
    y, eps, rnd = (THEIRS[f"loss_{name}"].to(dtype) for name in ("y", "n", "rnd_normal"))
    draw = SimpleNamespace(normal=rnd.flatten)  # sigma = exp(P_mean + P_std rnd)
    sigma = draw_times("log_normal", PATH, draw, mean=-1.2, std=1.2)
    same(sigma, THEIRS["loss_sigma_f64"].flatten(), tolerance)
    output = Denoiser(Network(), PATH, READING)(PATH.add_noise(y, eps, sigma), sigma).output
    error = (output - READING.target(y, eps, sigma, PATH)) ** 2
    error = error * expand(output_weight(weight, READING, PATH, sigma), error)
    same(error, THEIRS["loss_elementwise_f32"], "S32")
    same(error.flatten(1).mean(1), THEIRS[f"loss_persample_mean_f{tolerance[1:]}"], tolerance)


def relative(path, t):
    return path.sigma(t) / path.alpha(t)


def test_vp_sigma(same):
    same(relative(VP(), THEIRS["vp_t"]), THEIRS["vp_sigma"], "X64")


def test_ablation_grids(same):
    """Their discretizations: vp, evenly in t down to 1e-3; ve, in ln(sigma)."""
    vp, ve = VP(), VE(0.02, 100.0)
    t = time_grid(vp, 17, "uniform", t_end=1e-3)
    same(relative(vp, t), THEIRS["ablation_sigmas_vp_18"], "X64")
    same(time_grid(ve, 18, "log_snr")[:-1], THEIRS["ablation_sigmas_ve_18"], "X64")


def test_ablation_grid_of_iddpm(same):
    """Their u_j is the chain's sigma / alpha at t = 1000 - j; they take 18 of those in range."""
    path = DiscreteCosine(1000)
    every = relative(path, torch.arange(1000, -1, -1).double())
    every = every[(every >= 0.002) & (every <= 81)]
    places = ((len(every) - 1) / 17 * torch.arange(18).double()).round().long()
    same(every[places], THEIRS["ablation_sigmas_iddpm_18"], "X64")


@pytest.mark.parametrize(
    ("path", "times", "name"),
    [
        (VP(), time_grid(VP(), 17, "uniform", t_end=1e-3), "vp_vp_vp"),
        (Root(), time_grid(VE(0.02, 100.0), 18, "log_snr")[:-1] ** 2, "ve_none_ve"),
    ],
    ids=["vp", "ve"],
)
def test_ablation_samplers(same, gm2, path, times, name):
    """Schedule, scaling, discretization.

    Our step to t = 0 lands on x0, theirs is Euler's in t: ours runs to the last positive time, and
    the last step is taken here.
    """
    denoiser = Recorder(gm2.denoiser(path))
    x = heun(denoiser, path.sigma(times[0]) * THEIRS["gm2_latents"], times)
    x = x - times[-1] * denoiser(x, times[-1]).velocity
    same(x, THEIRS[f"gm2_ablation_{name}_heun_18"], "S64")
    same(denoiser.sigmas, THEIRS[f"ablation_{name}_heun_sigmas"], "S64")

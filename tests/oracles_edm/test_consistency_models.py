"""Consistency models against the authors' code: Song et al. 2023 (openai/consistency_models
e32b69e), ECT (locuslab/ect 4311059) and TrigFlow (NVlabs/FastGen 34f30e8); pseudo-Huber by formula.

The first two live on our `EDM` path: x0 + sigma eps, time is sigma; their index 0 is sigma_max.
TrigFlow is our `Trig`(sigma_data); their z has standard deviation sigma_data, our eps 1.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from gendiff.denoiser import Denoiser, along
from gendiff.loss_weights import mean_square, x0_weight
from gendiff.methods.neighbours import ict_distance
from gendiff.paths import EDM, Trig, carry, expand
from gendiff.predictions import Prediction, Reading
from gendiff.samplers import consistency, ddim, euler, heun, midpoint, rk45, time_grid

FILE = Path(__file__).parents[1] / "oracles" / "consistency.npz"
THEIRS = {key: torch.from_numpy(value) for key, value in np.load(FILE).items()}
PATH, TRIG = EDM(), Trig(0.5)
SIGMA = THEIRS["sc_sigma"]
BOUNDARY = Reading("edm", sigma_data=0.5, sigma_min=0.002)
GRID = time_grid(PATH, 18)
"""Their 18 levels and 0."""


class Network(torch.nn.Module):
    """F = tanh(slope x_in) + rt / 1000; their time rt is 250 ln(sigma)."""

    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def forward(self, x, level, cond):
        rt = 250 * torch.tan(level * (math.pi / 2)).log()
        return (self.slope * x).tanh() + 1e-3 * expand(rt, x)


STUDENT, TARGET = (Denoiser(Network(slope), PATH, BOUNDARY) for slope in (0.7, 0.6))


@pytest.fixture
def denoiser(mixture):
    return mixture.denoiser(PATH)


@pytest.fixture
def theirs(mix):
    """Their numbers of a mixture, by the rest of the key."""
    return {key[4:]: value for key, value in THEIRS.items() if key.startswith(mix)}


@pytest.fixture(params=[18, 40])
def pairs(request, theirs):
    """Their pairs of neighbours on a grid of so many levels, by the rest of the key."""
    start = f"cd{request.param}_"
    return {key[len(start) :]: x for key, x in theirs.items() if key.startswith(start)} | {
        "grid": time_grid(PATH, request.param)
    }


@pytest.mark.parametrize(
    ("name", "reading"), [("bc", BOUNDARY), ("edm", Reading("edm", sigma_data=0.5))]
)
def test_scalings(same, name, reading):
    """c_skip x + c_out F(c_in x), with the boundary at 0.002 and as EDM has it."""
    ours = (*reading.to_x0(PATH, SIGMA), reading.input_scale(PATH, SIGMA))
    for scale, value in zip(("c_skip", "c_out", "c_in"), ours, strict=True):
        same(value, THEIRS[f"{name}_{scale}"], "X64")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("snr", "snr"),
        ("snr_plus_one", "snrp1"),
        ("truncated_snr", "truncated_snr"),
        ("edm", "karras"),
        ("uniform", "uniform"),
    ],
)
def test_weights(same, ours, theirs):
    """Their snr is sigma^-2."""
    same(x0_weight(ours, PATH.log_snr(SIGMA).exp()), THEIRS[f"w_{theirs}"], "X64")


def test_neighbours(same, denoiser, pairs):
    """Samplers share a time, so Heun's steps run one by one; Euler's is DDIM's on this path."""
    i, t, t2 = pairs["index"], pairs["t"], pairs["t2"]
    same(pairs["grid"][i], t, "S64")
    same(pairs["grid"][i + 1], t2, "S64")
    xt = PATH.add_noise(pairs["x0"], pairs["noise"], t)
    same(xt, pairs["x_t"], "S64")
    same(PATH.step(denoiser(xt, t).x0, xt, t2, t), pairs["x_t2_euler"], "S64")
    steps = torch.stack([t, t2], 1)
    ours = [heun(denoiser, x[None], two) for x, two in zip(xt, steps, strict=True)]
    same(torch.cat(ours), pairs["x_t2_heun"], "S64")
    same(PATH.add_noise(pairs["x0"], pairs["noise"], t2), pairs["ct_x_t2"], "S64")


def test_losses(same, pairs):
    """Distillation sends x_t2 of the flow to the student's x0, training x_t2 of the same noise."""
    t, t2 = pairs["t"], pairs["t2"]
    student, target = STUDENT(pairs["x_t"], t).x0, TARGET(pairs["x_t2_heun"], t2).x0
    same(student, pairs["student_out"], "S64")
    same(target, pairs["target_out"], "S64")
    snr, error = PATH.log_snr(t).exp(), mean_square(student - target)
    for ours, name in [("uniform", "uniform"), ("edm", "karras"), ("snr_plus_one", "snrp1")]:
        same(x0_weight(ours, snr) * error, pairs[f"loss_l2_{name}"], "S64")
    error = mean_square(student - TARGET(pairs["ct_x_t2"], t2).x0)
    same(error, pairs["ct_loss_l2_uniform"], "S64")


@pytest.mark.parametrize(
    ("levels", "places"),
    [(40, [0, 22, 39]), (201, [0, 106, 200]), (40, [0, 10, 20, 39]), (40, [0, 39])],
    ids=str,
)
def test_multistep(same, theirs, denoiser, levels, places):
    """The last of their levels, sigma_min, is not visited; their noise 0 follows call 0."""
    ours = consistency(
        denoiser,
        theirs["ms_xT"],
        time_grid(PATH, levels)[places],
        noise=lambda i: theirs["ms_noise"][i - 1],
        t_min=0.002,
    )
    same(ours, theirs[f"ms_{'_'.join(map(str, places))}"], "S64")


@pytest.mark.parametrize(
    ("name", "sampler", "times"),
    [
        ("heun18", heun, GRID),
        ("euler18", euler, GRID),
        ("onestep", euler, GRID[[0, -1]]),
        ("progdist4", euler, time_grid(PATH, 5)[:-1]),  # stops at 0.002
    ],
)
def test_samplers_of_the_flow(same, theirs, denoiser, name, sampler, times):
    same(sampler(denoiser, theirs["ms_xT"], times), theirs[name], "S64")


def test_midpoint(same, theirs, denoiser):
    """Ours lands on x0 in the step to 0, theirs takes a middle there too: done here by hand."""
    x, last = midpoint(denoiser, theirs["ms_xT"], GRID[:-1]), GRID[-2]
    middle = x - 7 / 8 * last * denoiser(x, last).velocity  # at sigma / 8, half of its cube root
    same(x - last * denoiser(middle, last / 8).velocity, theirs["dpm2_18"], "S64")


def test_ancestral(same, theirs, denoiser):
    """Euler ancestral is DDIM with eta = 1 on this path."""
    noise = theirs["anc_noise"]
    ours = ddim(denoiser, theirs["ms_xT"], GRID, noise=lambda i: noise[i], eta=1.0)
    same(ours, theirs["euler_ancestral18"], "S64")


def test_consistency_function(same, theirs, denoiser):
    """The flow from each sigma down to 0.002."""
    ends = torch.tensor([0.002]).double()
    ours = [
        rk45(denoiser, x[None], torch.cat([sigma[None], ends]), rtol=1e-10, atol=1e-11)
        for x, sigma in zip(theirs["exactf_x"], theirs["exactf_sigma"], strict=True)
    ]
    same(torch.cat(ours), theirs["exactf"], "O64")


def test_two_steps_of_ect(same, theirs, denoiser):
    """Their jumps end at 0, and their added noise is sigma itself."""
    times, noise = torch.tensor([80, 0.821, 0]).double(), theirs["ect_noise"]
    ours = consistency(denoiser, 80 * theirs["ect_z"], times, noise=lambda i: noise[i - 1])
    same(ours, theirs["ect_2step_mid0p821"], "S64")


def test_pseudo_huber(same):
    """On the whole vector, c = 0.00054 sqrt(d)."""
    same(ict_distance(THEIRS["ph_x"] - THEIRS["ph_y"]), THEIRS["ph_vector"], "X64")


def test_trigflow_of_an_edm_denoiser(same, gm2):
    """Their F, (cos(t) x - D) / (sigma_data sin(t)), is velocity / sigma_data, and is -F of our
    edm kind, whose D = cos(t) x + sigma_data sin(t) F.
    """
    sigma, x_ve = THEIRS["trig_sigma"], THEIRS["trig_x_ve"]
    t, scale = carry(sigma, PATH, TRIG)
    same(t, THEIRS["trig_t"], "X64")
    xt = expand(scale, x_ve) * x_ve
    same(xt, THEIRS["trig_x"], "X64")
    there = along(gm2.denoiser(PATH), TRIG)(xt, t)
    same(there.x0, THEIRS["trig_D"], "X64")
    same(there.velocity / 0.5, THEIRS["trig_F"], "X64")
    edm = Prediction(-THEIRS["trig_F"], Reading("edm", sigma_data=0.5), xt, t, TRIG)
    same(edm.x0, THEIRS["trig_D"], "X64")


def test_trigflow_of_the_data(same):
    """x_t, dx_t/dt, and f = cos(t) x_t - sin(t) sigma_data F."""
    x0, eps, t = THEIRS["scm_x0"], THEIRS["scm_z"] / 0.5, THEIRS["scm_t"]
    xt = TRIG.add_noise(x0, eps, t)
    same(xt, THEIRS["scm_x_t"], "X64")
    same(TRIG.velocity(x0, eps, t), THEIRS["scm_dxdt"], "X64")

    def network(x, level, cond):
        """Minus their F(x / sigma_data, t) = tanh(x / sigma_data) cos(t) + t / 10."""
        t = expand(torch.atan(torch.tan(level * (math.pi / 2)) / 0.5), x)
        return -(x.tanh() * t.cos() + 0.1 * t)

    ours = Denoiser(network, TRIG, Reading("edm", sigma_data=0.5))(xt, t).x0
    same(ours, THEIRS["scm_f"], "X64")

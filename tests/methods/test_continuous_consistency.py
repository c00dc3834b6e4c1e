"""Continuous-time consistency: the tangent of the authors, of known functions, and of none left."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from small import Perfect, learn, make

from gendiff.denoiser import Denoiser
from gendiff.methods.continuous_consistency import (
    ContinuousConsistency,
    ContinuousConsistencyConfig,
    ContinuousConsistencyTraining,
    ContinuousConsistencyTrainingConfig,
)
from gendiff.networks.mlp import MLP, MLPConfig
from gendiff.networks.unet import UNet, UNetConfig
from gendiff.paths import EDM, VP, Cosine, DiscreteCosine, Linear, Trig
from gendiff.predictions import Prediction, Reading
from gendiff.samplers import time_grid
from gendiff.seeding import Draws

FILE = Path(__file__).parents[1] / "oracles" / "consistency.npz"
THEIRS = {k: torch.from_numpy(v) for k, v in np.load(FILE).items() if k.startswith("scm_")}
Config = ContinuousConsistencyTrainingConfig


def same(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def theirs(warm, path=None):
    """A method with their network F(x / sd, t) = tanh(x / sd) cos(t) + t / 10, so far warmed up."""
    path = path or Trig(0.5)

    def network(x, level, cond):  # minus F: our edm kind has the other sign
        t = torch.atan(torch.tan(level * (math.pi / 2)) / 0.5)[:, None, None, None]
        return -(x.tanh() * t.cos() + 0.1 * t)

    method = make(
        ContinuousConsistencyTraining, config=Config(tangent_warmup=10), path=path, shape=(3, 2, 2)
    )
    method.student = Denoiser(network, path, Reading("edm", 0.5))
    method.batches_done = round(10 * warm) - 1
    return method


@pytest.mark.parametrize("warm", [0.0, 0.3, 1.0])
def test_tangent_is_the_authors(warm):
    method, (xt, t) = theirs(warm), (THEIRS["scm_x_t"], THEIRS["scm_t"])
    x0, eps = THEIRS["scm_x0"], THEIRS["scm_z"] / 0.5
    flow = method.flow(xt, t, x0, eps, {})
    same(flow, THEIRS["scm_dxdt"])
    output, g = method.tangent(xt, t, flow, {})
    same(output, THEIRS["scm_F"])
    key = f"r{warm}".replace(".", "p")
    same(g, THEIRS[f"scm_g_raw_{key}"])
    norm = g.flatten(1).norm(dim=1)[:, None, None, None]
    same(g / (norm + 0.1), THEIRS[f"scm_g_paper_{key}"])
    if warm == 1:  # cos(t) df/dt
        same(g, t.cos()[:, None, None, None] * THEIRS["scm_dfdt"])


def test_loss_is_the_authors(monkeypatch):
    method = theirs(0.3)
    where = "gendiff.methods.continuous_consistency.draw_times"
    monkeypatch.setattr(where, lambda *_: THEIRS["scm_t"])
    method.draw = type("Given", (), {"normal": lambda self, *_: THEIRS["scm_z"] / 0.5})()
    losses = method.loss({"x0": THEIRS["scm_x0"]}, "student")
    same(losses["loss"], THEIRS["scm_unweighted"].mean())


def test_a_student_of_another_path_has_the_same_tangent():
    """EDM's network is the quarter turn's, read along it."""
    xt, t, flow = THEIRS["scm_x_t"], THEIRS["scm_t"], THEIRS["scm_dxdt"]
    ours = [theirs(1.0, path).tangent(xt, t, flow, {}) for path in (Trig(0.5), EDM())]
    inside = (t.tan() * 0.5 < 80)[:, None, None, None].expand_as(xt)
    for here, there in zip(*ours, strict=True):
        torch.testing.assert_close(here[inside], there[inside], rtol=1e-6, atol=1e-8)


def times(n):
    return torch.linspace(0.05, 1.5, n, dtype=torch.float64)


@pytest.mark.parametrize("path", [Trig(0.5), Linear(), VP()], ids=["turn", "linear", "vp"])
def test_tangent_of_the_truth_is_zero(path):
    """Of a Gaussian, in closed form, along the exact flow."""
    method = make(ContinuousConsistencyTraining, config=Config(tangent_warmup=0), path=path)
    method.student, t = Perfect(path), times(12)
    xt, turn = torch.randn(12, 2, dtype=torch.float64), Trig(0.5)
    a, s = turn.alpha(t)[:, None], turn.sigma(t)[:, None]
    gain = a * Perfect.std**2 / ((a * Perfect.std) ** 2 + s**2)
    x0 = Perfect.mean + gain * (xt - a * Perfect.mean)
    flow = Prediction(x0, "x0", xt, t, turn).velocity
    _, g = method.tangent(xt, t, flow, {})
    torch.testing.assert_close(g, torch.zeros_like(g), rtol=0, atol=1e-9)
    _, off = method.tangent(xt, t, flow + 0.1, {})
    assert off.abs().max() > 1e-3


class Solved:
    """The consistency function of a mixture: its flow, integrated in small steps."""

    path, end, steps = Trig(0.5), 1e-4, 24

    def __init__(self, mixture):
        self.exact = mixture.denoiser(self.path)

    def __call__(self, xt, t, cond=None):
        x, start = xt, t
        share = time_grid(Linear(), self.steps)
        for here, there in pairwise(share):
            now, after = (self.end + (start - self.end) * u for u in (here, there))
            slope = self.exact(x, now).velocity
            guess = x + (after - now)[:, None] * slope
            x = x + (after - now)[:, None] * (slope + self.exact(guess, after).velocity) / 2
        return Prediction(self.exact(x, torch.full_like(t, self.end)).x0, "x0", xt, t, self.path)


def test_tangent_of_the_mixtures_truth_is_zero(gm1):
    """With an exact teacher; a student that is off has one."""
    config = ContinuousConsistencyConfig(tangent_warmup=0)
    method = make(ContinuousConsistency, config=config, path=Trig(0.5), shape=(1,))
    method.teacher, t = gm1.denoiser(Cosine()), times(10)
    xt, _ = gm1.sample(10, torch.Generator().manual_seed(0), Trig(0.5), t)
    flow, sizes = method.flow(xt, t, xt, xt, {}), []
    for method.student in (Solved(gm1), gm1.denoiser(Trig(0.5))):
        sizes.append(method.tangent(xt, t, flow, {})[1].abs())
    assert sizes[0].max() < 0.01
    assert sizes[1].max() > 0.3


def test_derivative_passes_through_a_network_with_attention():
    """Against finite differences, in double precision; and gradients reach every weight."""
    torch.manual_seed(0)
    config = UNetConfig(channels=8, multipliers=[1, 1], attention=[4], head_channels=8)
    network = UNet(config, (1, 8, 8), 1).double()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.05 * torch.randn_like(p))
    method = make(
        ContinuousConsistencyTraining,
        config=Config(tangent_warmup=0),
        path=Trig(0.5),
        networks={"student": network},
        shape=(1, 8, 8),
    )
    xt, flow, t = *torch.randn(2, 2, 1, 8, 8).double(), torch.tensor([0.3, 1.2]).double()
    output, g = method.tangent(xt, t, flow, {})
    h, f = 1e-6, lambda x, t: method.student(x, t).x0
    with torch.no_grad():
        df = (f(xt + h * flow, t + h) - f(xt - h * flow, t - h)) / (2 * h)
    torch.testing.assert_close(g, t.cos()[:, None, None, None] * df, rtol=1e-4, atol=1e-5)
    output.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    assert not g.requires_grad


def test_slow_embeddings_have_small_tangents():
    """With weights of the embedding as large as training makes them."""
    sizes = []
    for scale in (1000.0, 10.0):
        torch.manual_seed(0)
        network = MLP(MLPConfig(width=64, depth=1, time_scale=scale), (2,), 2)
        for parameter in network.conditioning.parameters():
            parameter.data.mul_(20)
        config = Config(tangent_warmup=0)
        method = make(ContinuousConsistencyTraining, config=config, networks={"student": network})
        method.draw = Draws(("test",), 0, 500, 500)
        sizes.append(method.loss({"x0": torch.randn(500, 2)}, "student")["tangent"])
    assert sizes[1] < 0.6 * sizes[0]


def test_warm_up_leaves_diffusions_part_first():
    """g = -cos^2 (sd F - dx/dt) at r = 0: the slope of flow matching."""
    method, parts = theirs(1.0), []
    xt, t, flow = THEIRS["scm_x_t"], THEIRS["scm_t"], THEIRS["scm_dxdt"]
    for method.batches_done in (-1, 4, 9, 20):
        parts.append(method.tangent(xt, t, flow, {})[1])
    same(parts[1], (parts[0] + parts[2]) / 2)
    same(parts[2], parts[3])


def test_times_are_drawn_in_their_sigma():
    method = make(ContinuousConsistencyTraining, config=Config(sigma_data=0.7), path=Linear())
    method.draw, seen = Draws(("test",), 0, 4000, 4000), []
    method.flow = lambda xt, t, *_: seen.append(t) or xt
    method.loss({"x0": torch.randn(4000, 2)}, "student")
    log = (0.7 * seen[0].tan()).log()
    assert log.mean() == pytest.approx(-1, abs=0.1)
    assert log.std() == pytest.approx(1.4, rel=0.05)


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        (DiscreteCosine(50), {}, "^name: continuous_consistency differentiates"),
        (Trig(), {"tangent_warmup": -1}, "^tangent_warmup: -1"),
        (Trig(), {"times_std": 0.0}, "^times_std: 0"),
        (Cosine(), {"prediction": "eps"}, "^prediction: eps"),
    ],
)
def test_what_cannot_be_is_refused(path, change, message):
    for kind in ("x0", "v", "edm"):
        ContinuousConsistency.check(ContinuousConsistencyConfig(prediction=kind), VP())
    with pytest.raises(ValueError, match=message):
        ContinuousConsistency.check(replace(ContinuousConsistencyConfig(), **change), path)


@pytest.mark.parametrize(
    ("cls", "teacher"), [(ContinuousConsistency, EDM()), (ContinuousConsistencyTraining, None)]
)
def test_learns(cls, teacher):
    """On the cosine path, from a diffusion model that is 0.58 from the data in one step."""
    config = cls.Config(sigma_data=0.7, tangent_warmup=20)
    away = learn(cls, config, Cosine(), teacher, 1, 2, tuned=True, batches=100, lr=2e-3)
    assert away < 0.48

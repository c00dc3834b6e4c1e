"""Denoiser and guidance: one output read in every way, conditions, and counted calls."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from gendiff.denoiser import Denoiser, Moved, along, x0_at
from gendiff.guidance import Guided, guide
from gendiff.networks.mlp import MLP, MLPConfig
from gendiff.paths import EDM, VP, Cosine, DiscreteLinear, Trig
from gendiff.predictions import Kind, Prediction, Reading

KINDS = get_args(Kind)


@pytest.fixture
def labelled():
    """A denoiser with the conditions label (3 classes) and z, and a batch for it."""
    torch.manual_seed(0)
    network = MLP(MLPConfig(width=16, depth=1, conditions={"label": 3, "z": 2}), (2,), 2)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    cond = {"label": torch.tensor([0, 1, 2, 1]), "z": torch.randn(4, 2)}
    return Denoiser(network.requires_grad_(False), VP(), "v"), torch.randn(4, 2), cond


@pytest.mark.parametrize("kind", [*KINDS, "edm-boundary"])
def test_the_target_is_read_in_every_way(path, kind):
    kind, sigma_min = (kind, 0.0) if kind in KINDS else ("edm", 0.002)
    last = 0.95 if kind in ("eps", "score") else 1.0  # they say nothing where alpha is 0
    x0, eps = torch.randn(2, 20, 1, 2, 2, dtype=torch.float64)
    t = path.t_max * torch.linspace(0.05, last, 20, dtype=torch.float64)
    a, s = (c.reshape(-1, 1, 1, 1) for c in (path.alpha(t), path.sigma(t)))
    xt = a * x0 + s * eps
    reading = Reading(kind, sigma_data=0.6, sigma_min=sigma_min)
    prediction = Prediction(reading.target(x0, eps, t, path), reading, xt, t, path)
    wanted = {
        "x0": x0,
        "eps": eps,
        "v": (a * eps - s * x0) / (a**2 + s**2).sqrt(),
        "velocity": path.velocity(x0, eps, t),
        "score": (a * x0 - xt) / s**2,
    }
    for name, value in wanted.items():
        torch.testing.assert_close(getattr(prediction, name), value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["eps", "v", "velocity", "score", "edm"])
def test_x0_is_x_itself_without_noise(path, kind):
    """The boundary condition of consistency models, whatever the network puts out."""
    x, output = torch.randn(2, 5, 2, dtype=torch.float64)
    t = torch.full((5,), 0.0 if kind in ("v", "velocity") else 1e-12, dtype=torch.float64)
    x0 = Prediction(output, kind, x, t, path).x0
    torch.testing.assert_close(x0, x, rtol=0, atol=1e-5)


def test_network_is_told_noise_level_and_conditions(path):
    seen = {}

    class Spy(nn.Module):
        def forward(self, x, level, cond):
            seen.update(cond, level=level)
            return x.half()

    z = torch.ones(3, 1)
    x = torch.randn(3, 2)
    prediction = Denoiser(Spy(), path, "x0")(x, torch.tensor(0.25), {"z": z})
    torch.testing.assert_close(seen["level"], path.noise_level(torch.full((3,), 0.25)))
    assert seen["z"] is z
    assert prediction.output.dtype == torch.float32


def test_missing_label_is_the_null_label(labelled):
    denoiser, x, cond = labelled
    t = torch.tensor(0.5)
    missing = denoiser(x, t, {"z": cond["z"]}).output
    null = denoiser(x, t, {"z": cond["z"], "label": torch.full((4,), 3)}).output
    torch.testing.assert_close(missing, null)
    assert not torch.allclose(missing, denoiser(x, t, cond).output)


@pytest.mark.parametrize("name", ["x0", "eps", "v", "velocity", "score"])
def test_guidance_mixes_every_reading(labelled, name):
    denoiser, x, cond = labelled
    t, w = torch.tensor(0.5), 1.5
    mixed = getattr(Guided(denoiser, w)(x, t, cond), name)
    conditional = getattr(denoiser(x, t, cond), name)
    free = getattr(denoiser(x, t, {"z": cond["z"]}), name)
    torch.testing.assert_close(mixed, (1 + w) * conditional - w * free, rtol=1e-4, atol=1e-5)


def test_no_guidance_is_the_denoiser_itself(labelled):
    denoiser, x, cond = labelled
    t = torch.tensor(0.5)
    assert guide(denoiser, 0.0) is denoiser
    torch.testing.assert_close(
        Guided(denoiser, 0.0)(x, t, cond).output, denoiser(x, t, cond).output
    )


@pytest.mark.parametrize(("weight", "calls"), [(0.0, 3), (2.0, 6)])
def test_calls_are_counted(labelled, weight, calls):
    denoiser, x, cond = labelled
    for _ in range(3):
        guide(denoiser, weight)(x, torch.tensor(0.5), cond)
    assert denoiser.nfe == calls


OTHERS = [VP(), Cosine(), Trig(0.5), EDM(), DiscreteLinear()]


@pytest.mark.parametrize("other", OTHERS, ids=lambda p: type(p).__name__)
def test_a_denoiser_runs_along_any_other_path(path, other, gm2):
    t = path.t_max * torch.linspace(0.01, 0.9, 40, dtype=torch.float64)
    xt = torch.randn(40, 2, dtype=torch.float64)
    moved, wanted = along(gm2.denoiser(other), path), gm2.denoiser(path)(xt, t).x0
    assert (type(moved) is Moved) == (path != other)
    torch.testing.assert_close(moved(xt, t).x0, wanted)
    known = x0_at(moved, t)
    torch.testing.assert_close(torch.cat([known(i, xt[i : i + 1]) for i in range(40)]), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_computed_once_is_what_is_computed_each_time(path, kind):
    """`at` against a plain call, through guidance and along another path too."""

    class Network(nn.Module):
        def forward(self, x, level, cond):
            return (x * level[:, None] + cond.get("label", torch.ones(1))[:, None]).tanh()

    denoiser = Denoiser(Network(), VP(), Reading(kind, sigma_data=0.7, sigma_min=0.01))
    times = path.t_max * torch.linspace(0.9, 0.05, 5, dtype=torch.float64)
    x, cond = torch.randn(4, 3, dtype=torch.float64), {"label": torch.arange(4.0)}
    for seen in (denoiser, guide(denoiser, 1.5), along(guide(denoiser, 1.5), path)):
        seen_times = times if seen.path == path else times / path.t_max
        known = x0_at(seen, seen_times)
        for i, t in enumerate(seen_times):
            x0 = seen(x, t, cond).x0
            torch.testing.assert_close(known(i, x, cond), x0)
            torch.testing.assert_close(known.mix(i, x, 0.3, -1.7, cond), 0.3 * x - 1.7 * x0)
    assert x0_at(seen, seen_times)(0, x.float(), cond).dtype == torch.float32

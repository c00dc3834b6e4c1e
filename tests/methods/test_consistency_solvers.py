"""The teacher's step in consistency distillation, and how the loss of the truth falls with it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from small import Perfect, make

from gendiff.data.toy import GaussianMixture
from gendiff.denoiser import Denoiser
from gendiff.methods.consistency import Consistency, ConsistencyConfig
from gendiff.methods.consistency_training import ConsistencyTraining
from gendiff.networks.mlp import MLP, MLPConfig
from gendiff.paths import EDM, VE, Cosine, Linear
from gendiff.seeding import Draws

ORDERS = {"euler": 1, "ddim": 1, "heun": 2, "heun_x0": 2}


# ---- the teacher's step --------------------------------------------------------------------------


@pytest.mark.parametrize(("solver", "order"), ORDERS.items())
def test_follow_stays_on_the_trajectory(path, gm1, exact_flow, solver, order):
    method = make(Consistency, config=ConsistencyConfig(solver=solver), path=path)
    method.teacher = gm1.denoiser(path)
    start = torch.linspace(-1.5, 1.5, 21, dtype=torch.float64)[:, None]
    truth, counts, errors = exact_flow(path, start, 0.9, 0.3), [32, 64, 128], []
    for count in counts:
        x, times = start, torch.linspace(0.9, 0.3, count + 1, dtype=torch.float64)
        for t, s in pairwise(times):
            x = method.follow(x, t.expand(21), s.expand(21), {})
        errors.append((x - truth).abs().max().item())
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.2)
    assert errors[-1] < {1: 2e-2, 2: 4e-4}[order]


@pytest.mark.parametrize("solver", ORDERS)
def test_follow_reaches_the_data(path, solver):
    """At t = 0, where VP has no velocity, every last step is the one of DDIM."""
    method = make(Consistency, config=ConsistencyConfig(solver=solver), path=path)
    torch.manual_seed(0)
    method.teacher = Denoiser(MLP(MLPConfig(width=16, depth=1), (2,), 2), path, "velocity")
    t, s, x = torch.full((5,), 0.02), torch.zeros(5), torch.randn(5, 2)
    end = method.teacher(x, t).x0.detach()
    torch.testing.assert_close(method.follow(x, t, s, {}), end, rtol=0, atol=0.01)


def test_euler_and_ddim_agree_where_lines_are_straight(gm2):
    """On a linear path and on VE Euler's step is DDIM's."""
    for path in (Linear(), VE()):
        ends = []
        for solver in ("euler", "ddim"):
            method = make(Consistency, config=ConsistencyConfig(solver=solver), path=path)
            method.teacher = gm2.denoiser(Cosine())
            t, s = torch.full((2, 9), 0.8).double().mul_(torch.tensor([[1.0], [0.5]]))
            ends.append(method.follow(torch.linspace(-1, 1, 18).double().view(9, 2), t, s, {}))
        torch.testing.assert_close(*ends)


# ---- the loss of the truth -----------------------------------------------------------------------


GAUSSIAN = GaussianMixture([1.0], [[0.4, -0.3]], [0.3])


def losses_of_truth(cls, config, path, counts=(16, 32, 64)):
    """Mean square losses of the exact consistency function of a Gaussian."""
    losses = []
    for n in counts:
        method = make(cls, config=replace(config, intervals=n, first_intervals=n), path=path)
        method.student, method.teacher = Perfect(path), GAUSSIAN.denoiser(path)
        method.draw = Draws(("test",), 0, 2000, 2000)
        x0 = Perfect.mean + Perfect.std * torch.randn(
            2000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
        )
        losses.append(float(method.loss({"x0": x0}, "student")["loss"]))
    return losses


@pytest.mark.parametrize(("solver", "order"), ORDERS.items())
def test_loss_of_the_truth_vanishes_as_the_solver_does(solver, order):
    """Its root is the error of one step, of one order more than the solver's."""
    config = ConsistencyConfig(solver=solver, distance="squared_l2", grid="karras")
    losses = losses_of_truth(Consistency, config, EDM(), (32, 64, 128))
    slope = -np.polyfit(np.log([32, 64, 128]), np.log(losses), 1)[0] / 2
    assert slope == pytest.approx(order + 1, abs=0.35)


@pytest.mark.parametrize("grid", ["uniform", "karras", "log_snr"])
def test_training_loss_of_the_truth_falls_with_the_interval(grid):
    """Along data and noise, neighbours are not on one trajectory: the error is of first order."""
    config = replace(make(ConsistencyTraining).config, grid=grid, distance="squared_l2")
    config = replace(config, times="uniform", weight="uniform")
    losses = losses_of_truth(ConsistencyTraining, config, Linear(), (32, 64, 128))
    slope = -np.polyfit(np.log([32, 64, 128]), np.log(losses), 1)[0] / 2
    assert slope == pytest.approx(1, abs=0.2)

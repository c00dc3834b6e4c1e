"""Deterministic samplers: the order of their error, on a flow whose solution is known."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from gendiff.paths import VP, Cosine
from gendiff.samplers import (
    ddim,
    dpm_solver,
    dpmpp_2m,
    dpmpp_2s,
    euler,
    heun,
    midpoint,
    rk45,
    time_grid,
)

ORDERS = {
    "ddim": (ddim, 1, 1),
    "euler": (euler, 1, 1),
    "heun": (heun, 2, 2),
    "midpoint": (midpoint, 2, 2),
    "dpm_solver-1": (partial(dpm_solver, order=1), 1, 1),
    "dpm_solver-2": (partial(dpm_solver, order=2), 2, 2),
    "dpm_solver-3": (partial(dpm_solver, order=3), 3, 3),
    "dpm_solver-2-multi": (partial(dpm_solver, order=2, multi=True), 2, 1),
    # third order in its inside, second because of its start
    "dpm_solver-3-multi": (partial(dpm_solver, order=3, multi=True), 2, 1),
    "dpmpp_2s": (dpmpp_2s, 2, 2),
    "dpmpp_2m": (dpmpp_2m, 2, 1),
}
"""Sampler, order, calls a step."""
COUNTS = [80, 160, 320]


def problem(path, exact_flow, end):
    """Points at the start of a log-SNR grid to ``end``, and where the flow takes them."""
    first = time_grid(path, 2, "log_snr", t_end=end)[0]
    x = path.sigma(first) * torch.linspace(-1.8, 1.8, 13, dtype=torch.float64)[:, None]
    return x, exact_flow(path, x, first, end)


@pytest.mark.parametrize("name", ORDERS)
def test_error_falls_with_the_order_of_the_sampler(path, gm1, exact_flow, name):
    sampler, order, calls = ORDERS[name]
    end = 0.02 if path.t_max < 2 else 0.05
    x, truth = problem(path, exact_flow, end)
    errors, denoiser = [], gm1.denoiser(path)
    for steps in COUNTS:
        out = sampler(denoiser, x, time_grid(path, steps, "log_snr", t_end=end))
        errors.append((out - truth).square().mean().sqrt().item())
    assert denoiser.nfe == calls * sum(COUNTS)
    slope = -np.polyfit(np.log(COUNTS), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.25)
    assert errors[-1] < (5e-3, 1e-4, 1e-6)[order - 1]


@pytest.mark.parametrize("name", ORDERS)
def test_all_the_way_to_the_data_on_the_paths_own_grid(path, gm1, exact_flow, name):
    sampler, order, _ = ORDERS[name]
    times = time_grid(path, 60)
    x = path.sigma(times[0]) * torch.linspace(-1.8, 1.8, 13, dtype=torch.float64)[:, None]
    truth = exact_flow(path, x, times[0], 0.0)
    # a run's last step lands on x0: uniform grids leave their error there
    error = (sampler(gm1.denoiser(path), x, times) - truth).square().mean().sqrt()
    assert error < (0.03 if order == 1 else 0.02)


@pytest.mark.parametrize("end", [0.0, 0.02])
def test_the_adaptive_solver_is_near_exact(path, gm1, exact_flow, end):
    end = end * path.t_max
    x = path.sigma(torch.tensor(path.t_max)) * torch.linspace(-1.8, 1.8, 13).double()[:, None]
    truth = exact_flow(path, x, path.t_max, end)
    out = rk45(
        gm1.denoiser(path), x, torch.tensor([path.t_max, end]).double(), rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(out, truth, rtol=0, atol=2e-7 * max(1, end))


def test_the_midpoint_may_be_the_plain_middle(gm1, exact_flow):
    x, truth = problem(VP(), exact_flow, 0.1)
    times = time_grid(VP(), 160, t_end=0.1)
    outs = [midpoint(gm1.denoiser(VP()), x, times, rho=rho) for rho in (1.0, 3.0)]
    assert not torch.equal(*outs)
    for out in outs:
        torch.testing.assert_close(out, truth, rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [4, 9])
def test_short_multistep_runs_end_at_first_order(gm1, steps):
    """Their last step is DDIM's, and so depends on its own call alone."""
    path = Cosine()
    times = time_grid(path, steps, t_end=0.1)
    seen = []

    class Spy:
        def __init__(self):
            self.path = path

        def __call__(self, xt, t, cond=None):
            seen.append((xt, gm1.denoiser(path)(xt, t)))
            return seen[-1][1]

    out = dpmpp_2m(Spy(), torch.randn(5, 1).double(), times)
    last_x, last = seen[-1]
    torch.testing.assert_close(out, path.step(last.x0, last_x, times[-1], times[-2]))


@pytest.mark.parametrize("order", [0, 4])
def test_other_orders_are_refused(gm1, order):
    with pytest.raises(ValueError, match=f"order: {order}"):
        dpm_solver(gm1.denoiser(VP()), torch.zeros(1, 1), time_grid(VP(), 2), order=order)

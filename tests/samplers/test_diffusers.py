"""Samplers against the schedulers of diffusers, on the same times, noise and exact denoiser.

A scheduler is put on our noise levels in float64, and its rule of grids is compared apart. Where
it rounds the samples to float32 the tolerance is 1e-5 of the largest value, elsewhere 1e-9.
"""

from __future__ import annotations

import inspect
import sys
from functools import partial
from operator import attrgetter

import pytest
import torch

from gendiff.paths import EDM, VE, VP, DiscreteLinear, Linear, Trig
from gendiff.predictions import Reading
from gendiff.samplers import (
    ancestral,
    consistency,
    ddim,
    dpm_solver,
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_2s,
    euler,
    heun,
    midpoint,
    time_grid,
)

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # "dpmsolver" is deprecated

LAST = {"final_sigmas_type": "sigma_min"}
STEPS = 20  # both lower the order of short multistep runs: below 10 steps ours, 15 theirs
CHAIN = DiscreteLinear(1000)

READ = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
"""A scheduler's ``prediction_type``, as ours; flow_prediction and trigflow are the velocity."""


def reader(scheduler):
    """What a scheduler is fed, out of our prediction."""
    name = type(scheduler).__name__
    if not name.startswith(("EDM", "CM")):
        return attrgetter(READ.get(scheduler.config.get("prediction_type"), "velocity"))
    reading = Reading("edm", 0.5, 0.002 if name.startswith("CM") else 0.0)

    def network(p):  # they call it epsilon: F of D = c_skip x + c_out F
        on_x, on_output = reading.to_x0(p.path, p.t)
        return (p.x0 - on_x[:, None] * p.xt) / on_output[:, None]

    return network


def start(path, mixture, t):
    """x at t, with the mixture's own law there, and a noise for every step."""
    x0 = mixture.sample(16, torch.Generator().manual_seed(1))[0].double()
    noise = torch.randn(STEPS + 1, *x0.shape, dtype=torch.float64)
    return path.add_noise(x0, torch.randn_like(x0), t.expand(16)), noise


def levels(path, times):
    """Their sigmas: the time on straight lines, else sigma / alpha."""
    return times if path == Linear() else path.sigma(times) / path.alpha(times)


def place(scheduler, sigmas, calls=1):
    """Put a scheduler on noise levels of ours; it makes so many steps of its own in one of ours."""
    scheduler.set_timesteps(calls * STEPS)
    scheduler.sigmas = sigmas
    scheduler.timesteps = torch.arange(len(sigmas) - 1, dtype=torch.float64)
    scheduler.set_begin_index(0)
    return scheduler


def walk(scheduler, denoiser, x, visited, **settings):
    """The scheduler's run; ``visited`` are our times of its calls."""
    read = reader(scheduler)
    for t, ours in zip(scheduler.timesteps[: len(visited)], visited, strict=True):
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(x, t)  # or some of them warn
        x = scheduler.step(read(denoiser(x, ours)), t, x, **settings).prev_sample
    return x


def check(ours, theirs, scheduler, tolerance=1e-9):
    if "sample.to(torch.float32)" in inspect.getsource(type(scheduler).step):
        tolerance = 1e-5
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * float(theirs.abs().max()))


@pytest.fixture
def feed(monkeypatch):
    """Make a scheduler draw from a list of noises."""

    def patch(scheduler, noise):
        draws = iter(noise)
        module = sys.modules[type(scheduler).__module__]
        for place, name in ((module, "randn_tensor"), (torch, "randn_like")):  # by version
            monkeypatch.setattr(place, name, lambda *_, **__: next(draws), raising=False)

    return patch


def test_the_linear_chain_is_theirs():
    ours = CHAIN.alpha(torch.arange(1, 1001).double()) ** 2
    # their timestep k is our t = k + 1; their product is in float32
    torch.testing.assert_close(
        diffusers.DDPMScheduler().alphas_cumprod.double(), ours, rtol=1e-5, atol=0
    )


ENDS = {"sigma_min": 0.01, "sigma_max": 50.0}
EULER = partial(diffusers.EulerDiscreteScheduler, **ENDS)
EDM_ENDS = {"sigma_min": 0.002, "sigma_max": 80.0}


@pytest.mark.parametrize(
    ("scheduler", "path", "kind"),
    [
        (EULER(use_karras_sigmas=True), VE(), "karras"),
        (EULER(use_exponential_sigmas=True), VE(), "log_snr"),
        (diffusers.EDMEulerScheduler(**EDM_ENDS), EDM(), "karras"),
        (diffusers.EDMDPMSolverMultistepScheduler(**EDM_ENDS), EDM(), "karras"),
    ],
)
def test_grids_of_noise_levels_are_theirs(scheduler, path, kind):
    scheduler.set_timesteps(STEPS)
    times = time_grid(path, STEPS, kind)
    torch.testing.assert_close(scheduler.sigmas.double(), times, rtol=1e-5, atol=0)


SPACINGS = {"trailing": "uniform", "leading": f"ddim{STEPS}"}
"""Their spacings of a chain, as our grids."""
LARGE = partial(ancestral, variance="large")


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(
    ("sampler", "theirs", "settings", "eta", "spacing"),
    [
        # large and trailing: they add noise in a last step that does not begin at their k = 0
        (LARGE, "DDPM", {"variance_type": "fixed_large"}, {}, "leading"),
        *((ancestral, "DDPM", {"variance_type": "fixed_small"}, {}, kind) for kind in SPACINGS),
        *(
            (partial(ddim, eta=eta), "DDIM", {"set_alpha_to_one": True}, {"eta": eta}, kind)
            for eta in (0.0, 0.5)
            for kind in SPACINGS
        ),
    ],
)
def test_samplers_of_chains_are_theirs(
    gm2, feed, sampler, theirs, settings, eta, spacing, prediction
):
    scheduler = getattr(diffusers, f"{theirs}Scheduler")(
        clip_sample=False, timestep_spacing=spacing, prediction_type=prediction, **settings
    )
    scheduler.alphas_cumprod = CHAIN.alpha(torch.arange(1, 1001).double()) ** 2
    scheduler.set_timesteps(STEPS)
    times = time_grid(CHAIN, STEPS, SPACINGS[spacing])
    assert times[:-1].equal(scheduler.timesteps.double() + 1)
    (x, noise), denoiser = start(CHAIN, gm2, times[0]), gm2.denoiser(CHAIN)
    feed(scheduler, noise)
    theirs = walk(scheduler, denoiser, x, times[:-1], **eta)
    check(sampler(denoiser, x, times, None, lambda step: noise[step]), theirs, scheduler)


SDE = {"algorithm_type": "sde-dpmsolver++"}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
V = {"prediction_type": "v_prediction"}
ONE_CALL = {
    "euler": (euler, "EulerDiscrete", {}, VE(), {}),
    "euler-v": (euler, "EulerDiscrete", V, VE(), {}),
    "euler-edm": (euler, "EDMEuler", {}, EDM(), {}),
    "euler-flow": (euler, "FlowMatchEulerDiscrete", {}, Linear(), {}),
    # on every path of unit size their sigma is our sigma / alpha
    "2m": (dpmpp_2m, "DPMSolverMultistep", {}, VP(), {}),
    "2m-chain": (dpmpp_2m, "DPMSolverMultistep", V, CHAIN, {}),
    # they have no log-SNR at alpha = 0
    "2m-flow": (dpmpp_2m, "DPMSolverMultistep", FLOW, Linear(), {"t_start": 0.98}),
    "2m-edm": (dpmpp_2m, "EDMDPMSolverMultistep", {}, EDM(), {}),
    "2m_sde": (dpmpp_2m_sde, "DPMSolverMultistep", SDE, VP(), {}),
    "2m_sde-chain": (dpmpp_2m_sde, "DPMSolverMultistep", SDE, CHAIN, {}),
    "2m_sde-edm": (dpmpp_2m_sde, "EDMDPMSolverMultistep", SDE, EDM(), {}),
    # theirs of type "dpmsolver" end before sigma = 0
    **{
        f"dpm_solver-{order}": (
            *(partial(dpm_solver, order=order, multi=True), "DPMSolverMultistep"),
            {"solver_order": order, "algorithm_type": "dpmsolver", **LAST},
            *(VP(), {"t_end": 0.01}),
        )
        for order in (1, 2, 3)
    },
    # down to sigma_down, up by sigma_up: on VE that is the posterior
    "ancestral": (ancestral, "EulerAncestralDiscrete", {}, VE(), {}),
    "ddim": (partial(ddim, eta=1.0), "EulerAncestralDiscrete", {}, VE(), {}),
    # jumps end at their sigma_min
    "consistency": (
        *(partial(consistency, t_min=0.002), "CMStochasticIterative"),
        *({"clip_denoised": False}, EDM(), {"t_end": 0.002}),
    ),
    "consistency-flow": (
        *(consistency, "FlowMatchEulerDiscrete"),
        *({"stochastic_sampling": True}, Linear(), {}),
    ),
}
"""Our sampler, their scheduler and its settings, path, the ends of the times."""


@pytest.mark.parametrize("name", ONE_CALL)
def test_samplers_of_one_call_a_step_are_theirs(gm2, feed, name):
    sampler, theirs, settings, path, ends = ONE_CALL[name]
    times = time_grid(path, STEPS, **ends)
    (x, noise), denoiser = start(path, gm2, times[0]), gm2.denoiser(path)
    scheduler = getattr(diffusers, f"{theirs}Scheduler")(**settings)
    # consistency adds noise after a jump there, before the next one here
    feed(place(scheduler, levels(path, times)), noise[name.startswith("consistency") :])
    theirs = walk(scheduler, denoiser, x, times[:-1])
    check(sampler(denoiser, x, times, None, lambda step: noise[step]), theirs, scheduler)


@pytest.mark.parametrize(
    ("scheduler", "path"),
    [
        (diffusers.HeunDiscreteScheduler(), EDM()),
        (diffusers.FlowMatchHeunDiscreteScheduler(), Linear()),
    ],
)
def test_heun_is_theirs(gm2, scheduler, path):
    times = time_grid(path, STEPS)
    (x, _), denoiser = start(path, gm2, times[0]), gm2.denoiser(path)
    # inner levels twice: at the end of a step, and at the start of the next
    twice = torch.cat([times[:1], times[1:-1].repeat_interleave(2), times[-1:]])
    theirs = walk(place(scheduler, twice, 2), denoiser, x, twice[:-1])
    check(heun(denoiser, x, times), theirs, scheduler)


def test_midpoint_is_kdpm2(gm2):
    times = time_grid(EDM(), STEPS)
    (x, _), denoiser = start(EDM(), gm2, times[0]), gm2.denoiser(EDM())
    scheduler = diffusers.KDPM2DiscreteScheduler()
    scheduler.set_timesteps(STEPS)
    # (level, middle, level, middle, ..., level): a middle is one in the logarithm, rho = infinity
    middles = (times[:-1] * times[1:]).sqrt()
    scheduler.sigmas = torch.cat([times[:1], times[1:].repeat_interleave(2), times[-1:]])
    scheduler.sigmas_interpol = torch.cat([times[:1], middles.repeat_interleave(2), times[-1:]])
    visited = torch.stack([times[:-1], middles], 1).flatten()[:-1]
    scheduler.timesteps = visited
    scheduler.set_begin_index(0)
    theirs = walk(scheduler, denoiser, x, visited)
    check(midpoint(denoiser, x, times, rho=1e8), theirs, scheduler, 1e-6)


@pytest.mark.parametrize(
    ("sampler", "algorithm", "order"),
    [
        *((partial(dpm_solver, order=order), "dpmsolver", order) for order in (1, 2, 3)),
        (dpmpp_2s, "dpmsolver++", 2),
    ],
)
def test_singlestep_solvers_are_theirs(gm2, sampler, algorithm, order):
    path, times = VP(), time_grid(VP(), STEPS, t_end=0.01)
    # a group of ``order`` consecutive levels of theirs is one of our steps, even in lambda
    lambdas = path.log_snr(times)
    inner = [lambdas[:-1] + lambdas.diff() * j / order for j in range(order)]
    fine = torch.cat([path.inverse_log_snr(torch.stack(inner, 1).flatten()), times[-1:]])
    scheduler = diffusers.DPMSolverSinglestepScheduler(
        solver_order=order,
        algorithm_type=algorithm,
        lower_order_final=False,
        **LAST,
    )
    place(scheduler, levels(path, fine), order)
    (x, _), denoiser = start(path, gm2, times[0]), gm2.denoiser(path)
    theirs = x
    for i, (t, ours) in enumerate(zip(scheduler.timesteps, fine[:-1], strict=True)):
        if order == 3:  # the paper's is their "heun" inside a step, their "midpoint" at its end
            scheduler.register_to_config(solver_type="heun" if i % 3 == 1 else "midpoint")
        theirs = scheduler.step(denoiser(theirs, ours).eps, t, theirs).prev_sample
    check(sampler(denoiser, x, times), theirs, scheduler)


def test_consistency_on_a_quarter_turn_is_scm(gm2, feed):
    path, scheduler = Trig(0.5), diffusers.SCMScheduler(sigma_data=0.5)
    times = time_grid(path, STEPS)
    scheduler.set_timesteps(STEPS, intermediate_timesteps=None)
    torch.testing.assert_close(scheduler.timesteps.double(), times, rtol=1e-5, atol=1e-7)
    scheduler.timesteps = times
    scheduler.set_begin_index(0)
    (x, noise), denoiser = start(path, gm2, times[0]), gm2.denoiser(path)
    feed(scheduler, noise[1:])
    theirs = walk(scheduler, denoiser, x, times[:-1])
    check(consistency(denoiser, x, times, None, lambda step: noise[step]), theirs, scheduler)

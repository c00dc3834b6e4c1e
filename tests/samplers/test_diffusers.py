"""Samplers against the schedulers of diffusers, on the same times, noise and exact denoiser.

A scheduler is put on our noise levels in float64, and its rule of grids is compared apart. Where
it rounds the samples to float32 the tolerance is 1e-5 of the largest value, elsewhere 1e-9.
"""

from __future__ import annotations

import sys
from functools import partial

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

STEPS = 20  # both lower the order of short multistep runs: below 10 steps ours, 15 theirs
CHAIN = DiscreteLinear(1000)

READ = {
    "epsilon": lambda p: p.eps,
    "v_prediction": lambda p: p.v,
    "sample": lambda p: p.x0,
    "flow_prediction": lambda p: p.velocity,
}
"""A scheduler's ``prediction_type``, as ours."""


def edm_output(p, sigma_min=0.0):
    """F of D = c_skip x + c_out F; the EDM schedulers call it epsilon."""
    on_x, on_output = Reading("edm", 0.5, sigma_min).to_x0(p.path, p.t)
    return (p.x0 - on_x[:, None] * p.xt) / on_output[:, None]


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


def walk(scheduler, denoiser, x, visited, read, **settings):
    """The scheduler's run; ``visited`` are our times of its calls."""
    for t, ours in zip(scheduler.timesteps[: len(visited)], visited, strict=True):
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(x, t)  # or some of them warn
        x = scheduler.step(read(denoiser(x, ours)), t, x, **settings).prev_sample
    return x


def check(ours, theirs, tolerance):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * float(theirs.abs().max()))


@pytest.fixture
def feed(monkeypatch):
    """Make a scheduler draw from a list of noises."""

    def patch(scheduler, noise):
        draws = iter(noise)
        module = sys.modules[type(scheduler).__module__]
        monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: next(draws))

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


def on_chain(scheduler):
    """The scheduler with our float64 table, and our times of its calls."""
    scheduler.alphas_cumprod = CHAIN.alpha(torch.arange(1, 1001).double()) ** 2
    scheduler.set_timesteps(STEPS)
    return scheduler, scheduler.timesteps.double() + 1


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(
    ("variance", "spacing"), [("small", "trailing"), ("small", "leading"), ("large", "leading")]
)
def test_ancestral_is_ddpm(gm2, feed, prediction, variance, spacing):
    # large, trailing is left out: they add noise in a last step that does not begin at k = 0
    scheduler, visited = on_chain(
        diffusers.DDPMScheduler(
            variance_type=f"fixed_{variance}",
            clip_sample=False,
            prediction_type=prediction,
            timestep_spacing=spacing,
        )
    )
    times = time_grid(CHAIN, STEPS, SPACINGS[spacing])
    assert times[:-1].equal(visited)
    (x, noise), denoiser = start(CHAIN, gm2, times[0]), gm2.denoiser(CHAIN)
    feed(scheduler, noise)
    theirs = walk(scheduler, denoiser, x, visited, READ[prediction])
    ours = ancestral(denoiser, x, times, None, lambda step: noise[step], variance)
    check(ours, theirs, 1e-9)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_ddim_is_theirs(gm2, feed, prediction, spacing, eta):
    scheduler, visited = on_chain(
        diffusers.DDIMScheduler(
            clip_sample=False,
            set_alpha_to_one=True,
            prediction_type=prediction,
            timestep_spacing=spacing,
        )
    )
    times = time_grid(CHAIN, STEPS, SPACINGS[spacing])
    (x, noise), denoiser = start(CHAIN, gm2, times[0]), gm2.denoiser(CHAIN)
    feed(scheduler, noise)
    theirs = walk(scheduler, denoiser, x, visited, READ[prediction], eta=eta)
    check(ddim(denoiser, x, times, None, lambda step: noise[step], eta), theirs, 1e-9)


MULTISTEP = diffusers.DPMSolverMultistepScheduler
SDE = {"algorithm_type": "sde-dpmsolver++"}
UP_AND_DOWN = diffusers.EulerAncestralDiscreteScheduler
STOCHASTIC = {
    # down to sigma_down, up by sigma_up: on VE that is the posterior
    "ancestral": (ancestral, UP_AND_DOWN(), VE(), READ["epsilon"], 0.0, 1e-5),
    "ddim": (partial(ddim, eta=1.0), UP_AND_DOWN(), VE(), READ["epsilon"], 0.0, 1e-5),
    # their sigma is our sigma / alpha, on every path of unit size
    "2m_sde": (dpmpp_2m_sde, MULTISTEP(**SDE), VP(), READ["epsilon"], 0.0, 1e-5),
    "2m_sde-chain": (dpmpp_2m_sde, MULTISTEP(**SDE), CHAIN, READ["epsilon"], 0.0, 1e-5),
    "2m_sde-edm": (
        *(dpmpp_2m_sde, diffusers.EDMDPMSolverMultistepScheduler(**SDE), EDM()),
        *(edm_output, 0.0, 1e-9),
    ),
    # jumps end at their sigma_min; F is that of consistency models
    "consistency": (
        partial(consistency, t_min=0.002),
        diffusers.CMStochasticIterativeScheduler(clip_denoised=False),
        *(EDM(), partial(edm_output, sigma_min=0.002), 0.002, 1e-9),
    ),
    "consistency-flow": (
        *(consistency, diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)),
        *(Linear(), READ["flow_prediction"], 0.0, 1e-5),
    ),
}
"""Our sampler, their scheduler, path, what it is fed, where the times end, tolerance."""


@pytest.mark.parametrize("name", STOCHASTIC)
def test_stochastic_samplers_are_theirs(gm2, feed, name):
    sampler, scheduler, path, read, end, tolerance = STOCHASTIC[name]
    times = time_grid(path, STEPS, t_end=end)
    (x, noise), denoiser = start(path, gm2, times[0]), gm2.denoiser(path)
    # consistency adds noise after a jump there, before the next one here
    feed(place(scheduler, levels(path, times)), noise[name.startswith("consistency") :])
    theirs = walk(scheduler, denoiser, x, times[:-1], read)
    check(sampler(denoiser, x, times, None, lambda step: noise[step]), theirs, tolerance)


FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
LATE = {"t_start": 0.98}  # they have no log-SNR at alpha = 0
EARLY = {"t_end": 0.01}  # "dpmsolver" of theirs ends before sigma = 0
ONE_CALL = {
    "euler": (euler, EULER(), VE(), READ["epsilon"], {}, 1e-5),
    "euler-v": (euler, EULER(prediction_type="v_prediction"), VE(), READ["v_prediction"], {}, 1e-5),
    "euler-edm": (euler, diffusers.EDMEulerScheduler(), EDM(), edm_output, {}, 1e-5),
    "euler-flow": (
        *(euler, diffusers.FlowMatchEulerDiscreteScheduler(), Linear()),
        *(READ["flow_prediction"], {}, 1e-5),
    ),
    "2m": (dpmpp_2m, MULTISTEP(), VP(), READ["epsilon"], {}, 1e-5),
    "2m-chain": (dpmpp_2m, MULTISTEP(), CHAIN, READ["epsilon"], {}, 1e-5),
    "2m-flow": (dpmpp_2m, MULTISTEP(**FLOW), Linear(), READ["flow_prediction"], LATE, 1e-5),
    "2m-edm": (
        *(dpmpp_2m, diffusers.EDMDPMSolverMultistepScheduler(), EDM()),
        *(edm_output, {}, 1e-9),
    ),
    **{
        f"dpm_solver-{order}": (
            partial(dpm_solver, order=order, multi=True),
            MULTISTEP(
                solver_order=order, algorithm_type="dpmsolver", final_sigmas_type="sigma_min"
            ),
            *(VP(), READ["epsilon"], EARLY, 1e-5),
        )
        for order in (1, 2, 3)
    },
}


@pytest.mark.parametrize("name", ONE_CALL)
def test_samplers_of_one_call_a_step_are_theirs(gm2, name):
    sampler, scheduler, path, read, ends, tolerance = ONE_CALL[name]
    times = time_grid(path, STEPS, **ends)
    (x, _), denoiser = start(path, gm2, times[0]), gm2.denoiser(path)
    theirs = walk(place(scheduler, levels(path, times)), denoiser, x, times[:-1], read)
    check(sampler(denoiser, x, times), theirs, tolerance)


@pytest.mark.parametrize(
    ("scheduler", "path", "read", "tolerance"),
    [
        (diffusers.HeunDiscreteScheduler(), EDM(), READ["epsilon"], 1e-9),
        (diffusers.FlowMatchHeunDiscreteScheduler(), Linear(), READ["flow_prediction"], 1e-5),
    ],
)
def test_heun_is_theirs(gm2, scheduler, path, read, tolerance):
    times = time_grid(path, STEPS)
    (x, _), denoiser = start(path, gm2, times[0]), gm2.denoiser(path)
    # inner levels twice: at the end of a step, and at the start of the next
    twice = torch.cat([times[:1], times[1:-1].repeat_interleave(2), times[-1:]])
    theirs = walk(place(scheduler, twice, 2), denoiser, x, twice[:-1], read)
    check(heun(denoiser, x, times), theirs, tolerance)


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
    theirs = walk(scheduler, denoiser, x, visited, READ["epsilon"])
    check(midpoint(denoiser, x, times, rho=1e8), theirs, 1e-6)


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
        final_sigmas_type="sigma_min",
        lower_order_final=False,
    )
    place(scheduler, levels(path, fine), order)
    (x, _), denoiser = start(path, gm2, times[0]), gm2.denoiser(path)
    theirs = x
    for i, (t, ours) in enumerate(zip(scheduler.timesteps, fine[:-1], strict=True)):
        if order == 3:  # the paper's third order is their "heun" inside a step, "midpoint" at last
            scheduler.register_to_config(solver_type="heun" if i % 3 == 1 else "midpoint")
        theirs = scheduler.step(denoiser(theirs, ours).eps, t, theirs).prev_sample
    check(sampler(denoiser, x, times), theirs, 1e-9)


def test_consistency_on_a_quarter_turn_is_scm(gm2, feed):
    path, scheduler = Trig(0.5), diffusers.SCMScheduler(sigma_data=0.5)
    times = time_grid(path, STEPS)
    scheduler.set_timesteps(STEPS, intermediate_timesteps=None)
    torch.testing.assert_close(scheduler.timesteps.double(), times, rtol=1e-5, atol=1e-7)
    scheduler.timesteps = times
    scheduler.set_begin_index(0)
    (x, noise), denoiser = start(path, gm2, times[0]), gm2.denoiser(path)
    feed(scheduler, noise[1:])
    # what they call trigflow is our velocity, and x has the data's size
    theirs = walk(scheduler, denoiser, x, times[:-1], lambda p: p.velocity)
    check(consistency(denoiser, x, times, None, lambda step: noise[step]), theirs, 1e-9)

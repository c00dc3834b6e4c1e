"""Samplers as users write them: what is read, and what is refused before anything runs."""

from __future__ import annotations

import inspect

import pytest
import torch

from gendiff import registry
from gendiff.paths import EDM, VE, VP, Cosine, DiscreteLinear
from gendiff.samplers import ddim, heun, time_grid
from gendiff.sampling import ANY_DENOISER, Sampling


def parse(text):
    return Sampling.parse(text, ANY_DENOISER)


@pytest.mark.parametrize(
    ("text", "settings", "path", "grid"),
    [
        ("heun", {}, None, None),
        ("ddim(eta=0.5)", {"eta": 0.5}, None, None),
        ("heun(churn=40, churn_min=0.05)@edm", {"churn": 40.0, "churn_min": 0.05}, EDM(), None),
        ("dpm_solver(order=3,multi=true)@log_snr", {"order": 3, "multi": True}, None, "log_snr"),
        ("ancestral(variance=large)@ve.karras", {"variance": "large"}, VE(), "karras"),
        ("ancestral@10,15,20", {}, None, "10,15,20"),
        ("ddim@discrete_linear.ddim25", {}, DiscreteLinear(), "ddim25"),
    ],
)
def test_what_is_written_is_what_is_run(text, settings, path, grid):
    read = parse(text)
    assert (read.settings, read.path, read.grid) == (settings, path, grid)
    assert [type(v) for v in read.settings.values()] == [type(v) for v in settings.values()]
    assert read.function.__name__ == read.name == text.split("(")[0].split("@")[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hean", "no sampler 'hean'. Did you mean 'heun'?"),
        ("posterior", "'posterior' does not fit"),
        ("heun(", "is not NAME, NAME"),
        ("heun(chrn=1)", "heun has no setting 'chrn'. Did you mean 'churn'?"),
        ("heun(churn)", "write each setting once, as churn=value"),
        ("heun(churn=1,churn=2)", "write each setting once, as churn=value"),
        ("ddim(eta=x)", "ddim(eta=x) must be a number"),
        ("ddim(eta=-1)", "must be at least 0"),
        ("ddim(eta=nan)", "must be at least 0"),
        ("ddim(eta=inf)", "must be at least 0 and finite"),
        ("dpm_solver(order=2.5)", "must be a whole number"),
        ("dpm_solver(multi=1)", "must be true or false"),
        ("ancestral(variance=medium)", "must be one of small, large"),
        ("ddim@edn", "'edn' is no grid or path. Did you mean 'edm'?"),
        ("ddim@karras.edm", "one path, then one grid: NAME@PATH.GRID"),
    ],
)
def test_what_cannot_be_read_is_refused(text, message):
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        parse(text)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "own", "steps", "message"),
    [
        ("ddim", DiscreteLinear(100), 101, "101 steps are more than the 100 of the chain"),
        *(
            (name, DiscreteLinear(), 4, "needs a path continuous in time")
            for name in ("euler", "heun", "midpoint", "dpm_solver", "dpmpp_2s", "rk45")
        ),
        ("euler@discrete_linear", VP(), 4, "Run it along another path, e.g. euler@vp"),
        ("ddim@ddim25", DiscreteLinear(), 24, "steps is 24: ddim25 takes 25"),
        (
            "ddim@ddim25",
            Cosine(),
            25,
            "is a subset of a discrete chain, as in discrete_linear.ddim25",
        ),
        ("dpm_solver(order=4)", VP(), 4, "order: 4"),
        ("langevin(walks=0)", VP(), 4, "walks: 0"),
        ("ddim", VP(), 0, "steps is 0"),
        ("midpoint(rho=0)", VP(), 4, "rho: 0.0"),
        ("ddim(eta=3)", VP(), 4, "eta: 3.0 adds more noise"),
        # carried from VE's end, which is not the chain's
        ("ddim@discrete_linear", VE(), 1000, "visits a step of the chain of 1000 twice"),
        ("ddim@discrete_linear.ddim25", VE(), 25, "ddim25 starts at 961, above the start at"),
    ],
)
def test_what_cannot_run_is_refused(text, own, steps, message):
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        parse(text).check(own, steps)
    assert message in str(refused.value)


@pytest.mark.parametrize("name", ANY_DENOISER)
def test_every_sampler_runs_on_every_path(path, name):
    parse(name).check(path, 12)
    parse(f"{name}@{'edm' if path == VP() else 'vp'}").check(path, 12)


@pytest.mark.parametrize("name", registry.names("samplers"))
def test_samplers_share_one_signature(name):
    function = registry.lookup("samplers", name)
    first, *rest = list(inspect.signature(function).parameters)
    assert first in ("denoiser", "generator")
    assert rest[:4] == ["x", "times", "cond", "noise"]


@pytest.mark.parametrize("t_start", [None, 0.8])
def test_another_path_is_taken_at_equal_noise(gm2, t_start):
    """Along EDM from x of the cosine path is EDM's sampler from the same x, scaled."""
    own, other = Cosine(), EDM()
    start = 1.0 if t_start is None else t_start
    x = own.sigma(torch.tensor(start).double()) * torch.randn(20, 2, dtype=torch.float64)
    out = parse("heun@edm").run(gm2.denoiser(own), x, 12, t_start=t_start)
    there = (
        other.t_max
        if t_start is None
        else float(other.inverse_log_snr(own.log_snr(torch.tensor(0.8))))
    )
    scale = (1 + there**2) ** 0.5 / own.size(torch.tensor(start)).item()
    times = time_grid(other, 12, t_start=min(there, other.t_max))
    wanted = heun(gm2.denoiser(other), x * scale, times)
    torch.testing.assert_close(out, wanted, rtol=1e-4, atol=1e-4)


def test_own_grid_alone(gm2):
    Sampling.parse("ddim(eta=1)", ("ddim",)).check(VP(), 4, own_grid=True)
    for text in ("ddim@log_snr", "ddim@edm"):
        with pytest.raises(ValueError, match="own path and grid alone"):
            Sampling.parse(text, ("ddim",)).check(VP(), 4, own_grid=True)


def test_run_is_the_sampler_on_its_grid(gm2):
    x, denoiser = torch.randn(5, 2).double(), gm2.denoiser(Cosine())
    out = parse("ddim@quadratic").run(denoiser, x, 6)
    assert out.equal(ddim(denoiser, x, time_grid(Cosine(), 6, "quadratic")))

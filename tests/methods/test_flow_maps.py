"""Flow maps: sampling in any number of steps, learning, and what mean flow and shortcuts refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from exact_maps import STD, UNIT, ExactMap, exact_map, exact_velocity, figures, learn
from small import make
from table import config_of
from torch import nn
from torch.nn import functional as F

from gendiff.config import compose
from gendiff.errors import UserError
from gendiff.methods.flow_map import FlowMap
from gendiff.methods.mean_flow import MeanFlow
from gendiff.methods.student import PerceptualConfig
from gendiff.networks.mlp import MLP, MLPConfig
from gendiff.paths import Cosine
from gendiff.pipeline.plan import make_plan
from gendiff.pipeline.stages import load_pipeline
from gendiff.samplers import flow_map
from gendiff.seeding import Draws

named = pytest.mark.parametrize("path", UNIT, ids=lambda path: type(path).__name__)
cases = pytest.mark.parametrize("case", ["mean_flow", "mean_flow_distillation", "shortcut"])


@named
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_exact_map_lands_whatever_its_steps(path, steps):
    denoiser = FlowMap(ExactMap(path, STD), path)
    x, ends = torch.randn(20, 2, dtype=torch.float64), torch.tensor([path.t_max, 0.0]).double()
    times = torch.linspace(path.t_max, 0.0, steps + 1, dtype=torch.float64)
    with torch.no_grad():
        landed = flow_map(denoiser, x, times)
    wanted = exact_map(path, x, *(end.expand(20) for end in ends), STD)
    torch.testing.assert_close(landed, wanted, rtol=0, atol=1e-6)
    assert denoiser.nfe == steps


@named
def test_without_a_second_time_it_is_a_denoiser(path):
    """Whose velocity is that at x_t; other samplers can ask it, along other paths too."""
    denoiser = FlowMap(ExactMap(path, STD), path)
    x, t = torch.randn(20, 2, dtype=torch.float64), torch.tensor(0.6, dtype=torch.float64)
    with torch.no_grad():
        found = denoiser(x, t).velocity
    torch.testing.assert_close(found, exact_velocity(path, x, t.expand(20), STD))
    method = make(MeanFlow, networks={"student": ExactMap(path, STD)}, path=path)
    noise = method.sample(50, 1, seed=3, sampler="flow_map", role="student")
    for sampler in ("heun", "dpmpp_2m@cosine.log_snr"):
        out = method.sample(50, 60, seed=3, sampler=sampler, role="student")
        torch.testing.assert_close(out, noise, rtol=0, atol=0.03)


class Slower(nn.Module):
    """A network that is told both times as 0.03 of what they are."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, level, cond):
        return self.network(x, 0.03 * level, {"second_time": 0.03 * cond["second_time"]})


def test_a_networks_time_scale_is_a_factor_on_both_levels():
    """In the loss, whose derivative has it, and in samples."""
    found = []
    for scale in (30.0, 1000.0):
        torch.manual_seed(0)
        settings = MLPConfig(width=16, depth=1, conditions={"second_time": 1}, time_scale=scale)
        network = MLP(settings, (2,), 2)
        network = network if scale == 30 else Slower(network)
        method = make(MeanFlow, networks={"student": network}, path=Cosine())
        method.draw = Draws((0,), 0, 512, 1)
        loss = method.loss({"x0": 0.3 * torch.randn(512, 2)}, "student")["loss"]
        found.append((loss.detach(), method.sample(4, 2)))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_it_learns_the_mixtures_map():
    """True samples are 0.001 apart in energy, points of the data 1.1; the mean of the data, where
    one step of the velocity leads, is 0.8 from where the exact map does.
    """
    settings = {"times_mean": 0.0, "times_std": 2.0, "weight_power": 0.0}
    method = learn(300, time_scale=30.0, name="mean_flow", **settings)
    energy, error = figures(method, 1)
    assert energy < 0.06
    assert error < 0.4
    assert error < 0.5 * figures(method, 1, "ddim")[1]


# ---- what is refused, and what fits --------------------------------------------------------------


RAW = {
    "data": {"name": "mixture"},
    "networks": {"student": {"name": "mlp", "width": 8, "conditions": {"second_time": 1}}},
    "path": {"name": "linear"},
    "method": {"name": "mean_flow"},
}


@pytest.mark.parametrize("name", ["mean_flow", "mean_flow_distillation", "shortcut"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": {"prediction": "v"}}, "method.prediction: v; a flow map predicts the veloc"),
        ({"path": {"name": "discrete_linear"}}, "method.prediction: velocity does not fit Discre"),
        ({"networks": {"student": {"name": "mlp"}}}, "networks.student.conditions.second_time: mi"),
        ({"evaluation": {"samplers": ["flow_map@vp"], "steps": [2]}}, "own path alone"),
        ({"evaluation": {"samplers": ["posterior"], "steps": [2]}}, "'posterior' does not fit"),
    ],
)
def test_no_flow_map_without_what_it_needs(name, change, message):
    method = {"name": name, **change.get("method", {})}
    with pytest.raises(UserError) as refused:
        compose({**RAW, **change, "method": method}, "x")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"apart": 1.5}, "method.apart: 1.5 must be in"),
        ({"weight_power": -1}, "method.weight_power: -1.0 must be in"),
        ({"weight_offset": 0}, "method.weight_offset: 0.0 must be positive"),
        ({"times_std": 0}, "method.times_std: 0.0 must be positive"),
        ({"times_mean": float("inf")}, "method.times_mean: inf must be finite"),
        ({"kappa": 1.5}, "method.kappa: 1.5 must be in"),
        ({"omega": 0}, "method.omega: 0.0 must be positive"),
        ({"omega": 2}, "networks.student.conditions.label: missing"),
        ({"name": "mean_flow_distillation", "kappa": 0.5}, "method.kappa: 0.5; a teacher guides"),
    ],
)
def test_impossible_settings_are_refused(method, message):
    with pytest.raises(UserError) as refused:
        compose({**RAW, "method": {**RAW["method"], **method}}, "x")
    assert message in str(refused.value)


def test_a_flow_stage_can_seed_it(tmp_path):
    """The second time's embedding being new; the teacher's role is there too."""
    stages = """
stages:
  flow:
    config: mixture_diffusion
    path: {name: linear}
    method: {prediction: velocity}
    networks: {student: {time_scale: 30}}
  mean:
    config: mixture_mean_flow
    method: {name: mean_flow_distillation}
    init:
      student: {from: flow.ema, new: ["conditioning.conditions.second_time.*"]}
      teacher: flow.ema
"""
    (tmp_path / "seeded.yaml").write_text(stages)
    plan = make_plan(load_pipeline(str(tmp_path / "seeded.yaml"), []), tmp_path)
    assert [step.state for step in plan] == ["missing", "missing"]


@cases
def test_who_learns_a_long_way_is_told_its_own_label(case):
    method, asked = make(case, classes=3), []
    for network in (method.student.network, method.ema.network):
        network.register_forward_pre_hook(lambda module, args: asked.append(args))
    method.draw = Draws((0, "", 0, "student"), 0, 12, 1)
    label = torch.tensor([0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1])
    method.loss({"x0": torch.randn(12, 2), "label": label}, "student")
    far, own = method.chosen(0.25), asked[-1][2]["label"]
    told = [cond["label"] for x, _, cond in asked if len(x) == len(far)]
    assert len(told) == (2 if case == "shortcut" else 1)
    assert own[far].any()
    assert all(label.equal(own[far]) for label in told)


@cases
def test_terms_see_the_x0_of_one_step(case):
    """From where the loss asked last, and told the labels that it told there."""
    config = replace(config_of(case, True), label_dropout=0.5)
    terms = {"adversarial_weight": 0.3, "perceptual": PerceptualConfig(weight=0.2)}
    plain, method = (  # on a path whose noise level is the time
        make(case, config=replace(config, **more), classes=3, path=Cosine()) for more in ({}, terms)
    )
    method.frozen_roles["perceptual"] = lambda made, goal: (made - goal).square().sum(1)
    rows, seen, asked = {"x0": torch.randn(12, 2), "label": torch.arange(12) % 3}, [], []
    for each in (plain, method):
        each.draw = Draws((0, "", 0, "student"), 0, 12, 1)
    network = method.student.network
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    plain.student.network.load_state_dict(network.state_dict())
    plain.averaged.load_state_dict(method.averaged.state_dict())
    network.register_forward_pre_hook(lambda module, args: asked.append(args))
    method.critic.register_forward_hook(lambda module, args, out: seen.append(out))
    losses = method.loss(rows, "student")
    assert [bool(cond["second_time"].any()) for _, _, cond in asked[-2:]] == [True, False]
    xt, t, cond = asked[-2]  # the terms have asked once more, both together
    assert 0 < cond["label"].eq(3).sum() < 12
    made = xt - t[:, None] * network(xt, t, {**cond, "second_time": torch.zeros(12)})
    apart, game = (made - rows["x0"]).square().sum(1).mean(), F.softplus(-seen[0]).mean()
    torch.testing.assert_close(losses["perceptual"], apart)
    torch.testing.assert_close(losses["gan"], game)
    own = plain.loss(rows, "student")["loss"]
    torch.testing.assert_close(losses["loss"], own + 0.2 * apart + 0.3 * game)
    for x0, same in ((torch.zeros(12, 2), False), (rows["x0"], True)):  # of each batch its own
        method.draw = Draws((0, "", 0, "student"), 0, 12, 1)
        assert torch.allclose(method.imagine({**rows, "x0": x0}), made) == same
    assert len(seen) == 1  # no critic looks while a sample is made
    network.zero_grad()
    losses["gan"].backward()
    assert all(p.grad is not None for p in network.parameters())

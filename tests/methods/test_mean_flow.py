"""Mean flow: its target against closed forms, its derivative, times, weight and guidance."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from exact_maps import MEAN, STD, UNIT, Double, ExactMap, data
from small import make
from torch import nn

from gendiff.data.toy import GaussianMixture
from gendiff.methods.flow_map import FlowMap
from gendiff.methods.mean_flow import (
    MeanFlow,
    MeanFlowConfig,
    MeanFlowDistillation,
    MeanFlowDistillationConfig,
)
from gendiff.networks.mlp import MLP, MLPConfig
from gendiff.networks.unet import UNet, UNetConfig
from gendiff.paths import VE, Cosine, Linear
from gendiff.seeding import Draws

named = pytest.mark.parametrize("path", UNIT, ids=lambda path: type(path).__name__)


def exact(cls, path, std, n=512, **settings):
    """A method whose student is the exact map of the Gaussian, which a teacher knows too."""
    teacher = GaussianMixture([1.0], [MEAN], [std or 1.0]).denoiser(path)
    frozen = {role: SimpleNamespace(network=nn.Module()) for role in cls.frozen}
    config = cls.Config(**settings)
    networks = {"student": ExactMap(path, std)}
    method = make(cls, config=config, networks=networks, path=path, frozen=frozen)
    method.teacher, method.draw = teacher, Double((0,), 0, n, 1)
    return method


# ---- the target ----------------------------------------------------------------------------------


@named
@pytest.mark.parametrize(("cls", "std"), [(MeanFlow, 0.0), (MeanFlowDistillation, STD)])
def test_the_exact_map_has_nothing_to_learn(cls, std, path):
    """For a single point a pair's velocity is the flow's; a teacher's always is."""
    method = exact(cls, path, std, apart=0.5, weight_power=0.0)
    loss = method.loss(data(512, std), "student")["loss"]
    loss.backward()
    assert loss < 1e-12
    assert method.student.network.scale.grad.abs().max() < 1e-9
    with torch.no_grad():
        method.student.network.scale.mul_(1.1)
    method.draw = Double((0,), 0, 512, 1)
    assert method.loss(data(512, std), "student")["loss"] > 1e-4


@pytest.mark.parametrize("path", [Cosine(), Linear()], ids=lambda path: type(path).__name__)
def test_pairs_pull_nowhere_on_average(path):
    """A pair's target is off, but not in the mean over the pairs that meet: its slope is 0."""
    n, slopes = 4000, []
    method = exact(MeanFlow, path, STD, apart=1.0, weight_power=0.0)
    for batch in range(12):
        method.draw = Double((batch,), 0, n, n)
        method.loss(data(n, STD), "student")["loss"].backward()
        slopes.append(method.student.network.scale.grad.clone())
        method.student.network.scale.grad = None
    slopes = torch.stack(slopes)
    error = slopes.std(0) / len(slopes) ** 0.5
    assert (slopes.mean(0).abs() < 4 * error).all()
    assert (error < 0.05).all()


def networks(kind):
    conditions = {"second_time": 1, "label": 3}
    if kind == "mlp":
        return MLP(MLPConfig(width=16, depth=1, conditions=conditions), (2,), 2), (2,)
    config = UNetConfig(
        channels=8, multipliers=[1, 2], attention=[4], head_channels=8, conditions=conditions
    )
    return UNet(config, (1, 8, 8), 1), (1, 8, 8)


@pytest.mark.parametrize("path", [*UNIT, VE()], ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("kind", ["mlp", "unet"])
def test_the_slope_is_that_along_the_flow(kind, path):
    network, shape = networks(kind)
    network = network.double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    method = make(MeanFlow, networks={"student": network}, path=path, shape=shape)
    xt, v = torch.randn(2, 3, *shape, dtype=torch.float64)
    t, s = torch.tensor([[0.9, 0.5, 0.3], [0.1, 0.2, 0.0]], dtype=torch.float64) * path.t_max
    cond, step = {"label": torch.tensor([0, 1, 3])}, 1e-7 * path.t_max
    u = [
        method.student.mean_velocity(xt + sign * step * v, t + sign * step, s, cond)
        for sign in (1, -1)
    ]
    slope = method.slope(xt, t, s, v, cond)
    torch.testing.assert_close(slope, (u[0] - u[1]) / (2 * step), rtol=1e-4, atol=1e-5)


def test_times_and_who_learns_a_long_way():
    method, n, seen = make(MeanFlow), 8000, []
    method.draw = Draws((0,), 0, n, 8)
    t, s = method.draw_times()
    assert (s > 0).all()
    assert (s <= t).all()
    assert (t <= 1).all()
    both = torch.cat([t, s]).logit()
    assert both.mean().item() == pytest.approx(-0.4, abs=0.05)
    assert both.std().item() == pytest.approx(1.0, abs=0.05)
    for share in (0.0, 0.25, 0.3, 1.0):
        method.draw = Draws((0,), 0, 40, 8)
        whole = method.chosen(share)
        assert len(whole) == 40 * share
        parts = []
        for first in (0, 16, 32):
            method.draw = Draws((0,), first, min(16, 40 - first), 8)
            parts.append(method.chosen(share) + first)
        assert torch.cat(parts).equal(whole)

    class Watched(FlowMap):
        def mean_velocity(self, xt, t, s, cond):
            seen.append((len(xt), (t != s).sum().item()))
            return super().mean_velocity(xt, t, s, cond)

    method.draw = Draws((0,), 0, 40, 8)
    method.student = Watched(method.networks["student"], method.path)
    method.loss({"x0": torch.randn(40, 2)}, "student")
    assert seen == [(10, 10), (40, 10)]  # the derivative's, then the loss's


@pytest.mark.parametrize(("power", "offset"), [(0.0, 1e-3), (0.5, 0.1), (1.0, 1e-3)])
def test_the_weight_is_no_part_of_the_slope(power, offset):
    """A student that is off by (0.3, -0.4) everywhere: the squared error is 0.25."""
    off = torch.tensor([0.3, -0.4], dtype=torch.float64, requires_grad=True)

    class Off(ExactMap):
        def forward(self, x, level, cond):
            return super().forward(x, level, cond) + off

    config = MeanFlowConfig(apart=0.0, weight_power=power, weight_offset=offset)
    networks = {"student": Off(Linear(), 0.0)}
    method = make(MeanFlow, config=config, networks=networks, path=Linear())
    method.draw = Double((0,), 0, 16, 1)
    losses = method.loss(data(16, 0.0), "student")
    losses["loss"].backward()
    weight = (0.25 + offset) ** -power
    assert losses["loss"].item() == pytest.approx(weight * 0.25)
    assert losses["square"].item() == pytest.approx(0.25)
    torch.testing.assert_close(off.grad, 2 * weight * off.detach())


# ---- guidance ------------------------------------------------------------------------------------


class Labels(nn.Module):
    """Puts out 10 for the first class, 20 for the second, 1 without a label."""

    def forward(self, x, level, cond):
        label = cond.get("label", torch.full((len(x),), 2))
        return torch.tensor([10.0, 20.0, 1.0])[label][:, None].expand_as(x)


@pytest.mark.parametrize(
    ("omega", "kappa", "wanted", "calls"),
    [
        (1.0, 0.0, lambda v, own: v, 0),
        (3.0, 0.0, lambda v, own: 3 * v - 2 * 1.0, 1),
        (2.0, 0.5, lambda v, own: 2 * v + 0.5 * own - 1.5 * 1.0, 2),
        (0.4, 0.6, lambda v, own: 0.4 * v + 0.6 * own, 2),
    ],
)
def test_guidance_is_in_the_target(omega, kappa, wanted, calls):
    config = MeanFlowConfig(omega=omega, kappa=kappa)
    method = make(MeanFlow, config=config, networks={"student": Labels()}, path=Linear(), classes=2)
    x0, eps, t = torch.randn(3, 2), torch.randn(3, 2), torch.tensor([0.3, 0.5, 0.9])
    label = torch.tensor([0, 1, 2])  # the last one hidden
    v = eps - x0
    found = method.velocity(x0, eps, method.path.add_noise(x0, eps, t), t, {"label": label})
    expected = wanted(v, torch.tensor([[10.0], [20.0], [0.0]]))
    expected[2] = v[2]
    torch.testing.assert_close(found, expected)
    assert method.student.nfe == calls


def test_a_teacher_is_guided():
    frozen = {"teacher": FlowMap(Labels(), Linear())}
    config = MeanFlowDistillationConfig(omega=3.0)
    networks = {"student": Labels()}
    method = make(
        MeanFlowDistillation, config=config, networks=networks, path=Linear(), frozen=frozen
    )
    label, x = torch.tensor([0, 1, 2]), torch.zeros(3, 2)
    found = method.velocity(x, x, x, torch.full((3,), 0.5), {"label": label})
    torch.testing.assert_close(found[:, 0], torch.tensor([28.0, 58.0, 1.0]))

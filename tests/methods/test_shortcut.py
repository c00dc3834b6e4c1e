"""Shortcut models: targets against closed forms, which steps are learned and which are taken."""

from __future__ import annotations

import pytest
import torch
from exact_maps import STD, Double, ExactMap, data, exact_map, figures, learn
from small import make
from torch import nn

from gendiff.config import compose
from gendiff.errors import UserError
from gendiff.methods.flow_map import FlowMap
from gendiff.methods.shortcut import Shortcut, ShortcutConfig
from gendiff.networks.unet import UNet, UNetConfig
from gendiff.paths import VP, Cosine, Linear, Trig
from gendiff.seeding import Draws

UNIT = [VP(), Cosine(), Linear(), Trig(0.7)]
named = pytest.mark.parametrize("path", UNIT, ids=lambda path: type(path).__name__)


class Watched(FlowMap):
    """Remembers the times it was asked for."""

    def __init__(self, *args):
        super().__init__(*args)
        self.seen = []

    def mean_velocity(self, xt, t, s, cond):
        self.seen.append((t, s))
        return super().mean_velocity(xt, t, s, cond)


@named
def test_two_exact_steps_make_an_exact_one(path):
    """Down to the shortest, whose halves are the velocity's: they meet the truth as d falls."""
    method = make(Shortcut, networks={"student": ExactMap(path, STD)}, path=path)
    steps = torch.tensor([1.0, 2.0, 2.0, 64.0, 128.0, 128.0]).double()
    i = torch.tensor([1.0, 1.0, 2.0, 40.0, 60.0, 128.0]).double()
    d = path.t_max / steps
    xt = torch.randn(6, 2, dtype=torch.float64)
    truth = (xt - exact_map(path, xt, i * d, (i - 1) * d, STD)) / d[:, None]
    found = method.two_steps(xt, i, d, {})
    torch.testing.assert_close(found[:4], truth[:4], rtol=0, atol=1e-6)
    error = (found - truth)[4:].abs().max()
    assert 1e-6 < error < 0.05


def test_the_shortest_step_asks_for_the_velocity():
    method = make(Shortcut, config=ShortcutConfig(finest=4), path=Linear())
    method.ema = Watched(method.averaged["ema"], method.path)
    i, d = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 0.5, 0.25])
    method.two_steps(torch.randn(3, 2), i, d, {})
    first, second = method.ema.seen
    for found, wanted in zip(first, ([1, 1, 0.75], [0.5, 0.75, 0.75]), strict=True):
        assert found.tolist() == wanted
    for found, wanted in zip(second, ([0.5, 0.75, 0.625], [0, 0.5, 0.625]), strict=True):
        assert found.tolist() == wanted


@named
def test_the_exact_map_has_little_to_learn(path):
    """For a single point a pair's velocity is the flow's; what is left is the shortest steps'."""
    losses = []
    for finest in (1, 512):
        config = ShortcutConfig(finest=finest, consistent=0.5)
        method = make(Shortcut, config=config, networks={"student": ExactMap(path, 0.0)}, path=path)
        method.draw = Double((0,), 0, 256, 4)
        losses.append(method.loss(data(256, 0.0), "student")["loss"].item())
    straight = isinstance(path, Linear)
    assert losses[1] < (1e-12 if straight else 2e-3)
    assert losses[0] < 1e-12 if straight else losses[0] > 10 * losses[1]


@pytest.mark.parametrize(("consistent", "finest"), [(0.25, 8), (0.5, 1), (0.0, 8), (1.0, 4)])
def test_which_steps_are_learned(consistent, finest):
    config, n = ShortcutConfig(finest=finest, consistent=consistent), 1600
    method = make(Shortcut, config=config, path=Linear())
    method.student = Watched(method.networks["student"], method.path)
    method.draw = Draws((0,), 0, n, 25)
    method.loss({"x0": torch.randn(n, 2)}, "student")
    ((t, s),) = method.student.seen
    far = method.chosen(consistent)
    flow = torch.ones(n, dtype=torch.bool).index_fill(0, far, False)
    assert t[flow].equal(s[flow])
    assert len(far) == n * consistent
    if 0 < consistent < 1:
        assert t[flow].mean().item() == pytest.approx(0.5, abs=0.03)
    steps = 1 / (t - s)[far]
    torch.testing.assert_close(t[far] * steps, (t[far] * steps).round())
    lengths = 2 ** torch.arange(finest.bit_length())
    shares = (steps[:, None] == lengths).float().mean(0) if len(far) else torch.zeros(0)
    assert ((shares * len(lengths) - 1).abs() < 0.35).all()
    for count in lengths if len(far) else ():  # each of the steps on the way is learned
        places = (t[far] * count)[steps == count].unique()
        assert places.tolist() == list(range(1, count + 1))


def test_targets_are_of_the_averaged_weights():
    method = make(Shortcut, config=ShortcutConfig(consistent=1.0), path=Linear())
    batch = {"x0": torch.randn(16, 2)}
    losses = []
    for network in (None, "averaged", "networks"):
        if network:
            for parameter in getattr(method, network).parameters():
                parameter.data += 0.3
        method.draw = Draws((0,), 0, 16, 1)
        loss = method.loss(batch, "student")["loss"]
        losses.append(loss.item())
    assert len(set(losses)) == 3
    loss.backward()
    assert all(p.grad is None for p in method.averaged.parameters())
    assert any(p.grad is not None for p in method.networks.parameters())


def test_images_are_learned_too():
    config = UNetConfig(channels=8, multipliers=[1, 2], attention=[4], head_channels=8)
    config.conditions.update(second_time=1, label=3)
    networks = {"student": UNet(config, (1, 8, 8), 1)}
    method = make(Shortcut, networks=networks, path=Cosine(), shape=(1, 8, 8), classes=3)
    for parameter in networks["student"].parameters():
        nn.init.normal_(parameter, std=0.1)
    method.draw = Draws((0,), 0, 8, 1)
    batch = {"x0": torch.randn(8, 1, 8, 8), "label": torch.arange(8) % 3}
    method.loss(batch, "student")["loss"].backward()
    grads = [parameter.grad for parameter in networks["student"].parameters()]
    assert all(grad is not None and grad.isfinite().all() for grad in grads)
    assert method.sample(2, 2, labels=torch.tensor([0, 2])).shape == (2, 1, 8, 8)


def test_it_learns_the_mixtures_map():
    """True samples are 0.001 apart in energy, points of the data 1.1."""
    method = learn(300, name="shortcut", finest=8)
    one, two = (figures(method, steps) for steps in (1, 4))
    assert one[0] < 0.1
    assert two[0] < 0.03
    assert one[1] < 0.5 * figures(method, 1, "ddim")[1]


RAW = {
    "data": {"name": "mixture"},
    "networks": {"student": {"name": "mlp", "width": 8, "conditions": {"second_time": 1}}},
    "path": {"name": "linear"},
    "method": {"name": "shortcut", "finest": 16},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": {"finest": 12}}, "method.finest: 12 must be a power of two"),
        ({"method": {"finest": 0}}, "method.finest: 0 must be at least 1"),
        ({"method": {"consistent": -0.5}}, "method.consistent: -0.5 must be in [0, 1]"),
        ({"path": {"name": "ve"}}, "method.name: shortcut takes evenly spaced times"),
        ({"evaluation": {"steps": [1, 3]}}, "evaluation.steps: shortcuts come by powers of two"),
        ({"evaluation": {"steps": [32]}}, "evaluation.steps: shortcuts come by powers of two up"),
        (
            {"evaluation": {"steps": [2], "samplers": ["flow_map@log_snr"]}},
            "evaluation.samplers: 'flow_map' takes steps of one length here",
        ),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    method = {**RAW["method"], **change.get("method", {})}
    with pytest.raises(UserError) as refused:
        compose({**RAW, **change, "method": method}, "x")
    assert message in str(refused.value)


def test_other_samplers_take_any_steps():
    method = make(Shortcut, config=ShortcutConfig(finest=4))
    for steps, sampler in ((4, "flow_map"), (3, "ddim"), (5, "heun@log_snr")):
        assert method.sample(3, steps, sampler=sampler).isfinite().all()
    with pytest.raises(UserError, match="shortcuts come by powers of two up to 4, not 8"):
        method.sample(3, 8)

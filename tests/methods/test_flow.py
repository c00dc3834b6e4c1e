"""Flow matching: what it is of diffusion, its couplings, and the straightness it logs."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import Callback
from small import BATCH, fit, make

from gendiff.config import compose
from gendiff.denoiser import Denoiser
from gendiff.errors import UserError
from gendiff.methods.diffusion import Diffusion, DiffusionConfig
from gendiff.methods.flow import SAMPLES, Flow, FlowConfig
from gendiff.methods.online_reflow import OnlineReflow, OnlineReflowConfig
from gendiff.methods.reflow import Reflow, ReflowConfig
from gendiff.networks.mlp import MLP, MLPConfig
from gendiff.paths import VP, DiscreteLinear, Linear
from gendiff.seeding import Draws, sample_noise
from gendiff.straightness import straightness


class Record(Callback):
    """Losses of all batches, with the state that each left."""

    def __init__(self):
        self.losses, self.last = [], {}

    def on_train_batch_end(self, trainer, method, *rest):
        self.losses.append({name: value.item() for name, value in method.losses.items()})


def trained(cls, *callbacks, **settings):
    method = make(cls, **settings)
    record = Record()
    fit(method, record, *callbacks)
    return method, record.losses


@pytest.fixture(scope="module")
def flow():
    """A short run with optimal couplings, that logs straightness in batches 3 and 6."""
    return trained(Flow)


def test_it_is_diffusion_that_predicts_the_velocity():
    ends = [
        trained(Flow, config=FlowConfig()),
        trained(Diffusion, config=DiffusionConfig(prediction="velocity")),
    ]
    assert ends[0][1] == ends[1][1]
    wanted = ends[1][0].state_dict()
    assert all(value.equal(wanted[name]) for name, value in ends[0][0].state_dict().items())


@pytest.mark.parametrize(
    ("prediction", "native"), [("velocity", None), ("v", None), ("v", "cosine"), ("velocity", "vp")]
)
@pytest.mark.parametrize("loss", ["squared", "pseudo_huber"])
def test_the_loss_is_of_the_velocity_whatever_the_network_puts_out(prediction, native, loss):
    path = Linear()
    network = MLP(MLPConfig(width=8, depth=1), (2,), 2).double()
    config = FlowConfig(prediction=prediction, native=native, loss=loss)
    method = Flow(config, {"student": network}, path, shape=(2,))
    batch = {"x0": torch.randn(32, 2, dtype=torch.float64)}
    method.draw = Draws(("loss",), 0, 32, 1)
    found = method.loss(batch, "student")["loss"]
    method.draw = Draws(("loss",), 0, 32, 1)
    (x0, eps), (t, _) = method.couple(batch), method.draw_times()
    error = method.student(path.add_noise(x0, eps, t), t).velocity - (eps - x0)
    square, c = error.square().sum(1), 2 * 0.00054
    wanted = square / 2 if loss == "squared" else ((square + c * c).sqrt() - c) / 2
    torch.testing.assert_close(found, wanted.mean(), rtol=1e-4, atol=0)


def test_optimal_couplings_are_nearer_and_block_by_block():
    method = make(Flow, max_steps=1)
    batch = {"x0": torch.randn(BATCH, 2), "label": torch.arange(BATCH) % 2}
    distances = []
    for config in (FlowConfig(), method.config):
        method.config, method.draw = config, Draws(("couple",), 0, BATCH, 1)
        x0, eps = method.couple(batch)
        assert x0.equal(batch["x0"])
        distances.append((x0 - eps).square().sum())
    plain = Draws(("couple",), 0, BATCH, 1).normal(2)
    for part in torch.arange(BATCH).split(4):
        assert eps[part].sum(0).allclose(plain[part].sum(0))
    method.classes = 2
    method.draw = Draws(("couple",), 0, BATCH, 1)
    _, within = method.couple(batch)
    for kind in (0, 1):
        assert within[kind::2].sum(0).allclose(plain[kind::2].sum(0))
    assert distances[1] < (x0 - within).square().sum() < distances[0]


def test_parts_of_a_batch_change_nothing(flow):
    whole, parts = flow[0].state_dict(), trained(Flow, accumulate=2)[0].state_dict()
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=0, atol=1e-5)


def test_straightness_is_logged_now_and_then(flow):
    method, losses = flow
    assert [("straightness" in row) for row in losses] == [False, False, True] * 2
    noise = sample_noise(method.seed, 0, SAMPLES, (2,), torch.device("cpu"))(-1)
    seen = straightness(method.ema, noise, {}, 8)["straightness"]
    assert losses[-1]["straightness"] == pytest.approx(seen, rel=1e-6)
    assert losses[-1]["straightness"] > 0
    plain = FlowConfig(coupling="optimal", coupling_size=4)
    other, silent = trained(Flow, config=plain)
    assert [{"loss": row["loss"]} for row in losses] == silent  # looking changes nothing
    for name, value in method.state_dict().items():
        assert value.equal(other.state_dict()[name])


def test_straightness_takes_the_labels_in_turn():
    method = make(Flow)
    method.classes, seen = 3, []
    method.ema = lambda x, t, cond: seen.append(cond["label"]) or Denoiser(Zero(), VP(), "v")(x, t)
    method.ema.path = VP()
    method.straightness()
    assert all(label.equal(torch.arange(SAMPLES) % 3) for label in seen)


class Zero(torch.nn.Module):
    def forward(self, x, level, cond):
        return torch.zeros_like(x)


@pytest.mark.parametrize(
    ("cls", "config", "path", "message"),
    [
        (Flow, FlowConfig(coupling_size=0), Linear(), "^coupling_size: 0 must be at least 1"),
        (Flow, FlowConfig(straightness_every=-1), Linear(), "^straightness_every: -1"),
        (Flow, FlowConfig(prediction="eps"), Linear(), "^prediction: eps does not fit Linear"),
        (Flow, FlowConfig(prediction="v"), DiscreteLinear(), "^weight: velocity needs"),
        (Reflow, ReflowConfig(coupling="optimal"), Linear(), "^coupling: reflow couples"),
        (OnlineReflow, OnlineReflowConfig(coupling="optimal"), Linear(), "^coupling: online_refl"),
        (OnlineReflow, OnlineReflowConfig(solver_steps=0), Linear(), "^solver_steps: 0"),
    ],
)
def test_impossible_choices_are_refused(cls, config, path, message):
    with pytest.raises(ValueError, match=message):
        cls.check(config, path)


@pytest.mark.parametrize(
    ("batch", "accumulate", "size", "fits"),
    [(64, 1, 64, True), (64, 2, 32, True), (96, 1, 64, False), (64, 2, 64, False)],
)
def test_batches_are_whole_groups(batch, accumulate, size, fits):
    raw = {
        "data": {"name": "mixture", "batch_size": batch},
        "networks": {"student": {"name": "mlp"}},
        "path": {"name": "linear"},
        "method": {"name": "flow", "coupling": "optimal", "coupling_size": size},
        "hardware": {"accumulate": accumulate},
    }
    if fits:
        assert compose(raw, "a").method.mixes == size
        return
    with pytest.raises(UserError, match=f"a: data.batch_size: .* whole groups of {size}, which fl"):
        compose(raw, "a")

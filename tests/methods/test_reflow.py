"""Reflow of any order: exact pairs leave no loss, real ones straighten the flow, rounds chain."""

from __future__ import annotations

import pytest
import torch
from small import make
from torch import nn

from gendiff.cli import main
from gendiff.couplings import solve, solver
from gendiff.data.base import Rows
from gendiff.data.toy import GaussianMixture
from gendiff.methods.online_reflow import OnlineReflow, OnlineReflowConfig
from gendiff.methods.reflow import Reflow, ReflowConfig
from gendiff.networks.mlp import MLP, MLPConfig
from gendiff.optim import OptimConfig, make_optimizer
from gendiff.paths import Cosine, Linear
from gendiff.pipeline.stages import load_pipeline
from gendiff.seeding import Draws
from gendiff.straightness import straightness

MEAN, STD = torch.tensor([0.5, -1.0]), 0.3


class Straight(nn.Module):
    """The velocity of the pairs (mu + std eps, eps): where x_t lies on one line alone."""

    def forward(self, x, level, cond):
        angle = level[:, None] * torch.pi / 2
        t = angle.sin() / (angle.sin() + angle.cos())
        eps = (x - (1 - t) * MEAN) / ((1 - t) * STD + t)
        return eps - MEAN - STD * eps


def online(teacher, steps, network=None):
    config = OnlineReflowConfig(solver_steps=steps)
    method = make(OnlineReflow, config=config)
    method = OnlineReflow(
        config, {"student": network or Straight()}, Linear(), method.frozen_roles, shape=(2,)
    )
    method.teacher = teacher
    method.draw = Draws(("online",), 0, 64, 1)
    return method


@pytest.mark.parametrize("path", [Linear(), Cosine()])
def test_online_pairs_are_where_the_teachers_flow_ends(path):
    """Of a Gaussian: x0 = mu + std eps, which a network that knows it fits without loss."""
    method = online(GaussianMixture([1.0], [MEAN.tolist()], [STD]).denoiser(path), 300)
    batch = {"x0": torch.full((64, 2), torch.nan)}  # the data are not looked at
    x0, eps = method.couple(batch)
    torch.testing.assert_close(x0, MEAN + STD * eps, rtol=0, atol=0.02)
    assert not x0.requires_grad
    assert method.loss(batch, "student")["loss"] < 1e-3


def test_online_teachers_are_told_the_labels_and_guided():
    method = online(None, 2)
    method.classes, seen = 3, []
    exact = GaussianMixture([1.0], [[0.0, 0.0]], [1.0]).denoiser(Linear())

    def teacher(x, t, cond):
        seen.append(cond.get("label"))
        return exact(x, t)

    teacher.path = Linear()
    method.teacher, method.config = teacher, OnlineReflowConfig(solver_steps=2, guidance=1.0)
    label = torch.arange(64) % 3
    method.couple({"label": label})
    assert [None if one is None else one.equal(label) for one in seen] == [True, None] * 2


def test_reflow_straightens_the_flow(gm2):
    """Liu et al. 2023, Theorem 3.7: on the exact pairs of a mixture, after 300 batches."""
    teacher, generator = gm2.denoiser(Linear()), torch.Generator().manual_seed(0)
    eps = torch.randn(4096, 2, generator=generator)
    with torch.no_grad():
        x0 = solve(solver("ddim", teacher.path, 40), teacher, eps, 40)
    rows = Rows(x0=x0, eps=eps)
    network = MLP(MLPConfig(width=64, depth=2), (2,), 2)
    method = Reflow(ReflowConfig(), {"student": network}, Linear(), shape=(2,))
    optimizer = make_optimizer(OptimConfig(lr=3e-3), network.parameters())
    for step in range(300):
        method.draw = Draws((0, "reflow", step), 0, 256, 4)
        batch = rows.__getitems__(torch.randint(4096, (256,), generator=generator).tolist())
        optimizer.zero_grad()
        method.loss(batch, "student")["loss"].backward()
        optimizer.step()
    noise = torch.randn(256, 2, generator=generator)
    before, after = (straightness(d, noise)["straightness"] for d in (teacher, method.student))
    assert after < 0.35 * before


def test_rounds_chain(tmp_path, capsys):
    """Each round starts from the one before, on pairs that it made."""
    stages = load_pipeline("mixture_straight", []).stages
    for before, pairs, after in (
        ("flow", "first_pairs", "first_reflow"),
        ("first_reflow", "second_pairs", "second_reflow"),
    ):
        assert stages[pairs].init["teacher"].stage == before
        sources = stages[after].init
        assert (sources["student"].stage, sources["pairs"].stage) == (before, pairs)
    assert main(["run", "mixture_straight", "--dry-run", "--dir", str(tmp_path / "run")]) == 0
    told = capsys.readouterr().out + capsys.readouterr().err
    assert all(name in told for name in stages)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": "ddim(eta=1.0)"}, "sampler: eta adds noise"),
        ({"sampler": "ancestral"}, "sampler: 'ancestral' does not fit"),
        ({"guidance": float("nan")}, "guidance: nan must be finite"),
        ({"solver_steps": 0}, "solver_steps: 0 must be at least 1"),
    ],
)
def test_an_online_teacher_must_be_a_function_of_its_noise(settings, message):
    with pytest.raises(ValueError, match=message):
        OnlineReflow.check(OnlineReflowConfig(**settings), Linear())

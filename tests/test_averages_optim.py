"""Averages against a replay, and the learning rate as a function of the step."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from gendiff.averages import average_of, decay_at, update
from gendiff.optim import OptimConfig, lr_factor, make_optimizer, set_lr


def test_average_is_a_replay_in_double_precision():
    torch.manual_seed(0)
    live = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = average_of(live)
    replay = {name: p.detach().double() for name, p in live.named_parameters()}
    for step in range(200):
        for parameter in live.parameters():
            nn.init.normal_(parameter)
        live(torch.randn(5, 3))
        decay = decay_at(step, 0.95)
        update(average, live, decay)
        for name, p in live.named_parameters():
            replay[name] = decay * replay[name] + (1 - decay) * p.detach().double()
    for name, p in average.named_parameters():
        torch.testing.assert_close(p.double(), replay[name], rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(average.buffers(), live.buffers(), strict=True):
        assert mine.equal(theirs)


def test_average_is_frozen_and_its_own():
    live = nn.Linear(2, 2)
    average = average_of(live)
    assert not average.training
    assert live.training
    assert not any(p.requires_grad for p in average.parameters())
    assert all(p.requires_grad for p in live.parameters())
    nn.init.zeros_(live.weight)
    assert average.weight.abs().sum() > 0


def test_decay_warms_up():
    decays = [decay_at(step, 0.99) for step in range(2000)]
    assert decays[0] == 0.1
    assert decays[90] == pytest.approx(0.91)
    assert decays == sorted(decays)
    assert decays[-1] == 0.99


@pytest.mark.parametrize(
    ("schedule", "middle", "end"),
    [("constant", 1.0, 1.0), ("cosine", 0.5, 0.0), ("linear", 0.5, 0.0)],
)
@pytest.mark.parametrize("warmup", [0, 20])
def test_lr_shape(schedule, middle, end, warmup):
    config, last = OptimConfig(schedule=schedule, warmup_steps=warmup), 220
    factors = [lr_factor(config, step, last) for step in range(last + 1)]
    rise, fall = factors[:warmup], factors[warmup:]
    assert rise == pytest.approx([(step + 1) / (warmup + 1) for step in range(warmup)])
    assert fall[0] == 1
    assert fall[len(fall) // 2] == pytest.approx(middle)
    assert fall[-1] == pytest.approx(end)
    assert fall == sorted(fall, reverse=True)
    assert min(factors[:-1]) > 0
    # no jumps: the steepest is the warm-up's, or the middle of the cosine's fall
    steepest = max(1 / (warmup + 1) if warmup else 0, 1.6 / len(fall))
    assert max(abs(a - b) for a, b in pairwise(factors)) < 1.001 * steepest


def test_cosine_is_above_the_line_first():
    early = [lr_factor(OptimConfig(schedule=s), 25, 100) for s in ("cosine", "linear")]
    assert early == pytest.approx([0.5 + 0.5**1.5, 0.75])


def test_set_lr():
    optimizer = make_optimizer(OptimConfig(), nn.Linear(2, 2).parameters())
    set_lr(optimizer, 0.125)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125]


@pytest.mark.parametrize("name", ["adam", "adamw", "radam"])
def test_optimizer_is_the_one_asked_for(name):
    config = OptimConfig(name=name, lr=0.01, betas=[0.5, 0.75], weight_decay=0.125)
    optimizer = make_optimizer(config, nn.Linear(2, 2).parameters())
    assert type(optimizer).__name__.lower() == name
    group = optimizer.param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.01, (0.5, 0.75), 0.125)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.0}, "^lr:"),
        ({"lr_by_role": {"critic": -1.0}}, "^lr"),
        ({"betas": [0.9]}, "^betas:"),
        ({"betas": [0.9, 1.0]}, "^betas:"),
        ({"ema_decay": 1.0}, "^ema_decay: 1.0"),
        ({"weight_decay": -0.1}, "^weight_decay: -0.1"),
        ({"warmup_steps": -1}, "^warmup_steps: -1"),
        ({"clip_norm": -1.0}, "^clip_norm: -1.0"),
    ],
)
def test_check_names_the_key(change, message):
    OptimConfig().check()
    with pytest.raises(ValueError, match=message):
        replace(OptimConfig(), **change).check()

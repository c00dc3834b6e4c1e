"""Consistency training: neighbours share their noise, and the defaults are iCT's."""

from __future__ import annotations

import torch
from small import learn, make

from gendiff.methods.consistency_training import ConsistencyTraining, ConsistencyTrainingConfig
from gendiff.methods.neighbours import ict_distance
from gendiff.paths import EDM
from gendiff.samplers import time_grid
from gendiff.seeding import Draws


def test_loss_is_improved_consistency_trainings():
    """Algorithm 3 with iCT's choices, in their sigma, written out."""
    config = ConsistencyTrainingConfig(prediction="edm", first_intervals=10, intervals=20)
    method, x0 = make(ConsistencyTraining, config=config, path=EDM()), torch.randn(64, 2)
    method.draw = Draws(("test",), 0, 64, 64)
    losses = method.loss({"x0": x0}, "student")
    draw = Draws(("test",), 0, 64, 64)
    sigma = time_grid(EDM(), 11, "karras")[:-1].flip(0)
    u = draw.uniform(dtype=torch.float64)
    mass = torch.special.ndtr((sigma.log() + 1.1) / 2).diff()
    i = (u[:, None] >= (mass / mass.sum()).cumsum(0)).sum(1)
    low, high, z = sigma[i], sigma[i + 1], draw.normal(2)
    noisy = lambda level: x0 + level.float()[:, None] * z  # noqa: E731
    goal = method.student(noisy(low), low.float()).x0
    goal[i == 0] = noisy(low)[i == 0]
    error = method.student(noisy(high), high.float()).x0 - goal
    wanted = (ict_distance(error).double() / (high - low)).mean()
    torch.testing.assert_close(losses["loss"].double(), wanted, rtol=1e-4, atol=0)
    assert losses["intervals"] == 10


def test_only_the_noisier_end_is_learned_from():
    method = make(ConsistencyTraining)
    method.draw = Draws(("test",), 0, 8, 8)
    plain, seen = method.student, []

    class Spy:
        def __call__(self, xt, t, cond):
            seen.append((torch.is_grad_enabled(), t))
            return plain(xt, t, cond)

    method.student = Spy()
    method.loss({"x0": torch.randn(8, 2)}, "student")
    (target, s), (student, t) = seen
    assert (target, student) == (False, True)
    assert (s < t).all()


def test_dropout_is_the_targets():
    """Both calls draw the same mask: what dropout does to x_t it does to x_s."""
    method = make(ConsistencyTraining)
    torch.manual_seed(3)
    with method.as_target():
        masks = [torch.rand(4)]
        assert not torch.is_grad_enabled()
    masks.append(torch.rand(4))
    assert torch.equal(*masks)


def test_learns_without_a_teacher():
    """From scratch; noise is 0.7 away."""
    config = ConsistencyTrainingConfig(
        prediction="edm", sigma_data=0.7, first_intervals=4, intervals=16
    )
    assert learn(ConsistencyTraining, config, EDM(), None, 1, 2) < 0.45

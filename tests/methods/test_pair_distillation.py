"""Distillation of pairs into one step: no loss where the step is exact, and one time alone."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from gendiff.errors import UserError
from gendiff.methods.pair_distillation import PairDistillation, PairDistillationConfig
from gendiff.paths import EDM, VP, Cosine, Linear
from gendiff.predictions import Kind, Reading
from gendiff.seeding import Draws

MEAN, STD = torch.tensor([0.5, -1.0]).double(), 0.3


class Known(nn.Module):
    """What says x0 = mu + std eps, off by so much in x0."""

    def __init__(self, reading, path, off=0.0):
        super().__init__()
        self.reading, self.path, self.off, self.levels = reading, path, off, []

    def forward(self, x, level, cond):
        self.levels.append(level)
        t = torch.full((len(x),), self.path.t_max).double()
        scale = self.reading.input_scale(self.path, t)
        xt = x if scale is None else x / scale[:, None]
        p, q = self.reading.to_x0(self.path, t)
        x0 = MEAN + STD * xt / self.path.sigma(t)[:, None] + self.off
        return (x0 - p[:, None] * xt) / q[:, None]


def make(kind, path, off=0.0, loss="squared"):
    config = PairDistillationConfig(prediction=kind, loss=loss)
    PairDistillation.check(config, path)
    network = Known(Reading(kind, config.sigma_data), path, off)
    method = PairDistillation(config, {"student": network}, path, shape=(2,))
    method.draw = Draws(("pairs",), 0, 32, 1)
    return method


def pairs():
    eps = torch.randn(32, 2, dtype=torch.float64)
    return {"x0": MEAN + STD * eps, "eps": eps, "label": torch.zeros(32, dtype=torch.long)}


FITTING = [
    (kind, path)
    for path in (Linear(), Cosine(), VP(), EDM())
    for kind in get_args(Kind)
    if isinstance(path, VP | EDM) or kind not in ("eps", "score")
]


@pytest.mark.parametrize(("kind", "path"), FITTING)
def test_an_exact_step_has_no_loss(kind, path):
    method = make(kind, path)
    assert method.loss(pairs(), "student")["loss"] < 1e-9
    (level,) = method.networks["student"].levels
    known = path.noise_level(torch.tensor(path.t_max)).float()
    torch.testing.assert_close(level.float(), known.expand(32))  # the noise end alone


@pytest.mark.parametrize(
    ("loss", "wanted"),
    [("squared", 0.25), ("pseudo_huber", ((0.5 + 0.00108**2) ** 0.5 - 0.00108) / 2)],
)
@pytest.mark.parametrize("path", [Linear(), VP()])
def test_losses_are_of_x0(loss, wanted, path):
    found = make("v", path, 0.5, loss).loss(pairs(), "student")["loss"]
    assert found.item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("path", [Linear(), VP(), EDM()])
def test_one_step_takes_noise_to_the_teachers_sample(path):
    method = make("v", path)
    x = method.sample(5, 1, role="student", seed=3)
    again = method.sample(5, 1, role="student", seed=3, sampler="ddim")
    assert x.equal(again)
    eps = (x.double() - MEAN) / STD
    torch.testing.assert_close(eps.mean(), torch.tensor(0.0).double(), rtol=0, atol=1.5)
    batch = {**pairs(), "eps": eps, "x0": x.double()}
    assert method.loss(batch, "student")["loss"] < 1e-9


@pytest.mark.parametrize(
    ("steps", "sampler", "message"),
    [
        (2, None, "steps: 2; this pair_distillation model takes 1 to 1"),
        (1, "ddim@vp", "own path and grid alone"),
        (1, "euler", "'euler' does not fit"),
    ],
)
def test_it_is_sampled_in_its_one_step_alone(steps, sampler, message):
    with pytest.raises(UserError, match=message):
        make("v", Linear()).sample(2, steps, sampler=sampler, role="student")


@pytest.mark.parametrize(
    ("kind", "native", "message"),
    [("eps", None, "^prediction: eps"), ("v", "nowhere", "^native: no path 'nowhere'")],
)
def test_impossible_predictions_are_refused(kind, native, message):
    config = PairDistillationConfig(prediction=kind, native=native)
    with pytest.raises(ValueError, match=message):
        PairDistillation.check(config, Linear())

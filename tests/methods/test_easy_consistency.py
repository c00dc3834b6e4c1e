"""Easy consistency tuning: the authors' loss, its stages, and its beginning in diffusion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small import Perfect, learn, make

from gendiff.denoiser import Denoiser
from gendiff.methods.easy_consistency import EasyConsistency, EasyConsistencyConfig
from gendiff.paths import EDM, VP, Cosine, DiscreteLinear
from gendiff.predictions import Reading
from gendiff.seeding import Draws

FILE = Path(__file__).parents[1] / "oracles" / "consistency.npz"
THEIRS = {k: torch.from_numpy(v) for k, v in np.load(FILE).items() if k.startswith("ect_")}


class Given:
    """Their random numbers for ours."""

    def normal(self, *shape):
        return THEIRS["ect_loss_eps"] if shape else THEIRS["ect_loss_rnd"].flatten()


@pytest.mark.parametrize("stage", [0, 3])
@pytest.mark.parametrize(("c", "key"), [(0.0, "c0p0"), (0.03, "c0p03")])
def test_loss_is_the_authors(stage, c, key):
    config = EasyConsistencyConfig(huber_c=c, stages=4)
    method = make(EasyConsistency, config=config, path=EDM(), max_steps=4, shape=(3, 4, 4))
    method.batches_done, method.draw = stage, Given()
    method.student = Denoiser(lambda x, level, cond: x.tanh(), EDM(), Reading("edm", 0.5))
    loss = method.loss({"x0": THEIRS["ect_loss_y"]}, "student")
    wanted = THEIRS[f"ect_loss_stage{stage}_{key}"].mean()
    torch.testing.assert_close(loss["loss"], wanted, rtol=1e-7, atol=1e-8)
    assert loss["stage"] == stage


def test_stages_are_equal_parts_of_training():
    method, seen = make(EasyConsistency, config=EasyConsistencyConfig(stages=3), max_steps=7), []
    for method.batches_done in range(9):
        seen.append(method.stage_now())
    assert seen == [0, 0, 0, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize(
    "path", [EDM(), VP(), Cosine(), DiscreteLinear()], ids=lambda p: type(p).__name__
)
def test_levels_are_the_same_on_every_path(path):
    """Log-normal in sigma / alpha, up to where the path ends."""
    method = make(EasyConsistency, config=EasyConsistencyConfig(), path=path)
    method.draw = Draws(("test",), 0, 4000, 4000)
    t, r = method.draw_levels()
    assert t.log().mean() == pytest.approx(-1.1, abs=0.12)
    assert t.log().std() == pytest.approx(2, rel=0.05)
    assert (r < t).all()
    assert (r == 0).any()
    method.draw = Draws(("test",), 0, 4000, 4000)
    assert method.loss({"x0": torch.randn(4000, 2)}, "student")["loss"].isfinite()


def test_loss_of_the_truth_falls_with_the_stages():
    """Without the weight 1 / (t - r): the distance goes with t - r, which a stage halves."""
    losses = []
    for stage in (6, 8, 10):
        method = make(EasyConsistency, config=EasyConsistencyConfig(stages=12), path=EDM())
        method.student, method.stage_now = Perfect(EDM()), lambda s=stage: s
        levels, weights = method.draw_levels, []

        def draw_levels(levels=levels, weights=weights):
            t, r = levels()
            weights.append(t - r)
            return t, r

        method.draw_levels = draw_levels
        method.draw = Draws(("test",), 0, 1000, 1000)
        x0 = Perfect.mean + Perfect.std * torch.randn(1000, 2, dtype=torch.float64)
        loss = method.loss({"x0": x0}, "student")["loss"]
        losses.append(float(loss) * float(weights[0].median()))
    assert losses[0] / losses[1] == pytest.approx(4, rel=0.25)
    assert losses[1] / losses[2] == pytest.approx(4, rel=0.25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": 0}, "^stages: 0"),
        ({"q": 1.0}, "^q: 1"),
        ({"q": 1e5, "stages": 8}, "^q: 100000"),
        ({"k": -1.0}, "^k: -1"),
        ({"huber_c": float("inf")}, "^huber_c: inf"),
        ({"times_std": -1.0}, "^times_std: -1"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    for path in (EDM(), DiscreteLinear()):
        EasyConsistency.check(EasyConsistencyConfig(prediction="x0"), path)
    with pytest.raises(ValueError, match=message):
        EasyConsistency.check(replace(EasyConsistencyConfig(), **change), VP())


def test_tunes_a_diffusion_model():
    """Which is 0.58 from the data in one step."""
    config = EasyConsistencyConfig(prediction="v", stages=4)
    away = learn(EasyConsistency, config, Cosine(), None, 1, 2, tuned=True, batches=100, lr=2e-3)
    assert away < 0.48

"""Losses by noise level: against plain means, over ranks, and of levels without samples."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from small import fit, make

from gendiff.methods.consistency import Consistency
from gendiff.methods.diffusion import Diffusion
from gendiff.methods.flow import Flow
from gendiff.methods.levels import LEVELS, level_means, level_sums
from gendiff.paths import Cosine


def left(path, *parts):
    return SimpleNamespace(path=path, seen=[(torch.tensor(t), torch.tensor(e)) for t, e in parts])


def test_each_error_counts_at_its_level():
    # on the cosine path the noise level is the time itself; ends belong to the outer levels
    ours = left(Cosine(), ([0.0, 0.1, 0.3], [1.0, 2.0, 4.0]), ([0.99, 1.0], [8.0, 16.0]))
    assert level_means(level_sums(ours)) == {"level-1": 1.5, "level-2": 4.0, "level-5": 12.0}


def test_levels_mean_the_same_on_every_path(path):
    t = torch.linspace(0.05, 0.95, 12) * path.t_max
    angle = torch.atan2(path.sigma(t), path.alpha(t)) / (math.pi / 2)
    error = torch.rand(12)
    found = level_means(level_sums(SimpleNamespace(path=path, seen=[(t, error)])))
    for k in range(LEVELS):
        mine = error[(angle >= k / LEVELS) & (angle < (k + 1) / LEVELS)]
        assert found.get(f"level-{k + 1}") == (pytest.approx(mine.mean()) if len(mine) else None)


def test_ranks_add_up_whatever_each_has():
    t, error = torch.rand(64), torch.rand(64)
    whole = level_sums(SimpleNamespace(path=Cosine(), seen=[(t, error)]))
    order = t.argsort()
    parts = [
        level_sums(SimpleNamespace(path=Cosine(), seen=[(t[rows], error[rows])]))
        for rows in (order[:16], order[16:])
    ]
    assert parts[0].keys() == parts[1].keys()
    together = {key: (parts[0][key] + parts[1][key]) / 2 for key in whole}  # as Ranks.mean does
    assert level_means(together) == pytest.approx(level_means(whole))


def test_nothing_of_errors_that_are_not_finite_or_not_left():
    broken = left(Cosine(), ([0.1, 0.5], [math.nan, 1.0]))
    assert level_means(level_sums(broken)) == {"level-3": 1.0}
    assert level_means(level_sums(SimpleNamespace(path=Cosine(), seen=[]))) == {}


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2}])
@pytest.mark.parametrize("cls", [Diffusion, Flow, Consistency])
def test_methods_leave_the_errors_of_their_last_loss(cls, settings):
    method = make(cls, **settings)
    fit(method)
    t, error = (torch.cat(parts) for parts in zip(*method.seen, strict=True))
    assert t.shape == error.shape
    assert len(t) > 1
    assert not error.requires_grad
    torch.testing.assert_close(error.mean(), method.losses["loss"], rtol=1e-5, atol=1e-7)

"""Intervals: closed forms, and how often they cover what they should."""

from __future__ import annotations

import math
import statistics

import pytest
import torch

from gendiff.evaluation.intervals import GROUPS, half_width, leaving_out, over_draws
from gendiff.metrics import FrechetDistance


def test_half_width_is_students():
    # t of 4 degrees of freedom at 97.5 %: 2.7764
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert half_width(values) == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)


def test_a_single_draw_has_no_spread_of_its_own():
    assert over_draws([{"a": 1.0}]) == {}


def test_leaving_out_of_a_mean_is_the_interval_of_its_groups():
    x = torch.randn(200, dtype=torch.float64)
    groups = [float(x[group::GROUPS].mean()) for group in range(GROUPS)]
    same = torch.zeros(len(x)).long()
    width = leaving_out(lambda rows: {"mean": float(x[rows].mean())}, same)["mean"]
    assert width == pytest.approx(half_width(groups), rel=1e-9)


def test_leaving_out_keeps_the_shares_of_labels():
    labels = torch.randint(3, (600,))
    x = 10.0 * labels + torch.randn(600)  # of labels that every draw has: not what varies
    width = leaving_out(lambda rows: {"mean": float(x[rows].mean())}, labels)["mean"]
    assert 0.4 < width / (2.26 / 600**0.5) < 1.8


def frechet(real, generated):
    metric = FrechetDistance(real.shape[1])
    metric.update(real, real=True)
    metric.update(generated, real=False)
    return {"distance": float(metric.compute())}


@pytest.mark.parametrize("single", [False, True], ids=["five draws", "one draw"])
def test_intervals_cover_the_mean_of_many_repeats(single):
    real, n, repeats = torch.randn(300, 4), 200, 120
    draws = [[torch.randn(n, 4) * 1.2 + 0.2 for _ in range(5)] for _ in range(repeats)]
    figures = [[frechet(real, x) for x in five] for five in draws]
    truth = statistics.fmean(f["distance"] for five in figures for f in five)
    inside = 0
    for five, sets in zip(figures, draws, strict=True):
        if single:
            x = sets[0]
            half = leaving_out(lambda rows, x=x: frechet(real, x[rows]), torch.zeros(n))["distance"]
            centre = five[0]["distance"]
        else:
            half = over_draws(five)["distance"]
            centre = statistics.fmean(f["distance"] for f in five)
        inside += abs(centre - truth) <= half
    # 95 % of 120, less and more 3.5 standard deviations of a count
    assert 0.88 <= inside / repeats <= 1

"""Intervals: closed forms, and how often they cover what they should."""

from __future__ import annotations

import math
import statistics

import pytest
import torch

from gendiff import registry
from gendiff.evaluation.intervals import GROUPS, half_width, leaving_out, over_draws
from gendiff.evaluation.sight import Sight, measure
from gendiff.metrics import FrechetDistance
from gendiff.metrics.base import Known


def test_half_width_is_students():
    # t of 4 degrees of freedom at 97.5 %: 2.7764
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert half_width(values) == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)


def test_a_single_draw_has_no_spread_of_its_own():
    assert over_draws([{"a": 1.0}]) == {}


def test_leaving_out_of_a_mean_is_the_interval_of_its_groups():
    x = torch.randn(200, dtype=torch.float64)
    groups = [float(x[group::GROUPS].mean()) for group in range(GROUPS)]
    width = leaving_out(lambda rows: {"mean": float(x[rows].mean())}, len(x))["mean"]
    assert width == pytest.approx(half_width(groups), rel=1e-9)


def frechet(real, generated):
    metric = FrechetDistance(real.shape[1])
    metric.update(real, real=True)
    metric.update(generated, real=False)
    return {"distance": float(metric.compute())}


@pytest.fixture(scope="module")
def repeats():
    """Data, five sample sets each many times over, and the distances of all of them."""
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(300, 4, generator=generator)
    draws = 1.2 * torch.randn(120, 5, 200, 4, generator=generator) + 0.2
    return real, draws, [[frechet(real, x) for x in five] for five in draws]


@pytest.mark.parametrize("single", [False, True], ids=["five draws", "one draw"])
def test_intervals_cover_the_mean_of_many_repeats(repeats, single):
    real, draws, figures = repeats
    truth = statistics.fmean(f["distance"] for five in figures for f in five)
    inside = 0
    for five, (x, *_) in zip(figures, draws, strict=True):
        if single:
            half = leaving_out(lambda rows, x=x: frechet(real, x[rows]), len(x))["distance"]
            centre = five[0]["distance"]
        else:
            half = over_draws(five)["distance"]
            centre = statistics.fmean(f["distance"] for f in five)
        inside += abs(centre - truth) <= half
    # 95 % of 120, less and more 3.5 standard deviations of a count
    assert 0.88 <= inside / len(draws) <= 1


def test_widths_of_a_single_draw_are_about_those_of_many():
    """Of every metric, on classes far apart whose labels the samples share with the data."""
    n, classes = 400, 4
    labels = torch.randint(classes, (n,)).sort().values  # as a folder of classes has them
    centres = 6 * torch.eye(classes, 5)

    def draw():
        x = centres[labels] + torch.randn(n, 5)
        return Sight(x[:, None], x[:, None, :classes], labels)

    real, train = draw(), draw()
    modes = centres, torch.ones(classes), torch.ones(classes)
    known = Known(5, 1, classes, True, n * 9 // 10, True, modes, train=train.features)
    names, cpu = registry.names("metrics"), torch.device("cpu")
    draws = [draw() for _ in range(20)]
    figures = [measure(names, known, real, x, cpu) for x in draws]
    widths = [
        leaving_out(lambda i, x=x: measure(names, known, real.rows(i), x.rows(i), cpu), n)
        for x in draws[:3]
    ]
    assert len(figures[0]) == 17
    for name in figures[0]:
        spread = statistics.stdev(f[name] for f in figures)
        width = statistics.fmean(w[name] for w in widths) / 2.26
        # the reference varies as well, and so do widths of ten groups
        if spread:  # the labels, and so the modes, are the same in all draws
            assert 0.4 < width / spread < 4, name

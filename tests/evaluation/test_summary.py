"""What an entry says of its draws: means, intervals, and the cost of those made as the last one."""

from __future__ import annotations

import pytest

from gendiff.evaluation.intervals import half_width
from gendiff.evaluation.points import Point, summarise

POINT = Point("ema", "ddim", 4, 0.0)


def drawn(seconds=1.0, memory=None, device="cpu", processes=1, **more):
    cost = {"seconds": seconds, "peak_memory_mb": memory, "device": device, "processes": processes}
    return {"nfe": 4, **cost, "figures": {"recall": 0.5}, **more}


def test_figures_are_means_with_the_interval_of_the_draws():
    draws = [drawn(figures={"a": value, "b": 1.0}) for value in (1.0, 2.0, 6.0)]
    draws[1]["figures"].pop("b")  # what one draw lacks is not said
    entry = summarise(POINT, draws, 100)
    assert entry["a"] == 3.0
    assert entry["a_interval"] == pytest.approx(half_width([1.0, 2.0, 6.0]))
    assert "b" not in entry


def test_a_single_draw_brings_its_own_interval():
    entry = summarise(POINT, [drawn(intervals={"recall": 0.25})], 100)
    assert (entry["recall"], entry["recall_interval"]) == (0.5, 0.25)


@pytest.mark.parametrize("other", [{"device": "cuda"}, {"processes": 2}])
def test_cost_is_of_the_draws_made_as_the_last_one(other):
    draws = [drawn(9.0, 900, **other), drawn(1.0, 30), drawn(3.0, 20)]
    entry = summarise(POINT, draws, 100)
    assert entry["images_per_second"] == 50.0
    assert entry["peak_memory_mb"] == 30


def test_one_draw_that_failed_spoils_the_point():
    entry = summarise(POINT, [drawn(), drawn(broken=3, figures={})], 100)
    assert entry["broken"] == 3
    assert "recall" not in entry
    assert len(entry["each"]) == entry["draws"] == 2

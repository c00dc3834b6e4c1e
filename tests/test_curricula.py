"""Curricula of consistency training, against numbers of the authors' code and of their formulas."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from gendiff import curricula as c
from gendiff.paths import EDM
from gendiff.samplers import time_grid

ORACLES = Path(__file__).parent / "oracles"
ARRAYS = np.load(ORACLES / "curricula.npz")
STEPS = json.loads((ORACLES / "curricula.json").read_text())
PROGRESSIVE = [
    ("adaptive_progressive_start.95_s2_e200_total800000", 200, 0.95),
    ("adaptive_progressive_start.9_s2_e150_total800000", 150, 0.9),
    ("fixed_progressive_.95_s2_e200_total800000", 200, None),
]
LEVELS = [11, 21, 41, 1281]
ECT_STAGES = ARRAYS["ect_stages"].tolist()
ECT_T = torch.from_numpy(ARRAYS["ect_t"])


def sigmas_of(scales):
    """The noise levels of iCT, ascending."""
    return time_grid(EDM(), scales, "karras")[:-1].flip(0)


def same(ours, theirs):
    ours, theirs = (torch.as_tensor(x, dtype=torch.float64) for x in (ours, theirs))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("name", "last", "decay"), PROGRESSIVE)
def test_progressive_scales_and_adaptive_ema(name, last, decay):
    for step, (ema, scales) in STEPS[name].items():
        ours = c.cm_scales(int(step), 800_000, 2, last)
        assert ours == scales
        if decay is not None:
            same(c.cm_target_ema(ours, 2, decay), ema)


def test_halved_scales():
    for step, (_, scales) in STEPS["progdist_4096_iter50000"].items():
        assert c.cm_halved_scales(int(step), 50_000, 4096) == scales


@pytest.mark.parametrize("name", ["ict", "ict_K100000"])
def test_ict_scales(name):
    case = STEPS[name]
    for step, scales in case["N"].items():
        assert c.ict_scales(int(step), case["K"], case["s0"], case["s1"]) == scales


@pytest.mark.parametrize(
    ("rule", "ends"), [(c.cm_scales, (3, 41)), (c.ict_scales, (4, 41))], ids=["cm", "ict"]
)
@pytest.mark.parametrize("steps", [997, 2])  # two: fewer than the doublings
def test_scales_never_decrease(rule, ends, steps):
    seen = [rule(k, steps, 3, 40) for k in range(steps + 1)]
    assert all(a <= b for a, b in pairwise(seen))
    assert seen[0] == ends[0]
    assert seen[-1] == ends[1] or steps == 2
    assert max(seen) <= 41


@pytest.mark.parametrize("count", [18, 40])
def test_sigmas_of_the_code_of_consistency_models(count):
    """Theirs descend, with a 0 after the last."""
    same(sigmas_of(count).flip(0), ARRAYS[f"karras_{count}"][:-1])


@pytest.mark.parametrize("count", LEVELS)
def test_ict_levels(count):
    theirs = {k: ARRAYS[f"ict{count}_{k}"] for k in ("index", "pmf_index", "pmf", "weight")}
    sigmas = sigmas_of(count)
    pmf = c.ict_pmf(sigmas)
    same(sigmas[theirs["index"]], ARRAYS[f"ict{count}_sigmas_ascending"])
    same(pmf[theirs["pmf_index"]], theirs["pmf"])
    same(c.ict_weights(sigmas)[theirs["pmf_index"]], theirs["weight"])
    same((pmf * sigmas[:-1].log()).sum(), ARRAYS[f"ict{count}_mean_log_sigma"])
    same(pmf.sum(), 1.0)


@pytest.mark.parametrize(("q", "kind"), [(2, "sigmoid"), (2, "const"), (256, "sigmoid")])
def test_ect_earlier_time(q, kind):
    bend = {"k": 0.0} if kind == "const" else {}
    ours = torch.stack([c.ect_earlier(ECT_T, stage, q, **bend) for stage in ECT_STAGES])
    same(ours, ARRAYS[f"ect_r_q{q}_{kind}"])
    assert (ours <= ECT_T).all()
    assert (ours.diff(dim=0) >= 0).all()  # r comes closer to t with every stage


@pytest.mark.parametrize("q", [2, 256])
def test_ect_ratio(q):
    same([c.ect_ratio(stage, q) for stage in ECT_STAGES], ARRAYS[f"ect_ratio_q{q}"])


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (c.cm_scales, (-1, 10, 2, 4), "step: -1"),
        (c.cm_scales, (0, 10, 0, 4), "first: 0"),
        (c.cm_target_ema, (1, 2, 0.9), "scales: 1"),
        (c.cm_target_ema, (3, 2, 0.0), "decay: 0"),
        (c.cm_halved_scales, (0, 10, 12), "first: 12"),
        (c.ict_scales, (11, 10, 2, 4), "step: 11"),
        (c.ict_scales, (0, 0, 2, 4), "at least 1"),
        (c.ict_scales, (0, 10, 5, 4), "first: 5"),
        (c.ict_pmf, (torch.ones(3), 0.0, 0.0), "std: 0"),
        (c.ect_ratio, (-1,), "stage: -1"),
        (c.ect_earlier, (ECT_T, 0, 1.0), "q: 1"),
        (c.ect_earlier, (ECT_T, 0, 2.0, -1.0), "k: -1"),
    ],
)
def test_values_out_of_range_are_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)

"""Consistency distillation: its boundary, curricula, intervals, target and distance."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from small import fit, learn, make

from gendiff.curricula import cm_target_ema, ict_pmf
from gendiff.errors import UserError
from gendiff.loss_weights import pseudo_huber
from gendiff.methods.consistency import Consistency, ConsistencyConfig
from gendiff.methods.neighbours import Jumping, ict_distance
from gendiff.paths import EDM, VE, VP, Cosine, DiscreteLinear
from gendiff.samplers import time_grid
from gendiff.seeding import Draws

# ---- distance, curricula, intervals --------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 192])
def test_pseudo_huber_in_closed_form(d):
    error = torch.stack([torch.zeros(d), torch.full((d,), 0.5)]).double()
    c = 0.00054 * d**0.5
    wanted = torch.tensor([0.0, (0.25 * d + c**2) ** 0.5 - c]).double()
    torch.testing.assert_close(ict_distance(error.view(2, 1, d)), wanted)


def test_the_norm_has_a_slope_where_nothing_is_wrong():
    error = torch.zeros(2, 3, requires_grad=True)
    pseudo_huber(error, 0.0).sum().backward()
    assert error.grad.eq(0).all()


@pytest.mark.parametrize(
    ("first", "last", "wanted"),
    [
        (4, 16, [4] * 4 + [8] * 4 + [16] * 4),
        (16, 16, [16] * 12),
        (4, 12, [4] * 4 + [8] * 4 + [12] * 4),  # not a power of two times the first
        (4, 7, [4] * 6 + [7] * 6),
        (2, 32, [2] * 3 + [4] * 2 + [8] * 3 + [16] * 2 + [32] * 2),  # stages of 2.4 batches
    ],
)
def test_curriculum_doubles_up_to_the_last(first, last, wanted):
    config = ConsistencyConfig(first_intervals=first, intervals=last)
    method, seen = make(Consistency, config=config, max_steps=12), []
    for batch in range(12):
        method.batches_done = batch
        seen.append(method.intervals_now())
    assert seen == wanted


def test_curriculum_of_consistency_models():
    """The square of N + 1 grows evenly from 2 to 11: s0^2 + k / K ((s1 + 1)^2 - s0^2)."""
    config = ConsistencyConfig(first_intervals=2, intervals=10, curriculum="cm")
    method, seen = make(Consistency, config=config, max_steps=20), []
    for method.batches_done in range(21):
        seen.append(method.intervals_now())
    assert seen == [max(1, math.ceil((4 + 117 * k / 20) ** 0.5 - 1)) for k in range(21)]


@pytest.mark.parametrize("top", [80.0, math.inf])
def test_intervals_are_drawn_log_normally(top):
    """In the shares of iCT, also where the grid begins in pure noise or ends at the data."""
    method = make(Consistency, config=ConsistencyConfig(times="log_normal"))
    sigmas = torch.tensor([0, 0.01, 0.1, 0.5, 1, 5, top]).double()
    method.draw = Draws(("a",), 0, 20000, 20000)
    counts = method.draw_interval(sigmas).bincount(minlength=7)
    expected = 20000 * ict_pmf(sigmas)
    assert counts[0] == 0
    assert ((counts[1:] - expected).abs() < 5 * expected.sqrt() + 1).all()


# ---- the loss ------------------------------------------------------------------------------------


def test_the_last_interval_ends_at_the_teachers_data(gm2, path):
    """With one interval the goal is where the teacher's only step lands, on every path."""
    config = ConsistencyConfig("consistency", "velocity", grid="uniform")
    method = make(Consistency, config=replace(config, intervals=1, first_intervals=1), path=path)
    method.teacher = gm2.denoiser(path)
    batch = {"x0": torch.randn(16, 2)}
    method.draw = Draws((0, "test"), 0, 16, 16)
    loss = method.loss(batch, "student")["loss"]
    draw = Draws((0, "test"), 0, 16, 16)
    t = draw.integers(1, 2) * path.t_max
    xt = path.add_noise(batch["x0"], draw.normal(2), t)
    error = method.student(xt, t).x0 - method.teacher(xt, t).x0
    torch.testing.assert_close(loss, ict_distance(error).mean())


def test_weight_of_an_interval_is_one_over_its_length(gm2):
    """In sigma / alpha: with equal intervals of sigma the loss is only scaled."""
    losses = []
    for weight in ("uniform", "inverse_step"):
        config = ConsistencyConfig(
            weight=weight, grid="uniform", intervals=10, first_intervals=10, prediction="eps"
        )
        method = make(Consistency, config=config, path=VE())
        method.teacher = gm2.denoiser(VE())
        method.draw = Draws(("test",), 0, 64, 64)
        losses.append(method.loss({"x0": torch.randn(64, 2, generator=seeded())}, "student"))
    torch.testing.assert_close(losses[1]["loss"], losses[0]["loss"] / 5)


def seeded():
    return torch.Generator().manual_seed(0)


# ---- boundary, target, sampling ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["x0", "v", "edm"])
def test_students_keep_clean_data(path, kind):
    """The boundary condition; an x0 student is x0 itself a little farther on."""
    config = ConsistencyConfig(prediction=kind)
    student = make(Consistency, config=config, path=path).student
    x, zero = torch.randn(5, 2), torch.zeros(5)
    torch.testing.assert_close(student(x, zero).x0, x)
    if kind == "x0":
        later = student(x, path.inverse_log_snr(torch.tensor(0.0)).expand(5))
        torch.testing.assert_close(later.x0, later.output, rtol=0, atol=1e-4)


@pytest.mark.parametrize("curriculum", ["ict", "cm"])
def test_a_lagging_target(curriculum):
    """It starts as the student does and keeps its share; it is in the state, so it resumes."""
    config = ConsistencyConfig(
        target_decay=0.8, curriculum=curriculum, intervals=6, first_intervals=2
    )
    method, seen = make(Consistency, config=config), []
    with torch.no_grad():
        for p in method.networks["student"].parameters():
            p.add_(0.1)  # as if seeded by another stage after it was built
    plain, wanted = method.after_update, None

    def after_update(role):
        nonlocal wanted
        student = [p.clone() for p in method.networks[role].parameters()]
        mu = 0.8 if curriculum == "ict" else cm_target_ema(method.intervals_now() + 1, 2, 0.8)
        lagging = [p.clone() for p in method.lagging.parameters()]
        plain(role)
        wanted = [mu * a + (1 - mu) * b for a, b in zip(lagging, student, strict=True)]
        seen.append(mu)
        torch.testing.assert_close(list(method.lagging.parameters()), wanted)
        assert not torch.equal(student[0], wanted[0])

    start = [p.clone() for p in method.networks["student"].parameters()]
    method.after_update = after_update
    fit(method)
    assert (len(set(seen)) > 1) == (curriculum == "cm")
    assert "lagging.input.weight" in method.state_dict()
    assert method.target.network is method.lagging
    moved = (method.lagging.input.weight - start[-1].new_zeros(())).isfinite()
    assert moved.all()


def test_sampling_takes_the_times_of_training():
    """Without a step from t_min to 0, which would be one of few for nothing."""

    def times(text, steps, path, **settings):
        sampling = Jumping.sampling(ConsistencyConfig(**settings), path, text, steps)
        spy = replace(sampling, function=lambda denoiser, x, times, *_: times)
        return spy.run(type("D", (), {"path": path})(), torch.zeros(1, 2), steps)

    two = times(None, 2, EDM())
    assert two.tolist() == pytest.approx([80, ((80 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7, 0.002])
    torch.testing.assert_close(
        times(None, 3, VP(), grid="karras"), time_grid(VP(), 3, "karras", jump=False)
    )
    torch.testing.assert_close(
        times("consistency@log_snr", 3, VP(), grid="karras")[1:2],
        time_grid(VP(), 3, "log_snr", jump=False)[1:2],
    )
    assert times("consistency", 2, VP()).tolist() == [1, 0.5, 0]
    assert make(Consistency).sample(3, 2, sampler="consistency@edm").isfinite().all()
    with pytest.raises(UserError, match="'ddim' does not fit"):
        make(Consistency).sample(3, 2, sampler="ddim")


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        (Cosine(), {"first_intervals": 33}, "^first_intervals: 33"),
        (Cosine(), {"target_decay": 1.0}, "^target_decay: 1"),
        (Cosine(), {"times_std": 0.0}, "^times_std: 0"),
        (Cosine(), {"times_mean": math.inf}, "^times_mean: inf"),
        (Cosine(), {"weight": "inverse_step"}, "^weight: inverse_step is 0 where Cosine"),
        (DiscreteLinear(30), {}, "^intervals: steps is 32: a uniform grid visits"),
        (DiscreteLinear(), {"solver": "heun"}, "^solver: heun needs a path continuous"),
        (DiscreteLinear(), {"solver": "euler"}, "^solver: euler"),
    ],
)
def test_what_cannot_be_is_refused(path, change, message):
    for path_kind in (VP(), EDM(), DiscreteLinear()):
        Consistency.check(ConsistencyConfig(prediction="x0"), path_kind)
    Consistency.check(ConsistencyConfig(weight="inverse_step", grid="karras"), Cosine())
    with pytest.raises(ValueError, match=message):
        Consistency.check(replace(ConsistencyConfig(), **change), path)


@pytest.mark.parametrize(
    ("path", "settings"),
    [
        (EDM(), {"prediction": "edm", "sigma_data": 0.7, "solver": "heun"}),
        (DiscreteLinear(100), {"prediction": "v", "solver": "heun_x0"}),
    ],
)
def test_students_unlike_their_teacher_learn(path, settings):
    """From the exact denoiser of another path, from scratch; noise is 0.7 away."""
    config = ConsistencyConfig(intervals=16, first_intervals=4, **settings)
    assert learn(Consistency, config, path, Cosine(), 1, 2, lr=2e-3) < 0.25

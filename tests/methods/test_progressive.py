"""Progressive distillation: its target, its weights and its grids, on paths of every kind."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from small import learn, make

from gendiff.denoiser import Denoiser
from gendiff.methods.progressive import Progressive, ProgressiveConfig
from gendiff.paths import EDM, VE, VP, Cosine, DiscreteCosine, Linear, Trig, expand
from gendiff.predictions import Reading
from gendiff.samplers import ddim, time_grid
from gendiff.seeding import Draws

ALL = [VP(), Cosine(), Linear(), Trig(0.7), VE(), EDM(), DiscreteCosine(100)]
named = pytest.mark.parametrize("path", ALL, ids=lambda path: type(path).__name__)


def taught(path, teacher, t, s, rows=30):
    """Where the perfect student lands, and where it started."""
    method = make(Progressive, path=path)
    method.teacher = teacher
    xt = torch.randn(rows, 2, dtype=torch.float64)
    t, middle, s = (torch.full((rows,), x, dtype=torch.float64) for x in (t, (s + t) / 2, s))
    return path.step(method.teach(xt, t, middle, s, {}), xt, s, t), xt


@pytest.mark.parametrize(("t", "s"), [(1.0, 0.5), (0.5, 0.25), (0.25, 0.0), (1.0, 0.0)])
def test_taught_student_lands_where_two_teacher_steps_do(path, gm2, t, s):
    landed, xt = taught(path, gm2.denoiser(path), t, s)
    wanted = ddim(gm2.denoiser(path), xt, torch.tensor([t, (s + t) / 2, s]).double())
    torch.testing.assert_close(landed, wanted, rtol=1e-9, atol=1e-9)


def test_a_teacher_of_another_path_is_read_along_the_students(path, gm2):
    """The exact denoiser is the same on every path, so the steps are, too."""
    landed, xt = taught(path, gm2.denoiser(EDM()), 0.6, 0.2)
    wanted = ddim(gm2.denoiser(path), xt, torch.tensor([0.6, 0.4, 0.2]).double())
    torch.testing.assert_close(landed, wanted, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("i", [1, 2, 3, 4])
def test_target_of_the_papers_formula(gm2, i):
    """Algorithm 2 in the paper's letters, on its cosine path, with N = 4; eps in place of x0."""
    a, s = lambda u: torch.cos(u * torch.pi / 2), lambda u: torch.sin(u * torch.pi / 2)
    u, half, last = (torch.tensor(x / 4).double() for x in (i, i - 0.5, i - 1))
    z, teacher = torch.randn(20, 2, dtype=torch.float64), gm2.denoiser(Cosine())
    x = teacher(z, u).x0
    z1 = a(half) * x + s(half) / s(u) * (z - a(u) * x)
    x1 = teacher(z1, half).x0
    z2 = a(last) * x1 + s(last) / s(half) * (z1 - a(half) * x1)
    x2 = (z2 - s(last) / s(u) * z) / (a(last) - s(last) / s(u) * a(u))
    method = make(Progressive, path=Cosine())
    method.teacher = teacher
    rows = [time.expand(20) for time in (u, half, last)]
    torch.testing.assert_close(method.teach(z, *rows, {}), x2, rtol=1e-10, atol=1e-10)
    if i == 1:  # the last step's target is the teacher's x0 at the middle
        torch.testing.assert_close(x2, x1)


@named
def test_target_is_finite_in_single_precision(path, gm2):
    method = make(Progressive, path=path)
    method.teacher = gm2.denoiser(path)
    for k in range(2, len(method.times), 2):
        t, middle, s = (method.times[k - j].expand(8) for j in range(3))
        xt = path.add_noise(torch.zeros(8, 2), torch.randn(8, 2), t)
        target = method.teach(xt, t, middle, s, {})
        assert target.isfinite().all()
        assert target.abs().max() < 5


@named
def test_a_chain_of_students_shares_one_grid(path):
    """A student's times are every other time of its teacher's, and those it is sampled at."""
    grids = []
    for steps in (16, 8, 4):
        config = ProgressiveConfig(student_steps=steps)
        method = make(Progressive, path=path, config=config)
        grids.append(method.times)
        sampling = replace(
            Progressive.sampling(config, path, None, steps), function=lambda d, x, times, *_: times
        )
        times = sampling.run(SimpleNamespace(path=path), torch.zeros(1, 2), steps)
        torch.testing.assert_close(times.flip(0).float(), method.times[::2])
    for teacher, student in pairwise(grids):
        torch.testing.assert_close(teacher[::2], student)
        assert len(student) == len(teacher) // 2 + 1
    ends = time_grid(path, 16, jump=False)[[0, -1]]
    assert ends.tolist() == pytest.approx([path.t_max, path.t_min if path.grid != "uniform" else 0])


@pytest.mark.parametrize(
    ("weighting", "weight"),
    [
        ("snr", lambda snr: snr),
        ("truncated_snr", lambda snr: snr.clamp(min=1)),
        ("snr_plus_one", lambda snr: snr + 1),
    ],
)
def test_weighting(weighting, weight):
    """A student that is off by 0.5 everywhere shows the weights."""
    config = ProgressiveConfig(student_steps=4, weighting=weighting)
    method = make(Progressive, config=config)
    method.student = lambda xt, t, cond: SimpleNamespace(x0=torch.full_like(xt, 0.5))
    method.teach = lambda xt, t, middle, s, cond: torch.zeros_like(xt)
    method.draw = Draws((0, "test"), 0, 4000, 4000)
    loss = method.loss({"x0": torch.zeros(4000, 2)}, "student")["loss"]
    t = Draws((0, "test"), 0, 4000, 4000).integers(1, 5) / 4
    snr = (VP().alpha(t) / VP().sigma(t)).square()
    torch.testing.assert_close(loss, 0.25 * weight(snr).mean())


@pytest.mark.parametrize("kind", ["x0", "eps", "v", "velocity", "edm"])
def test_any_prediction_can_be_perfect(kind, gm2):
    """A network that puts out what its kind makes of the target has no loss left."""
    path, config = VP(), ProgressiveConfig(prediction=kind, student_steps=4)
    method = make(Progressive, config=config, path=path)
    method.teacher = gm2.denoiser(path)
    reading, times = Reading(kind), method.times.double()
    method.times = times

    class Perfect:
        def __call__(self, x, level, cond):
            k = (path.noise_level(times)[:, None] - level).abs().argmin(0)
            t, middle, s = times[k], times[k - 1], times[k - 2]
            scale = reading.input_scale(path, t)
            xt = x if scale is None else x / expand(scale, x)
            x0 = method.teach(xt, t, middle, s, {})
            p, q = (expand(c, xt) for c in reading.to_x0(path, t))
            return (x0 - p * xt) / q

    method.student = Denoiser(Perfect(), path, reading)
    method.draw = Draws((0, "test"), 0, 64, 64)
    assert method.loss({"x0": torch.randn(64, 2).double()}, "student")["loss"] < 1e-15


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        (Cosine(), {"student_steps": 0}, "^student_steps: 0"),
        (DiscreteCosine(30), {"student_steps": 16}, "^student_steps: its teacher's steps is 32"),
        (Cosine(), {"weighting": "snr"}, "^weighting: snr is 0 where Cosine starts"),
        (Cosine(), {"prediction": "eps"}, "^prediction: eps"),
    ],
)
def test_what_cannot_be_is_refused(path, change, message):
    Progressive.check(ProgressiveConfig(), VP())
    with pytest.raises(ValueError, match=message):
        Progressive.check(replace(ProgressiveConfig(), **change), path)


@pytest.mark.parametrize(("path", "kind"), [(EDM(), "edm"), (DiscreteCosine(64), "x0")])
def test_students_unlike_their_teacher_learn(path, kind):
    """Eight steps from the exact denoiser of another path, from scratch; noise is 0.7 away."""
    config = ProgressiveConfig(prediction=kind, sigma_data=0.7, student_steps=8)
    assert learn(Progressive, config, path, Linear(), 8) < 0.15

"""A network that knows one path, read on the terms of another: the same function to rounding."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import pytest
import torch
from torch import nn

from gendiff.denoiser import Denoiser, alike, along
from gendiff.errors import UserError
from gendiff.loss_weights import output_weight
from gendiff.methods.flow import Flow, FlowConfig
from gendiff.paths import EDM, VE, VP, Cosine, DiscreteCosine, Linear, Trig, carry
from gendiff.pipeline.inits import check_init
from gendiff.pipeline.stages import load_pipeline
from gendiff.predictions import Kind, Prediction, Reading
from gendiff.samplers import ddim


class Network(nn.Module):
    """Some function of x and the noise level."""

    def forward(self, x, level, cond):
        return (x @ x.new_tensor([[1.0, -0.4], [0.3, 0.8]]) + level[:, None]).tanh()


HOMES = [Linear(), Cosine(), VP(), Trig(0.7), EDM()]


@pytest.fixture(params=HOMES, ids=lambda home: type(home).__name__)
def home(request):
    return request.param


def telling(*words):
    """What fails says of what."""
    return lambda message: f"{' '.join(words)}: {message}"


def read(kind, home, path):
    """The network of one path, read along another."""
    return Denoiser(Network(), path, Reading(kind, 0.7, 0.01, home))


def test_it_is_the_function_it_was(path, home):
    t = path.t_max * torch.linspace(0.02, 0.95, 9, dtype=torch.float64)
    x = path.size(t)[:, None] * torch.randn(9, 2, dtype=torch.float64)
    if path.log_snr(t).min() < home.log_snr(torch.tensor(home.t_max)):  # noise it has never seen
        t = t.clamp(max=path.inverse_log_snr(home.log_snr(torch.tensor(home.t_max).double())))
    for kind in get_args(Kind):
        own = Denoiser(Network(), home, Reading(kind, 0.7, 0.01))
        mine, wanted = read(kind, home, path), along(own, path)
        seen, known = mine(x, t), wanted(x, t)
        for what in ("x0", "eps", "v", "velocity"):
            pair = getattr(seen, what), getattr(known, what)
            torch.testing.assert_close(*pair, rtol=1e-6, atol=1e-6, msg=telling(kind, what))
        assert mine.at(t)(3, x).isfinite().all()
        torch.testing.assert_close(mine.at(t)(3, x), mine(x, t[3]).x0, msg=telling(kind))


def test_the_target_gives_the_data_back(path, home):
    t = path.t_max * torch.linspace(0.02, 0.9, 9, dtype=torch.float64)
    x0, eps = torch.randn(2, 9, 2, dtype=torch.float64)
    xt = path.add_noise(x0, eps, t)
    for kind in get_args(Kind):
        least = 0.01 if kind == "edm" else 0.0  # x0's skip is not in its target
        reading = Reading(kind, 0.7, least, home)
        output = reading.target(x0, eps, t, path)
        given = Prediction(output, reading, xt, t, path).x0
        torch.testing.assert_close(given, x0, msg=telling(kind))


@pytest.mark.parametrize(
    ("kind", "home", "path"), [("v", Cosine(), Linear()), ("velocity", Linear(), Cosine())]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_flow_of_the_seeded_student_is_the_teachers(kind, home, path, dtype):
    """From noise alone: a diffusion teacher's flow as rectified flow's, and the reverse."""
    teacher, student = Denoiser(Network(), home, kind), read(kind, home, path)
    times = torch.linspace(1, 0, 11, dtype=torch.float64)
    noise = torch.randn(200, 2, dtype=dtype)
    there = carry(times, home, path)[0]
    there[0], there[-1] = path.t_max, 0
    ends = ddim(teacher, noise, times), ddim(student, noise, there)
    torch.testing.assert_close(*ends, rtol=0, atol=1e-5)
    # and the plain call agrees with what is computed beforehand
    x = noise
    for t, s in pairwise(there):
        x = path.step(student(x, t).x0, x, s, t)
    torch.testing.assert_close(x.to(dtype), ends[0], rtol=0, atol=1e-5)


def test_a_velocity_of_elsewhere_is_not_taken_for_ones_own():
    denoiser = read("velocity", Linear(), Cosine())
    x, t = torch.randn(5, 2), torch.full((5,), 0.4)
    seen = denoiser(x, t)
    assert not torch.allclose(seen.velocity, seen.output)
    x0, eps = seen.x0, seen.eps
    torch.testing.assert_close(seen.velocity, Cosine().velocity(x0, eps, t))


def test_a_velocity_weight_weighs_the_velocity(path, home):
    t = path.t_max * torch.linspace(0.05, 0.9, 9, dtype=torch.float64)
    x0, eps, off = torch.randn(3, 9, 2, dtype=torch.float64)
    xt, velocity = path.add_noise(x0, eps, t), path.velocity(x0, eps, t)
    for kind in get_args(Kind):
        reading = Reading(kind, 0.7, 0.0, home)
        output = reading.target(x0, eps, t, path) + off
        error = Prediction(output, reading, xt, t, path).velocity - velocity
        ours = output_weight("velocity", reading, path, t) * off.square().mean(1)
        torch.testing.assert_close(ours, error.square().mean(1), msg=telling(kind))


ALIKE = [
    ("v", Cosine(), None, "v", VP(), None, True),
    ("v", Cosine(), None, "v", EDM(), None, True),
    ("eps", DiscreteCosine(), None, "eps", VP(), None, True),
    ("v", Cosine(), None, "v", Linear(), None, False),
    ("v", Cosine(), None, "v", Linear(), Cosine(), True),
    ("v", Cosine(), None, "v", Linear(), VE(), True),
    ("v", Linear(), Cosine(), "v", Cosine(), None, True),
    ("v", Cosine(), None, "velocity", Linear(), None, False),
    ("velocity", Linear(), None, "velocity", Cosine(), None, False),
    ("velocity", Linear(), None, "velocity", Cosine(), Linear(), True),
    ("velocity", VP(), None, "velocity", VP(0.2), None, False),
    ("edm", EDM(), None, "edm", Linear(), None, True),
]


@pytest.mark.parametrize("row", ALIKE)
def test_what_may_seed_what(row):
    kinds, paths, homes = row[:6:3], row[1:6:3], row[2:6:3]
    one, other = (
        Denoiser(Network(), path, Reading(kind, home=home))
        for kind, path, home in zip(kinds, paths, homes, strict=True)
    )
    assert alike(one, other) == alike(other, one) == row[-1]


STAGES = """
stages:
  teacher: {{config: mixture_diffusion}}
  student:
    config: mixture_flow
    init: {{student: teacher.ema}}
    method: {{{method}}}
"""


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("prediction: velocity", "teacher predicts v, but method.prediction is velocity"),
        ("prediction: v", "another path than student, .* method.native: cosine reads them"),
        ("prediction: v, native: cosine", None),
        ("prediction: v, native: vp", None),
    ],
)
def test_a_stage_says_how_it_reads_its_seed(tmp_path, method, message):
    file = tmp_path / "roads.yaml"
    file.write_text(STAGES.format(method=method))
    pipeline = load_pipeline(str(file), [])
    if message is None:
        return check_init(pipeline.stages["student"], pipeline)
    with pytest.raises(UserError, match=message):
        check_init(pipeline.stages["student"], pipeline)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"native": "cosin"}, "^native: no path 'cosin', only cosine, "),
        ({"native": "discrete_linear"}, "^prediction: velocity does not fit DiscreteLinear"),
        ({"native": "vp", "prediction": "eps"}, "^prediction: eps does not fit Linear"),
    ],
)
def test_a_native_path_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Flow.check(FlowConfig(**change), Linear())

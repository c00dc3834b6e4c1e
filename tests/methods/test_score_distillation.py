"""Score distillation against closed forms: where the scores agree, and where they do not."""

from __future__ import annotations

import pytest
import torch
from small import learn
from torch import nn

from gendiff.data.toy import GaussianMixture
from gendiff.denoiser import Denoiser
from gendiff.methods.distribution_matching import DistributionMatching, DistributionMatchingConfig
from gendiff.methods.score_distillation import distance
from gendiff.methods.score_identity import ScoreIdentity, ScoreIdentityConfig
from gendiff.methods.student import PerceptualConfig
from gendiff.networks.mlp import MLP, MLPConfig
from gendiff.paths import VP, Cosine
from gendiff.samplers import consistency
from gendiff.seeding import Draws

CONFIGS = {ScoreIdentity: ScoreIdentityConfig, DistributionMatching: DistributionMatchingConfig}
METHODS = [*CONFIGS]


class Constant(nn.Module):
    """A network that puts out one point, whatever it sees."""

    def __init__(self, point):
        super().__init__()
        self.point = nn.Parameter(torch.tensor(point))

    def forward(self, x, noise_level, cond):
        return self.point.expand_as(x)


def gaussian(mean, std=0.5):
    return GaussianMixture(torch.ones(1), torch.tensor([mean]), torch.tensor([std]))


def draws(count, role="student", batch=0):
    return Draws((0, "", batch, role), 0, count, 1)


def method_of(cls, **settings):
    """A method on points whose student and fake are small perceptrons."""
    config = CONFIGS[cls](prediction="x0", **settings)
    torch.manual_seed(0)
    networks = {role: MLP(MLPConfig(width=16, depth=1), (2,), 2) for role in ("student", "fake")}
    teacher = Denoiser(MLP(MLPConfig(width=16, depth=1), (2,), 2), Cosine(), "v")
    return cls(config, networks, Cosine(), {"teacher": teacher}, shape=(2,), max_steps=4)


@pytest.mark.parametrize("cls", METHODS)
def test_where_the_scores_agree_a_sample_rests(cls):
    method = method_of(cls)
    method.fake = method.teacher
    method.draw, x0 = draws(6), torch.randn(6, 2, requires_grad=True)
    loss = method.student_loss(x0, {}, {})["loss"]
    (slope,) = torch.autograd.grad(loss, x0)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-6, rtol=0)


def test_matching_moves_samples_towards_the_data_by_the_exact_step():
    path, ours, theirs = Cosine(), [0.7, -0.4], [-0.2, 0.5]
    method = method_of(DistributionMatching)
    method.teacher = gaussian(theirs).denoiser(path)
    method.fake = gaussian(ours).denoiser(path)
    x0 = torch.tensor(ours) + 0.5 * torch.randn(9, 2)
    x0.requires_grad_()
    method.draw = draws(9)
    loss = method.student_loss(x0, {}, {})["loss"]
    (slope,) = torch.autograd.grad(loss, x0)
    method.draw = draws(9)
    xt, t, _ = method.noised(x0)
    a, s = path.alpha(t), path.sigma(t)
    pull = s**2 / (a**2 * 0.25 + s**2)  # of the means in E[x0 | x_t]
    step = pull[:, None] * (torch.tensor(theirs) - torch.tensor(ours))
    teacher = gaussian(theirs).denoiser(path)(xt, t).x0
    wanted = -step / distance(x0, teacher)[:, None] / 2 / 9  # a mean over coordinates and samples
    torch.testing.assert_close(slope, wanted, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 1.2])
def test_identity_is_the_papers_product(alpha):
    method = method_of(ScoreIdentity, alpha=alpha)
    x0 = torch.randn(5, 2, requires_grad=True)
    method.draw = draws(5)
    loss = method.student_loss(x0, {}, {})["loss"]
    method.draw = draws(5)
    xt, t, _ = method.noised(x0)
    f, psi = method.teacher(xt, t).x0, method.fake(xt, t).x0
    product = ((f - psi) * (f - x0)).sum(1) - alpha * (f - psi).square().sum(1)
    wanted = (product / (f - x0).detach().abs().sum(1)).mean()
    torch.testing.assert_close(loss, wanted)
    slopes = [torch.autograd.grad(value, x0, retain_graph=True)[0] for value in (loss, wanted)]
    torch.testing.assert_close(*slopes)  # through the teacher and the fake score as well
    assert all(p.grad is None for p in method.teacher.network.parameters())


def test_the_fake_score_learns_what_the_student_makes():
    method = method_of(ScoreIdentity)
    method.student = Denoiser(Constant([0.3, -0.8]), method.path, "x0")
    method.fake = Denoiser(Constant([0.0, 0.0]), method.path, "x0")
    method.draw = draws(64, "fake")
    loss = method.loss({"x0": torch.zeros(64, 2)}, "fake")["loss"]
    torch.testing.assert_close(loss, torch.tensor((0.3**2 + 0.8**2) / 2))
    loss.backward()
    assert method.student.network.point.grad is None
    torch.testing.assert_close(method.fake.network.point.grad, torch.tensor([-0.3, 0.8]))


@pytest.mark.parametrize(("steps", "start"), [(1, 1.0), (1, 0.6), (4, 1.0), (4, 0.6)])
def test_students_train_where_sampling_takes_them(steps, start):
    method = method_of(DistributionMatching, student_steps=steps, start=start)
    seen, student = [], method.student

    def watch(xt, t, cond):
        seen.append((xt, t))
        return student(xt, t, cond)

    method.student, method.draw = watch, draws(4096)
    x0, told = method.draw_sample({})
    xt, t = seen[-1]
    torch.testing.assert_close(x0, student(xt, t, {}).x0)
    assert set(told) == ({"second_time"} if steps > 1 else set())
    if told:
        torch.testing.assert_close(told["second_time"], method.path.noise_level(t))
    # the sampler's own states: of all samples, in as many steps, by the same student
    sampled = []

    class Watched:
        path = method.path

        def __call__(self, x, t, cond=None):
            sampled.append((float(t), x))
            return student(x, t, cond)

    noise = torch.randn(4096, 2)
    first, begin = method.start(4096, {}, lambda i: noise, "student")
    times = torch.linspace(begin, 0, steps + 1)
    consistency(Watched(), first, times)
    assert len(sampled) == steps
    for time, x in sampled:
        mine = xt[(t.expand(len(xt)) - time).abs() < 1e-5]
        assert abs(len(mine) / len(xt) - 1 / steps) < 0.03
        torch.testing.assert_close(mine.mean(0), x.mean(0), atol=0.08, rtol=0)
        torch.testing.assert_close(mine.std(0), x.std(0), atol=0.06, rtol=0)


@pytest.mark.parametrize("cls", METHODS)
def test_the_fake_score_has_batches_of_its_own(cls):
    method = method_of(cls, fake_batches=3)
    turns = [method.turns(k) for k in range(6)]
    assert turns == [("fake",), ("fake",), ("fake", "student")] * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"student_steps": 0}, "student_steps: 0 must be at least 1"),
        ({"critic_batches": 2, "adversarial_weight": 1.0}, "critic_batches: fake_batches gives"),
        ({"fake_batches": 0}, "fake_batches: 0 must be at least 1"),
        ({"start": 0.0}, "start: 0.0 must be above 0 and at most 1"),
        ({"start": 1.1}, "start: 1.1 must be above 0 and at most 1"),
        ({"prediction": "eps"}, "prediction: eps says too little of x0 at the end of the path"),
    ],
)
@pytest.mark.parametrize("cls", METHODS)
def test_impossible_settings_are_refused(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        cls.check(CONFIGS[cls](**settings), VP())
    cls.check(CONFIGS[cls](prediction="eps", start=0.5), VP())


def test_identity_refuses_what_it_cannot_use():
    with pytest.raises(ValueError, match="alpha: nan must be at least 0"):
        ScoreIdentity.check(ScoreIdentityConfig(alpha=float("nan")), VP())
    term = PerceptualConfig(weight=0.5)
    with pytest.raises(ValueError, match=r"perceptual\.weight: score_identity has no goal"):
        ScoreIdentity.check(ScoreIdentityConfig(perceptual=term), VP())


@pytest.mark.parametrize("cls", METHODS)
def test_a_teacher_is_not_told_the_step(cls):
    """It may be a flow map, which would take it for where its own step ends."""
    method, asked = method_of(cls, student_steps=4), []
    method.teacher.network.register_forward_pre_hook(lambda m, args: asked.append({*args[2]}))
    method.draw = draws(6)
    method.loss({"x0": torch.zeros(6, 2)}, "student")
    assert asked == [set()]


@pytest.mark.parametrize(
    ("cls", "lr", "settings"),
    [(ScoreIdentity, 3e-3, {}), (DistributionMatching, 5e-3, {"fake_batches": 2})],
)
def test_one_call_learns_a_mixture_from_its_exact_score(cls, lr, settings):
    """From random weights, in a few seconds; an untrained student lies at 0.44."""
    assert learn(cls, CONFIGS[cls](**settings), Cosine(), Cosine(), 1, batches=300, lr=lr) < 0.3

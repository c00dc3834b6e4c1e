"""Terms beside a student's own loss, and students that are told the teacher's guidance."""

from __future__ import annotations

import pytest
import torch
from small import fit
from torch import nn
from torch.nn import functional as F

from gendiff.denoiser import Denoiser
from gendiff.errors import UserError
from gendiff.guidance import guide
from gendiff.methods.consistency import Consistency, ConsistencyConfig
from gendiff.methods.distribution_matching import DistributionMatching, DistributionMatchingConfig
from gendiff.methods.score_identity import ScoreIdentity, ScoreIdentityConfig
from gendiff.methods.student import PerceptualConfig
from gendiff.networks.mlp import MLP, MLPConfig
from gendiff.optim import OptimConfig
from gendiff.paths import EDM, VE, Cosine, DiscreteLinear
from gendiff.seeding import Draws

CONFIGS = {ScoreIdentity: ScoreIdentityConfig, DistributionMatching: DistributionMatchingConfig}
BOTH = pytest.mark.parametrize("cls", [*CONFIGS])


def small(inputs=2, outputs=2, **conditions):
    return MLP(MLPConfig(width=16, depth=1, conditions=conditions), (inputs,), outputs)


def method_of(cls, classes=0, conditions=None, **settings):
    config = CONFIGS[cls](**settings)
    cls, conditions = cls.variant(config), conditions or {}
    torch.manual_seed(0)
    label = {"label": classes} if classes else {}
    teacher = {"teacher": Denoiser(small(**label), Cosine(), "v")}
    told = {**conditions, **label}
    networks = {"student": small(**told), "fake": small(**told)}
    if "critic" in cls.roles:
        networks["critic"] = small(outputs=1, **label)
    shape = {"shape": (2,), "classes": classes}
    return cls(config, networks, Cosine(), teacher, **shape, max_steps=4)


def batch(method, role):
    method.draw = Draws((0, "", 0, role), 0, 12, 1)
    generator = torch.Generator().manual_seed(3)
    x0 = torch.randn(12, 2, generator=generator)
    return {"x0": x0, "label": torch.arange(12) % max(1, method.classes)}


@BOTH
def test_without_terms_a_method_is_itself(cls):
    assert cls.variant(CONFIGS[cls]()) is cls
    assert cls.variant(CONFIGS[cls](perceptual=PerceptualConfig(weight=1.0))).roles == cls.roles


@BOTH
def test_the_game_adds_what_its_weight_says(cls):
    plain, judged = method_of(cls), method_of(cls, adversarial_weight=0.3)
    assert judged.learning == ("student", "fake", "critic")
    own = plain.loss(batch(plain, "student"), "student")["loss"]
    seen = []
    judged.critic.register_forward_hook(lambda module, args, out: seen.append(out))
    losses = judged.loss(batch(judged, "student"), "student")
    game = F.softplus(-seen[0]).mean()
    torch.testing.assert_close(losses["gan"], game)
    torch.testing.assert_close(losses["loss"], own + 0.3 * game)
    losses["gan"].backward()
    assert all(p.grad is not None for p in judged.student.network.parameters())
    assert all(p.grad is None for p in judged.fake.network.parameters())
    assert set(judged.loss(batch(judged, "fake"), "fake")) == {"loss"}


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
@BOTH
def test_the_critic_compares_data_and_samples_at_one_noise(cls, noise):
    method = method_of(cls, adversarial_weight=1.0, critic_noise=noise)
    seen, graph = [], []
    method.critic.register_forward_hook(lambda module, args, out: seen.append((args, out)))
    hook = method.student.network.register_forward_hook
    hook(lambda module, args, out: graph.append(out.requires_grad))
    losses = method.loss(batch(method, "critic"), "critic")
    assert graph == [False]  # no memory is taken for what is not learned from
    (real, level, _), logits_real = seen[0]
    (fake, same, _), logits_fake = seen[1]
    wanted = F.softplus(-logits_real).mean() + F.softplus(logits_fake).mean()
    torch.testing.assert_close(losses["loss"], wanted)
    torch.testing.assert_close(level, same)
    assert level.max() <= noise + 1e-4
    if noise == 0:
        torch.testing.assert_close(real, batch(method, "critic")["x0"], atol=1e-3, rtol=0)
        plain = method_of(cls)
        plain.loss(batch(plain, "critic"), "student")
        torch.testing.assert_close(fake, plain.shown[0].detach(), atol=1e-3, rtol=0)
    losses["loss"].backward()
    assert all(p.grad is None for p in method.student.network.parameters())


class Lopsided(nn.Module):
    """A distance that is easy to work out, and another one backwards."""

    def forward(self, made, goal):
        return (made - goal / 2).square().sum(1)


def test_the_distance_in_features_adds_what_its_weight_says():
    cls = DistributionMatching
    plain = method_of(cls)
    method = method_of(cls, perceptual=PerceptualConfig(weight=0.2), adversarial_weight=0.3)
    method.frozen_roles["perceptual"] = Lopsided()
    own = plain.loss(batch(plain, "student"), "student")["loss"]
    made, goal = plain.shown
    losses = method.loss(batch(method, "student"), "student")
    apart = (made - goal / 2).square().sum(1).mean()
    torch.testing.assert_close(losses["perceptual"], apart)
    torch.testing.assert_close(losses["loss"], own + 0.2 * apart + 0.3 * losses["gan"])
    assert set(method.loss(batch(method, "critic"), "critic")) == {"loss", "real", "fake"}
    assert set(method.loss(batch(method, "fake"), "fake")) == {"loss"}


@BOTH
def test_a_student_is_told_the_weight_its_teacher_is_guided_by(cls):
    method = method_of(cls, 3, {"guidance": 1}, guidance_max=4.0)
    rows = batch(method, "student")
    told, asked = [], []
    method.student.network.register_forward_pre_hook(lambda m, args: told.append(args[2]))
    method.teacher.network.register_forward_hook(lambda m, args, out: asked.append(args[2]))
    method.loss(rows, "student")
    weight = told[0]["guidance"]
    assert 0 <= weight.min() < 1
    assert 3 < weight.max() <= 4
    assert ["label" in cond for cond in asked] == [True, False]
    # the guided teacher is, row by row, the one guided by that row's weight
    x, t = torch.randn(12, 2), torch.full((12,), 0.4)
    ours = method.taught(told[0])(x, t, {"label": rows["label"]}).x0
    for i, w in enumerate(weight.tolist()):
        alone = guide(method.teacher, w)(x[i : i + 1], t[:1], {"label": rows["label"][i : i + 1]})
        torch.testing.assert_close(ours[i : i + 1], alone.x0)


@BOTH
def test_a_told_student_is_sampled_at_any_weight_in_one_call(cls):
    method = method_of(cls, 3, {"guidance": 1}, guidance_max=4.0)
    network, told = method.ema.network, []
    network.register_forward_pre_hook(lambda m, args: told.append(args[2]["guidance"]))
    labels = torch.tensor([0, 1, 2])
    samples = [method.sample(3, 1, labels=labels, guidance=w) for w in (0.0, 4.0)]
    assert not torch.equal(*samples)
    assert method.ema.nfe == 2
    assert torch.cat(told).tolist() == [0.0] * 3 + [4.0] * 3
    for weight in (5, -1):
        with pytest.raises(UserError, match=f"guidance: {weight}; this model was told 0 to 4"):
            method.sample(3, 1, labels=labels, guidance=float(weight))


@BOTH
def test_a_told_student_teaches_without_further_guidance(cls):
    method = method_of(cls, 3, {"guidance": 1}, guidance_max=4.0)
    method.teacher, seen = Denoiser(small(label=3, guidance=1), Cosine(), "v"), []
    method.teacher.network.register_forward_pre_hook(lambda m, args: seen.append(args[2]))
    x, t, weight = torch.randn(4, 2), torch.full((4,), 0.3), torch.tensor([0.0, 1.0, 2.0, 4.0])
    method.taught({"guidance": weight})(x, t, {"label": torch.arange(4) % 3})
    assert len(seen) == 1
    assert seen[0]["guidance"].equal(weight)


@BOTH
def test_an_untold_student_has_its_told_teacher_told(cls):
    method = method_of(cls, 3, guidance=1.5)
    method.teacher, seen = Denoiser(small(label=3, guidance=1), Cosine(), "v"), []
    method.teacher.network.register_forward_pre_hook(lambda m, args: seen.append(args[2]))
    method.loss(batch(method, "student"), "student")
    assert [cond["guidance"].tolist() for cond in seen] == [[1.5] * 12]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adversarial_weight": -1.0}, "adversarial_weight: -1.0 must be at least 0"),
        ({"critic_noise": 1.5}, "critic_noise: 1.5 must be in"),
        ({"critic_noise": -0.5}, "critic_noise: -0.5 must be in"),
        ({"perceptual": PerceptualConfig(weight=float("inf"))}, "perceptual.weight: inf must be"),
        ({"perceptual": PerceptualConfig(size=0)}, "perceptual.size: 0 must be at least 1"),
        ({"perceptual": PerceptualConfig(size=4097)}, "perceptual.size: 4097"),
        ({"objective": "hinge"}, "objective: needs adversarial_weight, which is 0"),
        ({"guidance": 1.0, "guidance_max": 2.0}, "guidance_max: 2.0 must be above 0, and stands"),
        ({"guidance_max": 0.0}, "guidance_max: 0.0 must be above 0"),
        ({"guidance_max": float("inf")}, "guidance_max: inf must be above 0"),
        ({"guidance": float("nan")}, "guidance: nan must be finite"),
        ({"r1_gamma": 0.1}, "r1_gamma: needs adversarial_weight, which is 0"),
    ],
)
@BOTH
def test_impossible_terms_are_refused(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        cls.check(CONFIGS[cls](**settings), Cosine())


@pytest.mark.parametrize("key", ["guidance", "guidance_max"])
@BOTH
def test_a_teacher_is_guided_by_a_label(cls, key):
    networks = {"student": MLPConfig(conditions={"guidance": 1}), "fake": MLPConfig()}
    with pytest.raises(ValueError, match=r"student\.conditions\.label: missing"):
        cls.check_networks(CONFIGS[cls](**{key: 1.0}), networks)


@BOTH
def test_the_fake_is_told_what_the_student_is(cls):
    networks = {"student": MLPConfig(conditions={"label": 3}), "fake": MLPConfig()}
    with pytest.raises(ValueError, match=r"fake\.conditions: must have label"):
        cls.check_networks(CONFIGS[cls](), networks)


@BOTH
def test_the_critic_hears_the_labels_that_the_student_did(cls):
    method = method_of(cls, 3, adversarial_weight=1.0, label_dropout=0.5)
    told, heard = [], []
    for network, labels in ((method.student.network, told), (method.critic, heard)):
        network.register_forward_pre_hook(lambda m, args, to=labels: to.append(args[2]["label"]))
    for role in ("student", "critic"):
        told.clear(), heard.clear()
        method.loss(batch(method, role), role)
        assert 0 < told[0].eq(3).sum() < 12
        assert all(label.equal(told[0]) for label in heard)


@pytest.mark.parametrize(
    "path", [EDM(), VE(), Cosine(), DiscreteLinear(30)], ids=lambda path: type(path).__name__
)
@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_the_critic_sees_inputs_of_unit_size_on_every_path(noise, path):
    """And levels that the path has, one for each sample."""
    method = method_of(DistributionMatching, adversarial_weight=1.0, critic_noise=noise)
    method.path, method.labels, seen = path, {}, []
    method.critic.register_forward_pre_hook(lambda m, args: seen.append(args[:2]))
    method.imagine = lambda rows: rows["x0"]
    method.loss(batch(method, "critic"), "critic")
    assert all(0.3 < x.std() < 2 for x, _ in seen)
    for _, level in seen:
        assert level.max() <= 1
        assert len(level.unique()) > (6 if noise else 0)
        if path.steps is not None:
            assert torch.isin(level, path.noise_level(torch.arange(path.steps + 1.0))).all()


def test_the_critic_sees_each_sample_under_a_noise_of_its_own():
    method, seen = method_of(DistributionMatching, adversarial_weight=1.0), []
    method.critic.register_forward_pre_hook(lambda m, args: seen.append(args[:2]))
    method.imagine, method.labels = (lambda rows: rows["x0"]), {}
    batch(method, "critic")
    method.loss({"x0": torch.zeros(12, 2)}, "critic")
    real, fake = (x / Cosine().sigma(level)[:, None] for x, level in seen)
    assert all(0.6 < noise.std() < 1.5 for noise in (real, fake, (real - fake) / 2**0.5))


@BOTH
def test_the_critic_is_told_no_guidance_weight(cls):
    config = CONFIGS[cls](adversarial_weight=1.0, guidance_max=2.0)
    told = {role: cls.variant(config).tells(role, config) for role in ("student", "critic")}
    assert told == {"student": {"guidance": 1}, "critic": {}}


def test_a_critic_leaves_the_lagging_target_moving():
    ends = []
    for weight in (0.0, 1e-9):
        config = ConsistencyConfig(target_decay=0.5, adversarial_weight=weight)
        cls = Consistency.variant(config)
        torch.manual_seed(0)
        teacher = {"teacher": Denoiser(small(), Cosine(), "v")}
        networks = {"student": small()}
        if weight:
            networks["critic"] = small(outputs=1)
        optim = OptimConfig("adam", lr=0.01)
        method = cls(config, networks, Cosine(), teacher, optim, shape=(2,), max_steps=6)
        fit(method)
        ends.append(method.lagging.state_dict())
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, atol=1e-4, rtol=0)

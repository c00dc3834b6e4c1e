"""Methods: a short run of each, the identities their losses rest on, and recorded losses."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

from gendiff.data.base import DataModule, Rows
from gendiff.denoiser import Denoiser
from gendiff.errors import UserError
from gendiff.methods.classifier import ClassifierConfig, ClassifierMethod
from gendiff.methods.consistency import Consistency, ConsistencyConfig
from gendiff.methods.consistency_training import ConsistencyTraining, ConsistencyTrainingConfig
from gendiff.methods.continuous_consistency import (
    ContinuousConsistency,
    ContinuousConsistencyConfig,
    ContinuousConsistencyTraining,
    ContinuousConsistencyTrainingConfig,
)
from gendiff.methods.denoising_gan import DenoisingGAN, DenoisingGANConfig
from gendiff.methods.diffusion import Diffusion, DiffusionConfig
from gendiff.methods.distribution_matching import DistributionMatching, DistributionMatchingConfig
from gendiff.methods.easy_consistency import EasyConsistency, EasyConsistencyConfig
from gendiff.methods.flow import Flow, FlowConfig
from gendiff.methods.mean_flow import (
    MeanFlow,
    MeanFlowConfig,
    MeanFlowDistillation,
    MeanFlowDistillationConfig,
)
from gendiff.methods.online_reflow import OnlineReflow, OnlineReflowConfig
from gendiff.methods.pair_distillation import PairDistillation, PairDistillationConfig
from gendiff.methods.progressive import Progressive, ProgressiveConfig
from gendiff.methods.reflow import Reflow, ReflowConfig
from gendiff.methods.score_identity import ScoreIdentity, ScoreIdentityConfig
from gendiff.methods.shortcut import Shortcut, ShortcutConfig
from gendiff.methods.truncated import (
    Truncated,
    TruncatedConfig,
    TruncatedPlus,
    TruncatedPlusConfig,
)
from gendiff.networks.classifier import Classifier
from gendiff.networks.classifier import ClassifierConfig as NetworkConfig
from gendiff.networks.mlp import MLP, MLPConfig
from gendiff.optim import OptimConfig
from gendiff.paths import VP, Cosine, Linear
from gendiff.seeding import Draws

STEPS, BATCH = 6, 16

JUDGED = DistributionMatchingConfig(fake_batches=2, student_steps=2, adversarial_weight=0.3)
CONFIGS = {
    Diffusion: DiffusionConfig(),
    Progressive: ProgressiveConfig(student_steps=4, guidance=0.5),
    Consistency: ConsistencyConfig(intervals=8, first_intervals=4, solver="heun_x0"),
    Reflow: ReflowConfig(),
    DenoisingGAN: DenoisingGANConfig(latent=4, penalty_every=2),
    ClassifierMethod: ClassifierConfig(noise=0.1, label_smoothing=0.1),
    MeanFlow: MeanFlowConfig(omega=2.0, kappa=0.5),
    MeanFlowDistillation: MeanFlowDistillationConfig(omega=1.5),
    Shortcut: ShortcutConfig(),
    Flow: FlowConfig(coupling="optimal", coupling_size=4, loss="pseudo_huber"),
    OnlineReflow: OnlineReflowConfig(solver_steps=3, times="u_shaped"),
    PairDistillation: PairDistillationConfig(),
    ConsistencyTraining: ConsistencyTrainingConfig(
        intervals=16, first_intervals=4, weight="uniform"
    ),
    EasyConsistency: EasyConsistencyConfig(stages=3),
    ContinuousConsistency: ContinuousConsistencyConfig(tangent_warmup=4, guidance=0.5),
    ContinuousConsistencyTraining: ContinuousConsistencyTrainingConfig(tangent_warmup=4),
    ScoreIdentity: ScoreIdentityConfig(alpha=1.2, guidance=0.5),
    DistributionMatching.variant(JUDGED): JUDGED,
    Truncated: TruncatedConfig(truncation=0.3, penalty_every=2),
    TruncatedPlus: TruncatedPlusConfig(truncation=0.3, latent=2, penalty_every=2),
}
PATHS = {Progressive: Linear(), Reflow: Linear(), DenoisingGAN: VP(), MeanFlow: Linear()}
METHODS = [*CONFIGS]

# Losses of the first batch and of the last, recorded: a refactor must leave them unchanged.
GOLDEN = {
    "Diffusion": (
        {"loss": 1.40507},
        {"loss": 1.07067},
    ),
    "Progressive": (
        {"loss": 0.155758},
        {"loss": 0.190053},
    ),
    "Consistency": (
        {"loss": 0.355457, "intervals": 4},
        {"loss": 0.229223, "intervals": 8},
    ),
    "Reflow": (
        {"loss": 1.98046},
        {"loss": 1.78624},
    ),
    "DenoisingGAN": (
        {
            "critic/loss": 1.41632,
            "critic/real": 0.773575,
            "critic/fake": 0.642374,
            "generator/loss": 0.750661,
        },
        {
            "critic/loss": 1.37161,
            "critic/real": 0.697231,
            "critic/fake": 0.674379,
            "generator/loss": 0.715666,
        },
    ),
    "MeanFlow": (
        {"loss": 0.999924, "square": 25.2913},
        {"loss": 0.999622, "square": 15.4007},
    ),
    "MeanFlowDistillation": (
        {"loss": 0.997505, "square": 0.887387},
        {"loss": 0.997357, "square": 0.875075},
    ),
    "Shortcut": (
        {"loss": 2.53399},
        {"loss": 2.33704},
    ),
    "Truncated": (
        {
            "student/loss": 2.03276,
            "student/simple": 1.34668,
            "student/gan": 0.686079,
            "critic/loss": 1.37931,
            "critic/real": 0.693207,
            "critic/fake": 0.685494,
        },
        {
            "student/loss": 1.77255,
            "student/simple": 1.058,
            "student/gan": 0.714544,
            "critic/loss": 1.39821,
            "critic/real": 0.704239,
            "critic/fake": 0.693968,
        },
    ),
    "TruncatedPlus": (
        {
            "student/loss": 1.34668,
            "student/simple": 1.34668,
            "generator/loss": 0.63963,
            "generator/gan": 0.63963,
            "critic/loss": 1.42832,
            "critic/real": 0.682731,
            "critic/fake": 0.742613,
        },
        {
            "student/loss": 1.05691,
            "student/simple": 1.05691,
            "generator/loss": 0.651818,
            "generator/gan": 0.651818,
            "critic/loss": 1.40351,
            "critic/real": 0.66748,
            "critic/fake": 0.736035,
        },
    ),
    "Flow": (
        {"loss": 1.01144},
        {"loss": 1.02414},
    ),
    "OnlineReflow": (
        {"loss": 2.02084},
        {"loss": 1.02299},
    ),
    "PairDistillation": (
        {"loss": 1.17677},
        {"loss": 0.898222},
    ),
    "ConsistencyTraining": (
        {"loss": 0.689163, "intervals": 4},
        {"loss": 0.236453, "intervals": 16},
    ),
    "EasyConsistency": (
        {"loss": 0.772341, "stage": 0},
        {"loss": 0.747269, "stage": 2},
    ),
    "ContinuousConsistency": (
        {"loss": 0.214935, "tangent": 0.223164},
        {"loss": 0.310714, "tangent": 0.413773},
    ),
    "ContinuousConsistencyTraining": (
        {"loss": 0.324988, "tangent": 0.650909},
        {"loss": 0.378494, "tangent": 0.804686},
    ),
    "ScoreIdentity": (
        {"fake/loss": 0.476542, "student/loss": -0.524344},
        {"fake/loss": 0.357217, "student/loss": -0.168062},
    ),
    "DistributionMatching": (
        {
            "fake/loss": 0.49259,
            "critic/loss": 1.40716,
            "critic/real": 0.611128,
            "critic/fake": 0.796032,
        },
        {
            "fake/loss": 0.485116,
            "critic/loss": 1.40097,
            "critic/real": 0.611362,
            "critic/fake": 0.78961,
            "student/loss": 0.591526,
            "student/gan": 0.59877,
        },
    ),
    "ClassifierMethod": (
        {"loss": 2.24035, "accuracy": 0.34375},
        {"loss": 2.1805, "accuracy": 0.375},
    ),
}


def mlp(channels=(2, 2), **conditions):
    return MLP(MLPConfig(width=16, depth=1, conditions=conditions), (channels[0],), channels[1])


def network(cls, role, shape):
    if cls is ClassifierMethod:
        return Classifier(NetworkConfig(members=2, channels=4, features=8, classes=3), shape)
    more = {"z": CONFIGS[cls].latent} if role == "generator" else {}
    if "flow_map" in cls.samplers or (role == "fake" and CONFIGS[cls].student_steps > 1):
        more = {"second_time": 1}
    return mlp(cls.channels(role, shape, CONFIGS[cls]), label=3, **more)


def make(cls, config=None, networks=None, **settings):
    """A method on three classes with fresh networks, the same in every call."""
    shape = (1, 8, 8) if cls is ClassifierMethod else (2,)
    torch.manual_seed(0)
    if networks is None:
        learning = [role for role in cls.roles if role not in cls.frozen]
        networks = {role: network(cls, role, shape) for role in learning}
    path = settings.pop("path", PATHS.get(cls, Cosine()))
    frozen = {role: Denoiser(mlp(label=3), path, "v") for role in cls.frozen}
    defaults = {"shape": shape, "classes": 3, "max_steps": STEPS, "seed": 0, "stage": "test"}
    optim = settings.pop("optim", OptimConfig())
    return cls(config or CONFIGS[cls], networks, path, frozen, optim, **{**defaults, **settings})


def rows(shape, count=40):
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, count, *shape, generator=generator)
    return Rows(x0=x0, eps=eps, label=torch.randint(3, (count,), generator=generator))


def fit(method, *callbacks):
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[*callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(method, DataModule(rows(method.shape), BATCH))
    return trainer


def weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def draws(method, n, dtype=torch.float32):
    """Give a method random numbers outside training; double precision where asked for."""
    method.draw = Draws((0, "test"), 0, n, n)
    if dtype is torch.float64:
        plain = method.draw
        method.draw = SimpleNamespace(normal=lambda *shape: plain.normal(*shape, dtype=dtype))


class Recorder(Callback):
    """The losses of every batch."""

    def __init__(self):
        self.losses = []

    def on_train_batch_end(self, trainer, pl_module, *rest):
        self.losses.append({name: float(value) for name, value in pl_module.losses.items()})


@pytest.fixture(scope="module", params=METHODS, ids=lambda cls: cls.__name__)
def run(request):
    """One short run of each method in a plain Trainer, with what was there before."""
    method, recorder = make(request.param), Recorder()
    before = weights(method)
    teachers = {role: weights(frozen.network) for role, frozen in method.frozen_roles.items()}
    trainer = fit(method, recorder)
    return SimpleNamespace(
        method=method, before=before, teachers=teachers, trainer=trainer, losses=recorder.losses
    )


def test_trains_every_batch_with_finite_losses(run):
    assert run.method.batches_done == len(run.losses) == STEPS
    assert np.isfinite([value for losses in run.losses for value in losses.values()]).all()


def test_losses_are_the_recorded_ones(run):
    golden = GOLDEN[type(run.method).__name__]
    for losses, wanted in zip((run.losses[0], run.losses[-1]), golden, strict=True):
        assert losses == pytest.approx(wanted, rel=1e-4)


def test_everything_that_learns_has_moved(run):
    after = run.method.state_dict()
    assert not after.pop("skipped").any()
    groups = {tuple(name.split(".")[:2]) for name in after}
    wanted = {("networks", role) for role in run.method.learning}
    assert groups == wanted | {("averaged", average) for average in run.method.averages}
    for group in groups:
        names = [name for name in after if tuple(name.split(".")[:2]) == group]
        assert any(not after[name].equal(run.before[name]) for name in names), group


def test_teachers_stay_as_they_are(run):
    assert tuple(run.teachers) == run.method.frozen
    optimized = {id(p) for o in run.trainer.optimizers for g in o.param_groups for p in g["params"]}
    for role, before in run.teachers.items():
        teacher = run.method.frozen_roles[role].network
        for name, tensor in teacher.state_dict().items():
            assert tensor.equal(before[name])
        assert not any(p.requires_grad or id(p) in optimized for p in teacher.parameters())


def test_optimizers_hold_the_learning_roles_alone(run):
    held = [[p for g in o.param_groups for p in g["params"]] for o in run.trainer.optimizers]
    wanted = [[*run.method.networks[role].parameters()] for role in run.method.learning]
    assert [[*map(id, ps)] for ps in held] == [[*map(id, ps)] for ps in wanted]
    for average in run.method.averaged.values():
        assert not any(p.requires_grad for p in average.parameters())
        assert not average.training


@pytest.mark.parametrize("cls", [Diffusion, DenoisingGAN])
def test_accumulation_changes_nothing(cls):
    ends = []
    for accumulate in (1, 4):
        method = make(cls, accumulate=accumulate, optim=OptimConfig(lr=1e-3, clip_norm=0.5))
        fit(method)
        ends.append(weights(method))
    for name in ends[0]:
        torch.testing.assert_close(ends[0][name], ends[1][name], rtol=0, atol=1e-5)


class Norms(Callback):
    """Each role's gradient norm when its optimizer steps, and whose gradients are there."""

    def __init__(self):
        self.norms, self.present = {}, set()

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        role = pl_module.learning[trainer.optimizers.index(optimizer)]
        grads = {
            name: [p.grad for p in module.parameters() if p.grad is not None]
            for name, module in pl_module.networks.items()
        }
        self.present.add((role, *(name for name in grads if grads[name])))
        self.norms.setdefault(role, []).append(nn.utils.get_total_norm(grads[role]).item())


@pytest.mark.parametrize("cls", [Diffusion, DenoisingGAN])
def test_every_role_is_clipped(cls):
    limit, highest = 0.01, {}
    for clip in (limit, 0.0):
        norms = Norms()
        fit(make(cls, optim=OptimConfig(clip_norm=clip)), norms)
        highest[clip] = {role: max(values) for role, values in norms.norms.items()}
        assert norms.present == {(role, role) for role in highest[clip]}
    assert set(highest[0.0]) == set(make(cls).learning)
    for role, norm in highest[0.0].items():
        assert norm > 2 * limit
        assert highest[limit][role] == pytest.approx(limit, rel=1e-3)


def test_rates_follow_the_role_and_the_schedule():
    seen = []

    class Rates(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            seen.append(optimizer.param_groups[0]["lr"])

    optim = OptimConfig(lr=0.01, lr_by_role={"critic": 0.1}, schedule="linear")
    fit(make(DenoisingGAN, optim=optim, max_steps=2), Rates())
    assert seen == pytest.approx([0.1, 0.01, 0.05, 0.005])


# ---- sampling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [Diffusion, Consistency, DenoisingGAN])
def test_samples_do_not_depend_on_their_batch(cls):
    method, labels = make(cls), torch.arange(6) % 3
    whole = method.sample(6, 4, labels=labels, seed=5)
    parts = [method.sample(2, 4, labels=labels[i : i + 2], seed=5, first=i) for i in range(0, 6, 2)]
    torch.testing.assert_close(whole, torch.cat(parts))
    assert not torch.allclose(whole, method.sample(6, 4, labels=labels, seed=6))


@pytest.mark.parametrize(
    ("cls", "arguments", "message"),
    [
        (Diffusion, {"steps": 0}, "steps: 0"),
        (Diffusion, {"steps": 1, "sampler": "posterior"}, "'posterior' does not fit"),
        (ClassifierMethod, {"steps": 1}, "cannot be sampled"),
    ],
)
def test_impossible_sampling_is_refused(cls, arguments, message):
    with pytest.raises(UserError, match=message):
        make(cls).sample(1, **arguments)


# ---- diffusion and reflow ------------------------------------------------------------------------


@pytest.mark.parametrize(("dropout", "share"), [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0)])
def test_labels_are_hidden_behind_the_null_label(dropout, share):
    method = make(Diffusion, DiffusionConfig(label_dropout=dropout))
    draws(method, 5000)
    label = torch.arange(5000) % 3
    shown = method.condition({"label": label})["label"]
    hidden = shown == 3
    assert hidden.float().mean().item() == pytest.approx(share, abs=0.02)
    assert shown[~hidden].equal(label[~hidden])
    assert make(Diffusion, classes=0).condition({"label": label}) == {}


def test_reflow_keeps_the_pairs():
    """A network that knows where each pair's line leads has no loss left."""
    batch = rows((2,)).__getitems__([*range(40)])

    class Slope(nn.Module):
        def forward(self, x, level, cond):
            return batch["eps"] - batch["x0"]

    for cls, exact in ((Reflow, True), (Diffusion, False)):
        method = make(cls, ReflowConfig(), {"student": Slope()}, path=Linear())
        draws(method, 40)
        loss = method.loss(batch, "student")["loss"]
        assert (loss < 1e-12) == exact


# ---- denoising GAN -------------------------------------------------------------------------------


class Flat(nn.Module):
    """The same output everywhere."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=torch.float64))

    def forward(self, x, level, cond):
        return self.value.expand(len(x), -1)


class Plane(nn.Module):
    """A critic that is linear in (x_s, x_t)."""

    def __init__(self, *slopes):
        super().__init__()
        self.slopes = nn.Parameter(torch.tensor(slopes))

    def forward(self, x, level, cond):
        return (x @ self.slopes)[:, None]


def test_imagined_samples_have_the_posteriors_moments(path):
    n = 40_000
    networks = {"critic": mlp((4, 1)), "generator": Flat([0.5, -1.0])}
    method = make(DenoisingGAN, networks=networks, path=path)
    draws(method, n, torch.float64)
    xt = torch.tensor([[1.5, 0.2]], dtype=torch.float64).expand(n, 2)
    s, t = (torch.full((n,), time, dtype=torch.float64) for time in (0.4, 0.7))
    xs = method.imagine(xt, s, t, {}).detach()
    weight_x0, weight_xt, variance = path.posterior(s[:1], t[:1])
    mean = weight_x0 * torch.tensor([0.5, -1.0], dtype=torch.float64) + weight_xt * xt[0]
    deviation = variance.sqrt().item()
    torch.testing.assert_close(xs.mean(0), mean, rtol=0, atol=4 * deviation / n**0.5)
    torch.testing.assert_close(xs.var(0), variance.expand(2), rtol=0.03, atol=0)
    assert xs.T.cov()[0, 1].abs() < 4 * variance.item() / n**0.5


@pytest.mark.parametrize(("batches_done", "penalised"), [(0, True), (3, False), (10, True)])
def test_r1_acts_on_the_cleaner_sample_alone(batches_done, penalised):
    """|dD / dx_s|^2 is 3^2 + 4^2, though x_t depends on x_s, too."""
    networks = {"critic": Plane(3.0, 4.0, 7.0, -2.0), "generator": mlp(label=3, z=4)}
    config = DenoisingGANConfig(latent=4, r1_gamma=0.2, penalty_every=10)
    method = make(DenoisingGAN, config, networks)
    method.batches_done = batches_done
    draws(method, 16)
    losses = method.loss(rows((2,)).__getitems__([*range(16)]), "critic")
    penalty = losses["loss"] - losses["real"] - losses["fake"]
    assert penalty.item() == pytest.approx(0.1 * 25 * penalised, abs=1e-4)


def test_gan_losses_pull_in_opposite_ways():
    """With a critic that says 0 every loss is log 2, and each role is pushed its own way."""
    networks = {"critic": Plane(0.0, 0.0, 0.0, 0.0), "generator": mlp(label=3, z=4)}
    method = make(DenoisingGAN, replace(CONFIGS[DenoisingGAN], r1_gamma=0.0), networks)
    batch = rows((2,)).__getitems__([*range(16)])
    draws(method, 16)
    critic = method.loss(batch, "critic")
    for name in ("real", "fake"):
        assert critic[name].item() == pytest.approx(np.log(2))
    draws(method, 16)
    assert method.loss(batch, "generator")["loss"].item() == pytest.approx(np.log(2))


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "change", "message"),
    [
        (Diffusion, {"label_dropout": 1.5}, "^label_dropout: 1.5"),
        (Diffusion, {"prediction": "eps"}, "^prediction: eps does not fit Cosine"),
        (DenoisingGAN, {"penalty_every": 0}, "^penalty_every: 0"),
    ],
)
def test_check_names_the_key(cls, change, message):
    path = Cosine()
    cls.check(CONFIGS[cls], path)
    with pytest.raises(ValueError, match=message):
        cls.check(replace(CONFIGS[cls], **change), path)

"""A short run of each method: its losses, what learns, and what does not."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden import FILE, Losses
from lightning.pytorch import Callback
from small import STEPS, fit, make
from table import TRAINED
from torch import nn

from gendiff.errors import UserError
from gendiff.methods.classifier import ClassifierMethod
from gendiff.methods.denoising_gan import DenoisingGAN
from gendiff.methods.diffusion import Diffusion
from gendiff.optim import OptimConfig


def weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.fixture(scope="module", params=TRAINED)
def run(request):
    """One short run of each method in a plain Trainer, with what was there before."""
    method, losses = make(request.param, classes=3), Losses()
    before = weights(method)
    teachers = {role: weights(frozen.network) for role, frozen in method.frozen_roles.items()}
    fit(method, losses)
    return SimpleNamespace(
        case=request.param, method=method, before=before, teachers=teachers, losses=losses.all
    )


def test_trains_every_batch_with_finite_losses(run):
    assert run.method.batches_done == len(run.losses) == STEPS
    assert np.isfinite([value for losses in run.losses for value in losses.values()]).all()


def test_losses_are_the_recorded_ones(run):
    golden = json.loads(FILE.read_text())
    assert run.case in golden, f"no recorded losses of {run.case}: see golden.py"
    for losses, wanted in zip((run.losses[0], run.losses[-1]), golden[run.case], strict=True):
        assert losses == pytest.approx(wanted, rel=1e-4)


def test_no_losses_are_recorded_in_vain():
    assert sorted(json.loads(FILE.read_text())) == TRAINED


def test_everything_that_learns_has_moved(run):
    after = run.method.state_dict()
    assert not after.pop("skipped").any()
    groups = {tuple(name.split(".")[:2]) for name in after}
    wanted = {("networks", role) for role in run.method.learning}
    wanted |= {("averaged", average) for average in run.method.averages}
    assert wanted <= groups
    assert not {word for group in groups for word in group} & {*run.method.frozen}
    for group in groups:
        names = [name for name in after if tuple(name.split(".")[:2]) == group]
        assert any(not after[name].equal(run.before[name]) for name in names), group


def held(run):
    """What each optimizer steps."""
    optimizers = run.method.trainer.optimizers
    return [[p for g in o.param_groups for p in g["params"]] for o in optimizers]


def test_teachers_stay_as_they_are(run):
    assert tuple(run.teachers) == run.method.frozen
    optimized = {
        id(p) for o in run.method.trainer.optimizers for g in o.param_groups for p in g["params"]
    }
    for role, before in run.teachers.items():
        teacher = run.method.frozen_roles[role].network
        for name, tensor in teacher.state_dict().items():
            assert tensor.equal(before[name])
        assert not any(p.requires_grad or id(p) in optimized for p in teacher.parameters())


def test_optimizers_hold_the_learning_roles_alone(run):
    wanted = [[*run.method.networks[role].parameters()] for role in run.method.learning]
    assert [[*map(id, ps)] for ps in held(run)] == [[*map(id, ps)] for ps in wanted]
    for average in run.method.averaged.values():
        assert not any(p.requires_grad for p in average.parameters())
        assert not average.training


def test_samples_do_not_depend_on_their_batch(run):
    method, labels = run.method, torch.arange(6) % 3
    if not method.samplers:
        return
    steps = (method.steps_range(method.config) or (4, 4))[1]
    whole = method.sample(6, steps, labels=labels, seed=5)
    parts = [
        method.sample(2, steps, labels=labels[i : i + 2], seed=5, first=i) for i in range(0, 6, 2)
    ]
    torch.testing.assert_close(whole, torch.cat(parts))
    assert not torch.allclose(whole, method.sample(6, steps, labels=labels, seed=6))


@pytest.mark.parametrize("cls", [Diffusion, DenoisingGAN])
def test_accumulation_changes_nothing(cls):
    ends = []
    for accumulate in (1, 4):
        optim = OptimConfig(lr=1e-3, clip_norm=0.5)
        method = make(cls, accumulate=accumulate, optim=optim, classes=3)
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
        fit(make(cls, optim=OptimConfig(clip_norm=clip), classes=3), norms)
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

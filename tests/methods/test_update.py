"""Updates whose gradients are not finite: skipped whole, counted, said; too many are the end."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from small import STEPS, fit, make, poison
from table import config_of

from gendiff.checkpoint import Checkpoints
from gendiff.cli import main
from gendiff.errors import UserError
from gendiff.keeper import finite
from gendiff.methods import adversarial
from gendiff.methods.denoising_gan import DenoisingGAN
from gendiff.methods.diffusion import Diffusion
from gendiff.methods.truncated import Truncated, TruncatedPlus


def sit_out(method, role, batches):
    """Leave a role without its turn in these batches."""
    plain = method.turns
    method.turns = lambda k: tuple(r for r in plain(k) if r != role or k not in batches)


@pytest.mark.parametrize(
    ("cls", "role", "batches", "kind", "settings"),
    [
        (Diffusion, "student", {2}, "nan", {"name": "adam"}),
        (Diffusion, "student", {2}, "slope", {"name": "adamw", "clip": 0.5, "accumulate": 4}),
        (Diffusion, "student", {2, 3}, "inf", {"name": "adamw"}),
        (Diffusion, "student", {0, 5}, "nan", {"name": "adam", "clip": 0.5}),
        (Diffusion, "student", {2}, "nan", {"name": "radam", "accumulate": 2}),
        (Diffusion, "student", {0, 2}, "inf", {"name": "radam", "clip": 0.5}),
        (DenoisingGAN, "critic", {1}, "nan", {"name": "adam"}),
        (DenoisingGAN, "generator", {0, 4}, "nan", {"name": "radam", "accumulate": 2}),
        (Truncated, "student", {3}, "slope", {"name": "adamw", "clip": 0.5, "accumulate": 2}),
        (TruncatedPlus, "critic", {2}, "inf", {"name": "adam", "clip": 0.5}),
    ],
)
def test_a_bad_batch_is_a_turn_not_taken(cls, role, batches, kind, settings):
    spoilt, plain = make(cls, **settings), make(cls, **settings)
    poison(spoilt, role, batches, kind)
    sit_out(plain, role, batches)
    states, wanted_states = fit(spoilt), fit(plain)
    ours, theirs = spoilt.state_dict(), plain.state_dict()
    counts = dict(zip(spoilt.learning, ours.pop("skipped").tolist(), strict=True))
    rows = {role: [int(STEPS - 1 in batches), len(batches)]}
    assert counts == {key: [0, 0] for key in spoilt.learning} | rows
    assert not theirs.pop("skipped").any()
    assert all(torch.equal(ours[name], wanted) for name, wanted in theirs.items())
    for state, wanted in zip(states, wanted_states, strict=True):  # moments and step counts
        assert state.keys() == wanted.keys()
        for key, values in wanted.items():
            assert all(torch.equal(state[key][name], value) for name, value in values.items())


@pytest.mark.parametrize("cls", [DenoisingGAN, Truncated, TruncatedPlus])
def test_in_mixed_precision_penalties_are_exact(cls, monkeypatch):
    method, seen, losses = make(cls, clip=1.0), [], []
    plain_slopes, plain_loss = adversarial.slopes, method.loss

    def slopes(logits, x):
        found = plain_slopes(logits, x)
        seen.extend([logits.dtype, x.dtype, found.dtype])
        return found

    def loss(batch, role):
        parts = plain_loss(batch, role)
        losses.extend(parts.values())
        return parts

    monkeypatch.setattr(adversarial, "slopes", slopes)
    method.loss = loss
    fit(method, precision="bf16-mixed")
    assert len(seen) == 3 * STEPS // 2
    assert set(seen) == {torch.float32}
    assert torch.stack(losses).isfinite().all()
    assert not method.skipped.any()


# ---- by the command ------------------------------------------------------------------------------

TINY = [
    *("trainer.max_steps=12", "trainer.checkpoint_steps=4", "logging.every_steps=1"),
    *("data.samples=64", "data.held_out=16", "data.batch_size=16", "evaluation.steps=[]"),
]
ONE = ["networks.student.width=8", "networks.student.depth=1"]
TWO = [
    f"networks.{role}.{key}" for role in ("generator", "critic") for key in ("width=8", "depth=1")
]


RUNS = {
    "mixture_diffusion": Diffusion,
    "mixture_denoising_gan": DenoisingGAN,
    "mixture_truncated_plus": TruncatedPlus,
}


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """``command(spoil, *words)`` -> exit code and what was said; ``spoil(method, role, loss)``."""

    def call(spoil, *words, config="mixture_diffusion", folder=tmp_path):
        cls = RUNS[config]
        plain, widths = cls.loss, [f"networks.{role}.width=8" for role in cls.roles]

        def loss(method, batch, role):
            losses = plain(method, batch, role)
            return {**losses, "loss": spoil(method, role, losses["loss"])}

        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(cls, "loss", loss)
            code = main(["run", config, *TINY, *widths, *words, "--dir", str(folder)])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err, folder=folder / config)

    return call


def in_batches(*batches, role=None):
    """What spoils the loss of a role in these batches."""
    return lambda method, asked, loss: (
        loss * math.nan if method.batches_done in batches and role in (None, asked) else loss
    )


def metrics(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return {int(row.pop("step")): row for row in csv.DictReader(file)}


def test_skipped_updates_are_said_and_logged(command):
    done = command(in_batches(2, 3, 11))
    assert done.code == 0
    assert done.out.count("skipped so far") == 3
    assert "  step 12: updates skipped so far, not finite: student 3\n" in done.out
    rows = metrics(done.folder)
    assert [rows[step]["skipped"] for step in (2, 3, 4, 11, 12)] == ["", "1", "2", "2", "3"]
    assert {step for step, row in rows.items() if not row["loss"]} == {3, 4, 12}
    assert all(math.isfinite(float(x)) for row in rows.values() for x in row.values() if x)
    state = Checkpoints(done.folder).load(pytest.fail)["state"]
    assert state["skipped"].tolist() == [[1, 3]]
    weights = load_file(done.folder / "weights" / "student.safetensors")
    assert all(name in state for name in (f"networks.student.{key}" for key in weights))
    assert len(weights) == sum(name.startswith("networks.") for name in state)


def test_only_the_role_at_fault_is_left_out_of_the_log(command):
    done = command(in_batches(5, role="critic"), config="mixture_denoising_gan")
    assert (done.code, done.out.count("skipped so far")) == (0, 1)
    assert "step 6: updates skipped so far, not finite: critic 1" in done.out
    row = metrics(done.folder)[6]
    assert row["critic/loss"] == ""
    assert math.isfinite(float(row["generator/loss"]))
    assert math.isfinite(float(row["critic/real"]))


@pytest.mark.parametrize(
    ("words", "batches", "stopped"),
    [
        (["trainer.skip_limit=3"], range(5, 12), 8),
        (["trainer.skip_limit=3", "logging.every_steps=5"], range(5, 12), 8),  # at a checkpoint
        (["trainer.skip_limit=3", "logging.every_steps=5"], range(1, 12), 4),
        (["trainer.skip_limit=3"], (3, 4, 6, 7), None),
        ([], range(3, 12), 9),  # half of the training
        (["trainer.skip_limit=0"], range(3, 12), None),
    ],
)
def test_too_many_in_a_row_end_the_training(command, words, batches, stopped):
    for _ in range(2):  # the second time from the last checkpoint
        done = command(in_batches(*batches), *words)
        if stopped is None:
            assert done.code == 0
            return
        row = stopped - batches[0]
        assert done.code == 2
        assert done.err.startswith(f"gendiff: mixture_diffusion: the last {row} updates of student")
        assert f"skipped by step {stopped}, as gradients were not finite (trainer.skip" in done.err
        assert "the last checkpoint is untouched. A smaller optim.lr or" in done.err
        assert done.err.count("\n") == 1
        healthy = batches[0] // 4 * 4
        assert Checkpoints(done.folder).newest() == healthy  # none was saved while skipping


def test_a_resumed_run_counts_on_and_ends_alike(command, tmp_path):
    """Three roles, of which one skips updates before the stop and after it."""
    spoil, config = in_batches(1, 6, 10, role="generator"), "mixture_truncated_plus"

    def stop(method, role, loss):
        if method.batches_done == 9:
            raise UserError("stopped")
        return spoil(method, role, loss)

    assert command(stop, config=config).err == "gendiff: stopped\n"
    done = command(spoil, config=config)
    assert done.out.count("skipped so far") == 1  # the others had been said
    assert "step 11: updates skipped so far, not finite: generator 3" in done.out
    undisturbed = command(spoil, config=config, folder=tmp_path / "undisturbed").folder
    ours, theirs = (
        Checkpoints(folder).load(pytest.fail)["state"] for folder in (done.folder, undisturbed)
    )
    assert ours["skipped"].tolist() == [[0, 0], [0, 3], [0, 0]]
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert metrics(done.folder) == metrics(undisturbed)


def test_a_checkpoint_without_counts_goes_on(command):
    spoil = in_batches(*range(6, 12))
    folder = command(spoil, "trainer.skip_limit=3").folder
    checkpoints = Checkpoints(folder)
    state = checkpoints.load(pytest.fail)
    del state["state"]["skipped"]
    checkpoints.save(state, state["batches_done"])
    assert command(in_batches(), "trainer.skip_limit=3").code == 0


@pytest.mark.parametrize("skipped", [{}, {"generator": 1}])
def test_another_loss_that_is_not_finite_is_an_error(skipped):
    """Finite slopes do not excuse a loss, nor does another role."""
    method = make(DenoisingGAN)
    method.stage, method.batches_done = "gan", 7
    losses = {"critic/loss": math.inf, "generator/loss": 1.0}
    with pytest.raises(UserError, match="gan: critic/loss is inf at step 7; the last checkpoint"):
        finite(losses, method, skipped, weights_too=False)
    assert finite(losses, method, {"critic": 1}, weights_too=False) == {"generator/loss": 1.0}
    with torch.no_grad():
        next(method.networks["generator"].parameters()).view(-1)[0] = math.nan
    with pytest.raises(UserError, match=r"gan: generator.* is not finite at step 7"):
        finite(losses, method, {"critic": 1}, weights_too=True)


@pytest.mark.parametrize("cls", [DenoisingGAN, Truncated, TruncatedPlus])
def test_a_critic_can_have_batches_of_its_own(cls):
    config = replace(config_of(cls.Config.name), critic_batches=4)
    method = make(cls, config=config)
    states = fit(method)
    for role, state in zip(method.learning, states, strict=True):
        turns = STEPS if role == "critic" else STEPS // 4
        assert {int(moments["step"]) for moments in state.values()} == {turns}

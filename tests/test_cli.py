"""The command line, mistakes first: code 2, a line or two, nothing that passes for complete."""

from __future__ import annotations

import errno
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gendiff.checkpoint import Checkpoints
from gendiff.cli import KINDS, main
from gendiff.storage import lock, sha256

GENDIFF = Path(sys.executable).with_name("gendiff")
TINY = [
    "mixture_diffusion",
    *("trainer.max_steps=8", "trainer.checkpoint_steps=4", "optim.warmup_steps=0"),
    *("data.samples=200", "data.held_out=50", "evaluation.samples=50", "data.batch_size=32"),
    *("networks.student.width=8", "networks.student.depth=1", "evaluation.steps=[]"),
]


@pytest.fixture
def refuse(capsys):
    """``refuse(words)`` -> the message of a command that must be refused."""

    def call(*words):
        capsys.readouterr()
        assert main([str(word) for word in words]) == 2
        out, err = capsys.readouterr()
        assert err.startswith("gendiff: ")
        assert err.endswith("\n")
        assert 1 <= err.count("\n") <= 2
        assert "Traceback" not in out + err
        return err

    return call


def run(folder, *words):
    return main(["run", *TINY, *words, "--dir", str(folder)])


def finished(folder):
    return sorted(path.parent.name for path in folder.rglob("done.json"))


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A finished stage folder; to be read only."""
    folder = tmp_path_factory.mktemp("model")
    assert run(folder) == 0
    return folder / "mixture_diffusion"


# ---- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: COMMAND"),
        (["rum"], "invalid choice: 'rum'"),
        (["run"], "required: STAGES|CONFIG"),
        (["run", "mixture_difusion"], "no such stage or config. Did you mean 'mixture_diffusion'?"),
        (["run", "none.yaml"], "none.yaml: no such file"),
        (["run", "mixture_diffusion", "--frob"], "--frob: no such option"),
        (["run", "mixture_diffusion", "optim.lrr=1"], "mixture_diffusion: optim.lrr: "),
        (["run", "digits_consistency"], "init.teacher: missing"),
        (["status", "mixture_diffusion", "seed"], "'seed': an override is written"),
        (["status", "mixture_interfaces", "seed=1"], "seed: unknown key. Allowed: stages"),
        (["list", "method"], "method: no such kind. Did you mean 'methods'?"),
        (["sample", "none"], "none: not a stage folder"),
        (["sample", "none", "-n", "0"], "-n: 0; at least 1"),
        (["sample", "none", "--steps", "two"], "invalid int value: 'two'"),
        (["evaluate", "none", "--steps", "1,x"], "--steps: invalid"),
        (["evaluate", "none"], "none: not a stage folder"),
    ],
)
def test_mistake_is_told_and_leaves_nothing(refuse, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert message in refuse(*words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "0"], "steps: 0"),
        (["--steps", "-2"], "steps: -2"),
        (
            ["--sampler", "posterior"],
            "does not fit this model. Allowed: ancestral, ddim, dpm_solver",
        ),
        (["--role", "emma"], "has no 'emma'. Did you mean 'ema'?"),
        (["--label", "3"], "this model takes no labels"),
        (["--label", "-1"], "this model takes no labels"),
        (["-o", "x.jpg"], "x.jpg: samples are saved as"),
    ],
)
def test_sample_mistakes(refuse, model, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert message in refuse("sample", model, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "0"], "evaluation.steps: 0"),
        (["--sampler", "x"], "evaluation.samplers: no sampler 'x'"),
        (["--role", "critic"], "evaluation.roles: unknown 'critic'. Allowed: ema, student"),
        (["--metric", "recal"], "evaluation.metrics: unknown 'recal'"),
        (["--samples", "1"], "evaluation.samples: 1 is too small"),
        (["--samples", "100000"], "evaluation.samples: 100000; "),
        (["-o", "x.png"], "-o: x.png: points are written as .json"),
    ],
)
def test_evaluate_mistakes(refuse, model, words, message):
    assert message in refuse("evaluate", model, *words)
    assert not (model / "evaluation.json").exists()


def test_run_folder_for_a_stage_folder(refuse, model):
    message = refuse("sample", model.parent)
    assert "Finished stages in it: mixture_diffusion" in message


# ---- what goes wrong while running ---------------------------------------------------------------


def test_updates_that_are_not_finite(refuse, tmp_path):
    words = ["run", *TINY, "--dir", tmp_path, "optim.lr=1e30", "logging.every_steps=1"]
    told = refuse(*words, "trainer.skip_limit=3")
    assert "mixture_diffusion: the last 3 updates of student were skipped by step 4" in told
    assert "last checkpoint is untouched" in told
    assert "optim.lr or optim.clip_norm" in told
    assert finished(tmp_path) == []
    assert "stale: optim.lr: 1e+30 -> 0.002" in refuse("run", *TINY, "--dir", tmp_path)
    assert run(tmp_path, "--rerun", "mixture_diffusion") == 0


def test_checkpoint_is_never_poisoned(tmp_path):
    assert run(tmp_path, "optim.lr=1e30", "logging.every_steps=50") == 2
    state = Checkpoints(tmp_path / "mixture_diffusion").load(pytest.fail)
    assert state["batches_done"] == 0  # later weights are finite, but no batch has a finite loss
    tensors = [t for t in state["state"].values() if isinstance(t, torch.Tensor)]
    assert all(t.isfinite().all() for t in tensors)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_stops_a_run_that_then_goes_on(refuse, model, tmp_path, monkeypatch, call):
    real, calls = getattr(os, call), []

    def fill(*args):
        calls.append(args)
        if len(calls) > 12:  # some way into the run
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fill)
        assert "the disk is full" in refuse("run", *TINY, "trainer.checkpoint_steps=1", "--dir",
                                            tmp_path)  # fmt: skip
    assert finished(tmp_path) == []
    assert not list(tmp_path.rglob("*.tmp"))
    assert run(tmp_path, "trainer.checkpoint_steps=1") == 0
    for role in ("student", "ema"):
        file = f"weights/{role}.safetensors"
        assert sha256(tmp_path / "mixture_diffusion" / file) == sha256(model / file)


@pytest.mark.parametrize(
    "where",
    [
        "file/run",
        "file",
    ],
)
def test_run_folder_that_cannot_be(refuse, tmp_path, where):
    (tmp_path / "file").write_text("mine")
    assert "cannot be written" in refuse("run", *TINY, "--dir", tmp_path / where)
    assert (tmp_path / "file").read_text() == "mine"


def test_two_runs_in_one_folder(refuse, tmp_path):
    with lock(tmp_path / ".locks" / "mixture_diffusion"):
        assert "another gendiff run is using" in refuse("run", *TINY, "--dir", tmp_path)
        assert finished(tmp_path) == []
    assert run(tmp_path) == 0


# ---- what goes right -----------------------------------------------------------------------------


def test_overrides_may_come_after_options(tmp_path):
    words = ["run", TINY[0], "--dir", str(tmp_path), *TINY[1:], "seed=3"]
    assert main(words) == 0
    assert "seed: 3\n" in (tmp_path / "mixture_diffusion/config.yaml").read_text()


def test_run_folder_is_named_after_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["run", *TINY]) == 0
    assert finished(tmp_path / "runs" / "mixture_diffusion") == ["mixture_diffusion"]


def test_sample_is_a_function_of_its_seed(model, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        words = [
            "-n",
            "6",
            "--steps",
            "2",
            "--seed",
            str(seed),
            "-o",
            str(tmp_path / f"{name}.npz"),
        ]
        assert main(["sample", str(model), *words]) == 0
    a, b, c = (next(iter(np.load(tmp_path / f"{n}.npz").values())) for n in "abc")
    assert a.shape == (6, 2)
    assert (a == b).all()
    assert (a != c).any()


def test_evaluate_prints_and_writes(model, tmp_path, capsys):
    import json
    import shutil

    folder = shutil.copytree(model, tmp_path / "copy")
    words = [
        "--steps",
        "1,2",
        "--draws",
        "2",
        "--sampler",
        "ancestral",
        "-o",
        str(tmp_path / "m.json"),
    ]
    assert main(["evaluate", str(folder), *words]) == 0
    entries = json.loads((tmp_path / "m.json").read_text())
    assert [(e["model"], e["sampler"], e["nfe"]) for e in entries] == [
        ("copy", "ancestral", 1),
        ("copy", "ancestral", 2),
    ]
    assert "ancestral" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_list_of_a_kind(kind, capsys):
    assert main(["list", kind]) == 0
    title, *lines = capsys.readouterr().out.strip("\n").split("\n")
    assert title == f"{kind}:"
    assert lines
    assert all(re.fullmatch(r"  \w+ +\S.*", line) for line in lines)


# ---- as a real process ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "err"),
    [
        (["--help"], 0, ""),
        (["list", "paths"], 0, ""),
        (["run", "frob"], 2, "gendiff: frob: no such stage or config"),
    ],
)
def test_installed_command(tmp_path, words, code, err):
    result = subprocess.run([GENDIFF, *words], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == code
    assert result.stderr.startswith(err)
    assert bool(result.stdout) == (code == 0)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_in_the_middle_of_a_checkpoint(refuse, tmp_path, monkeypatch):
    class Full(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fdopen", lambda handle, mode: Full(handle, mode))
    assert "the disk is full" in refuse("run", *TINY, "--dir", tmp_path)
    assert finished(tmp_path) == []


def test_only_waits_for_the_evaluator(refuse, tmp_path):
    told = refuse("run", "digits_fewstep", "--only", "teacher", "--dir", tmp_path)
    assert "teacher: waits for digits_classifier" in told


def test_a_config_edited_by_hand_is_not_read(refuse, model):
    path = model / "config.yaml"
    text = path.read_text()
    try:
        path.write_text(text.replace("prediction: v", "prediction: eps").replace("cosine", "vp"))
        assert "config.yaml: damaged" in refuse("sample", model, "--steps", 1)
    finally:
        path.write_text(text)


def test_a_latent_the_generator_does_not_take(refuse, tmp_path):
    told = refuse("run", "mixture_denoising_gan", "method.latent=16", "--dir", tmp_path)
    assert "networks.generator.conditions.z: 8; denoising_gan tells its generator" in told

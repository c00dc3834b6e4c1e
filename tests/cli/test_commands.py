"""The command line at work: what stops a run and what then goes on, and what commands print."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from gendiff.checkpoint import Checkpoints
from gendiff.cli import main
from gendiff.commands.list import KINDS
from gendiff.storage import lock, sha256

GENDIFF = Path(sys.executable).with_name("gendiff")


def finished(folder):
    return sorted(path.parent.name for path in folder.rglob("done.json"))


def test_updates_that_are_not_finite(refuse, tmp_path, run, tiny):
    words = ["run", *tiny, "--dir", tmp_path, "optim.lr=1e30", "logging.every_steps=1"]
    told = refuse(*words, "trainer.skip_limit=3")
    assert "mixture_diffusion: the last 3 updates of student were skipped by step 4" in told
    assert "last checkpoint is untouched" in told
    assert "optim.lr or optim.clip_norm" in told
    assert finished(tmp_path) == []
    assert "stale: optim.lr: 1e+30 -> 0.002" in refuse("run", *tiny, "--dir", tmp_path)
    assert run(tmp_path, "--rerun", "mixture_diffusion") == 0


def test_checkpoint_is_never_poisoned(tmp_path, run):
    assert run(tmp_path, "optim.lr=1e30", "logging.every_steps=50") == 2
    state = Checkpoints(tmp_path / "mixture_diffusion").load(pytest.fail)
    assert state["batches_done"] == 0  # later weights are finite, but no batch has a finite loss
    tensors = [t for t in state["state"].values() if isinstance(t, torch.Tensor)]
    assert all(t.isfinite().all() for t in tensors)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_stops_a_run_that_then_goes_on(
    refuse, model, tmp_path, monkeypatch, call, run, tiny
):
    real, calls = getattr(os, call), []

    def fill(*args):
        calls.append(args)
        if len(calls) > 12:  # some way into the run
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fill)
        assert "the disk is full" in refuse("run", *tiny, "trainer.checkpoint_steps=1", "--dir",
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
def test_run_folder_that_cannot_be(refuse, tmp_path, where, tiny):
    (tmp_path / "file").write_text("mine")
    assert "cannot be written" in refuse("run", *tiny, "--dir", tmp_path / where)
    assert (tmp_path / "file").read_text() == "mine"


def test_two_runs_in_one_folder(refuse, tmp_path, run, tiny):
    with lock(tmp_path / ".locks" / "mixture_diffusion"):
        assert "another gendiff run is using" in refuse("run", *tiny, "--dir", tmp_path)
        assert finished(tmp_path) == []
    assert run(tmp_path) == 0


def test_full_disk_in_the_middle_of_a_checkpoint(refuse, tmp_path, monkeypatch, tiny):
    class Full(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fdopen", lambda handle, mode: Full(handle, mode))
    assert "the disk is full" in refuse("run", *tiny, "--dir", tmp_path)
    assert finished(tmp_path) == []


# ---- what goes right -----------------------------------------------------------------------------


def test_overrides_may_come_after_options(tmp_path, tiny):
    words = ["run", tiny[0], "--dir", str(tmp_path), *tiny[1:], "seed=3"]
    assert main(words) == 0
    assert "seed: 3\n" in (tmp_path / "mixture_diffusion/config.yaml").read_text()


def test_run_folder_is_named_after_the_file(tmp_path, monkeypatch, tiny):
    monkeypatch.chdir(tmp_path)
    assert main(["run", *tiny]) == 0
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


@pytest.fixture(scope="module")
def labelled(run, tmp_path_factory):
    """A finished stage whose network takes labels."""
    folder = tmp_path_factory.mktemp("labelled")
    assert run(folder, "networks.student.conditions.label=3") == 0
    return folder / "mixture_diffusion"


@pytest.mark.parametrize(
    ("words", "labels"), [([], [0, 0, 1, 1, 2, 2]), (["--label", "1"], [1, 1, 1, 1, 1, 1])]
)
def test_samples_are_saved_with_their_labels(labelled, model, tmp_path, words, labels):
    asked = ["-n", "6", "--steps", "1", "-o", str(tmp_path / "x.npz")]
    assert main(["sample", str(labelled), *asked, *words]) == 0
    with np.load(tmp_path / "x.npz") as saved:
        assert saved["label"].tolist() == labels
        assert saved["x"].shape == (6, 2)
    assert main(["sample", str(model), *asked]) == 0
    with np.load(tmp_path / "x.npz") as saved:
        assert list(saved) == ["x"]


def test_samples_are_drawn_on_the_gpu(model, tmp_path, monkeypatch):
    """If there is one."""
    places = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr("gendiff.model.Model.to", lambda self, device: places.append(device))
    assert main(["sample", str(model), "-n", "2", "-o", str(tmp_path / "x.npz")]) == 0
    assert places == [torch.device("cuda", 0)]


def test_status_of_a_stage_that_is_being_run(tiny, tmp_path, capsys):
    words, folder = ["status", *tiny, "--dir", str(tmp_path)], tmp_path / ".locks"
    for held, state in ((True, "running"), (False, "missing")):
        with lock(folder / "mixture_diffusion") if held else nullcontext():
            assert main(words) == 0
        assert capsys.readouterr().out.split()[:2] == ["mixture_diffusion", state]
    with lock(folder / "mixture_diffusion"):  # looking at it did not take it
        pass
    assert sorted(p.name for p in tmp_path.rglob("*")) == [".lock", ".locks", "mixture_diffusion"]


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
    assert all(re.fullmatch(r"  [\w/]+ +\S.*", line) for line in lines)


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_imports_still_run(tmp_path, number):
    slow = "import pathlib, time\npathlib.Path('begun').touch()\ntime.sleep(100)\n"
    (tmp_path / "omegaconf.py").write_text(slow)  # found first, as it is in the working folder
    words = [sys.executable, "-m", "gendiff", "run", "mixture_diffusion"]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (tmp_path / "begun").exists():
            time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert err == f"gendiff: {number.name}; run again to go on.\n"

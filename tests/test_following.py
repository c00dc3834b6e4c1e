"""Processes that stop when those that started them are killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from gendiff.following import follow, launched, parent_of


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({}, False),
        ({"RANK": "0"}, True),
        ({"SLURM_STEP_NUM_TASKS": "1"}, False),  # a script that sbatch runs
        ({"SLURM_STEP_NUM_TASKS": "2"}, True),
    ],
)
def test_who_is_one_of_several(monkeypatch, said, wanted):
    monkeypatch.setattr(os, "environ", said)
    assert launched() is wanted


def test_a_parent_is_found_whatever_a_process_is_called(monkeypatch):
    assert parent_of(os.getpid()) == os.getppid()
    assert parent_of(2**30) is None
    monkeypatch.setattr(Path, "read_text", lambda path: "7 (a) b (c) S 42 1 0")
    assert parent_of(7) == 42


def fork(call):
    """The id of a process that does this and no more."""
    pid = os.fork()
    if not pid:
        try:
            call()
        finally:
            os._exit(0)
    return pid


def said_once_killed(pid, heard, tell):
    """What comes through a pipe after its first line, for which a process is killed."""
    os.close(tell)
    with os.fdopen(heard, "rb") as file:
        file.readline()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return file.read()


@pytest.mark.parametrize("when", ["before", "later"])
def test_who_follows_a_launcher_stops_when_that_is_killed(monkeypatch, when):
    """Before, as its followers still import, or later."""
    monkeypatch.setattr("gendiff.following.SECONDS", 0.05)
    heard, tell = os.pipe()
    over = threading.Event()

    def follower():
        if when == "before":
            os.environ["GENDIFF_FOLLOW"] = str(os.getppid())
            os.write(tell, b"there\n")
            while str(os.getppid()) == os.environ["GENDIFF_FOLLOW"]:
                time.sleep(0.01)
        signal.signal(signal.SIGTERM, lambda *_: (os.write(tell, b"T"), over.set()))
        follow()
        if when == "later":
            os.write(tell, b"there\n")
        over.wait(5)

    def launcher():
        os.waitpid(fork(follower), 0)

    assert said_once_killed(fork(launcher), heard, tell) == b"T"


@pytest.mark.parametrize(
    ("word", "rank", "launcher", "wanted"),
    [
        ("GENDIFF_FOLLOW", "0", "TORCHELASTIC_RUN_ID", b"T"),
        ("GENDIFF_FOLLOW", "0", "SLURM_JOB_ID", b""),  # srun ends with its own
        ("WANDB_SWEEP_PARAM_PATH", "0", "TORCHELASTIC_RUN_ID", b"T"),
        ("GENDIFF_FOLLOW", "1", "TORCHELASTIC_RUN_ID", b""),  # the first's affair: told once
        ("OTHER", "0", "TORCHELASTIC_RUN_ID", b""),  # a user's torchrun outlives its shell
    ],
)
def test_torchrun_is_stopped_when_the_sweep_is_killed(monkeypatch, word, rank, launcher, wanted):
    """sweep -> torchrun -> rank, of which the first is killed."""
    for name in ("GENDIFF_FOLLOW", "WANDB_SWEEP_PARAM_PATH", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {launcher: "r", "LOCAL_RANK": rank, word: ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("gendiff.following.SECONDS", 0.05)
    heard, tell = os.pipe()

    def first():
        follow()
        os.write(tell, b"there\n")
        threading.Event().wait(1)

    def torchrun():
        signal.signal(signal.SIGTERM, lambda *_: os.write(tell, b"T"))
        os.waitpid(fork(first), 0)

    def sweep():
        os.waitpid(fork(torchrun), 0)

    assert said_once_killed(fork(sweep), heard, tell) == wanted

"""A tiny run, a finished stage of it, and commands that must be refused."""

from __future__ import annotations

import pytest

from gendiff.cli import main

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


@pytest.fixture(scope="session")
def tiny():
    """The words of a run that takes no time."""
    return TINY


@pytest.fixture(scope="session")
def run():
    """``run(folder, *words)`` -> exit code of the tiny run."""
    return lambda folder, *words: main(["run", *TINY, *words, "--dir", str(folder)])


@pytest.fixture(scope="session")
def model(tmp_path_factory, run):
    """A finished stage folder; to be read only."""
    folder = tmp_path_factory.mktemp("model")
    assert run(folder) == 0
    return folder / "mixture_diffusion"

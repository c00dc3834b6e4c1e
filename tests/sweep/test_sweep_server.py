"""Sweeps that a server proposes the trials of: created once, and asked only where it may be."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from gendiff.cli import main
from gendiff.sweep import local


class Server:
    """A stand-in for the wandb module, as far as sweeps go."""

    __spec__ = ModuleSpec("wandb", None)

    def __init__(self):
        self.created, self.agents = [], []

    def sweep(self, config, entity=None, project=None):
        self.created.append((config, entity, project))
        return "abc123"

    def agent(self, address, count=None):
        self.agents.append((address, count))


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    """The stand-in, and a key."""
    monkeypatch.setitem(sys.modules, "wandb", Server())
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.chdir(tmp_path)
    return sys.modules["wandb"]


def test_on_a_server_the_sweep_is_created_once(write, wandb, two, tmp_path, capsys):
    words = ["python", "-m", "gendiff", "run", two, "logging.wandb=online", "${args_no_hyphens}"]
    path = write(command=words, entity="us", project="maps")
    assert main(["sweep", str(path), "--count", "3"]) == 0
    folder = str(Path("runs") / "two-rate")
    ((config, *where),) = wandb.created
    assert where == ["us", "maps"]
    assert config["command"] == [*words[:-1], "--dir", folder, words[-1]]
    assert {k: v for k, v in config.items() if k != "command"} == {
        key: value for key, value in yaml.safe_load(path.read_text()).items() if key != "command"
    }
    assert "wandb agent us/maps/abc123\n" in capsys.readouterr().out
    assert main(["sweep", str(path)]) == 0
    assert len(wandb.created) == 1
    assert wandb.agents == [("us/maps/abc123", 3), ("us/maps/abc123", None)]


def test_without_a_key_or_with_local_no_server_is_asked(write, wandb, two, monkeypatch):
    words = ["gendiff", "run", two, "logging.wandb=online", "${args_no_hyphens}"]
    ran, done = [], SimpleNamespace(succeeded=True)
    monkeypatch.setattr(local, "run_local", lambda *args: ran.append(args) or done)
    monkeypatch.setattr("gendiff.sweep.report.write_report", lambda *args: None)
    path = str(write(command=words))
    assert main(["sweep", path, "--local"]) == 0
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setattr(Path, "home", lambda: Path("/nowhere"))
    assert main(["sweep", path]) == 0
    assert len(ran) == 2
    assert ran[0][1:4] == (Path("runs/two-rate"), "rate", None)
    assert not wandb.created

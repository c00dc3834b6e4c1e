"""A tracked run folder that was killed on its way, and W&B as a stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from standin import Server

from gendiff.tracking.wandb_run import WandbTracker

HERE = Path(__file__).parent
SECRET = "k3y-0123456789abcdef"


@pytest.fixture(scope="session")
def killed(tmp_path_factory):
    """A folder with ``run`` of three stages, all killed and resumed; to be read only."""
    pytest.importorskip("wandb")
    pytest.importorskip("tensorboard")
    folder = tmp_path_factory.mktemp("killed")
    words = [sys.executable, str(HERE / "killserver.py"), str(folder)]
    env = {**os.environ, "HUB_TOKEN": SECRET}
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + (folder / "log").read_text()
    return folder


@pytest.fixture
def server(monkeypatch):
    """The stand-in, in place of W&B."""
    made = Server()
    monkeypatch.setitem(sys.modules, "wandb", made)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setattr(WandbTracker, "unreachable", False)
    return made

"""A small finished stage on a mixture whose truth is known; copy it before changing it."""

from __future__ import annotations

import json
import shutil

import pytest

from gendiff.cli import main
from gendiff.evaluation import stage

CONFIG = """
data: {name: mixture, batch_size: 32, samples: 203, held_out: 101}
networks:
  student: {name: mlp, width: 8, depth: 1}
method: {name: diffusion}
optim: {lr: 1.0e-2}
trainer: {max_steps: 12}
"""


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """They take a third of the time of an evaluation; the tests that look at them undo this."""
    monkeypatch.setattr(stage, "save_points", lambda *_: None)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run folder with the finished stage ``small``, nothing evaluated."""
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "small.yaml").write_text(CONFIG)
    assert main(["run", str(folder / "small.yaml"), "--dir", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def model(trained, tmp_path):
    """A copy of the finished stage's folder."""
    return shutil.copytree(trained, tmp_path / "run") / "small"


@pytest.fixture
def evaluate(model):
    """``evaluate(*words)`` on the copy -> its entries by (sampler, steps)."""

    def call(*words):
        assert main(["evaluate", str(model), *words]) == 0
        entries = json.loads((model / "evaluation.json").read_text())
        return {(entry["sampler"], entry["steps"]): entry for entry in entries}

    return call

"""What a config leaves to the data: decided once, said, written down, and kept from then on."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

import gendiff
from gendiff.checkpoint import Checkpoints
from gendiff.cli import main
from gendiff.errors import Interrupted
from gendiff.methods import truncated

CONFIG = """
data: {name: mixture, batch_size: 32, samples: 300, held_out: 50}
networks: {student: {name: mlp, width: 8, depth: 1}, critic: {name: mlp, width: 8, depth: 1}}
path: {name: discrete_linear, steps: 100}
method: {name: truncated, gaussian_within: 0.1}
trainer: {max_steps: 8, checkpoint_steps: 4}
"""
SAID = "method.truncation: 14, decided by the data"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("settled") / "open.yaml"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture(scope="module")
def ran(config, tmp_path_factory):
    """Its finished run folder; copy it before changing it."""
    folder = tmp_path_factory.mktemp("ran")
    assert main(["run", config, "--dir", str(folder)]) == 0
    return folder


@pytest.fixture
def other_data(monkeypatch):
    """As if the data, or the machine, decided otherwise by now."""
    monkeypatch.setattr(truncated, "first_gaussian_time", lambda *args: 33.0)


def test_written_down_where_sampling_reads_it(ran):
    method = yaml.safe_load((ran / "open/config.yaml").read_text())["method"]
    assert (method["truncation"], method["gaussian_within"]) == (14.0, 0.1)
    asked = json.loads((ran / "open/stage.json").read_text())["identity"]["method"]
    assert "truncation" not in asked
    model = gendiff.load(ran / "open")
    assert model.method.config.truncation == 14
    assert model.sample(5, steps=14).isfinite().all()


def test_up_to_date_as_long_as_the_same_is_asked(config, ran, capsys, other_data):
    assert main(["run", config, "--dir", str(ran), "--dry-run"]) == 0
    assert "open: up to date" in capsys.readouterr().out
    assert main(["run", config, "--dir", str(ran), "--dry-run", "method.gaussian_within=0.2"]) == 2
    assert "method.gaussian_within: 0.1 -> 0.2" in capsys.readouterr().err


def test_a_stopped_stage_goes_on_as_it_began(config, ran, tmp_path, capsys, monkeypatch):
    save = Checkpoints.save

    def save_and_stop(self, state, batches_done):
        save(self, state, batches_done)
        if batches_done == 4:
            raise Interrupted("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_stop)
        assert main(["run", config, "--dir", str(tmp_path)]) == 75
    assert SAID in capsys.readouterr().out
    monkeypatch.setattr(truncated, "first_gaussian_time", lambda *args: 33.0)
    assert main(["run", config, "--dir", str(tmp_path)]) == 0
    assert SAID in capsys.readouterr().out
    for name in ("config.yaml", "weights/ema.safetensors"):
        assert (tmp_path / "open" / name).read_bytes() == (ran / "open" / name).read_bytes()


def test_accepting_keeps_what_was_decided(config, ran, tmp_path, other_data):
    folder = shutil.copytree(ran, tmp_path / "run")
    words = ["run", config, "--dir", str(folder), "method.gan_weight=0.5"]
    assert main([*words, "--accept", "open"]) == 0
    method = yaml.safe_load((folder / "open/config.yaml").read_text())["method"]
    assert (method["truncation"], method["gan_weight"]) == (14.0, 0.5)


def test_data_that_are_never_near_enough(config, tmp_path, capsys):
    assert main(["run", config, "--dir", str(tmp_path), "method.gaussian_within=1e-9"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("gendiff: method.gaussian_within: 1e-09; even at the path's end the dist")
    assert not (tmp_path / "open/stage.json").exists()

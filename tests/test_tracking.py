"""Trackers: rows join without gap or double after a kill, and are imported only when asked for."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import pytest

from gendiff.sections import LoggingConfig
from gendiff.tracking.csv_file import CSVTracker
from gendiff.tracking.wandb_run import wandb_mode


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_csv_drops_what_was_logged_after_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.csv"
    tracker = CSVTracker(path, 0)
    for step in (10, 20, 30):
        tracker.log({"loss": step / 10}, step)
    with path.open("a") as file:
        file.write("4")  # a line torn by a kill
    resumed = CSVTracker(path, 20)
    resumed.log({"loss": 3.5, "norm": 1.0}, 30)
    rows = read(path)
    assert [row["step"] for row in rows] == ["10", "20", "30"]
    assert [row["loss"] for row in rows] == ["1.0", "2.0", "3.5"]
    assert [row["norm"] for row in rows] == ["", "", "1.0"]


@pytest.mark.parametrize(
    ("asked", "key", "mode"),
    [("online", "k" * 40, "online"), ("online", None, "offline"), ("offline", "k", "offline")],
)
def test_wandb_goes_offline_without_a_key(asked, key, mode, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    assert wandb_mode(LoggingConfig(wandb=asked)) == mode


def test_a_run_with_all_trackers(tmp_path):
    pytest.importorskip("wandb")
    pytest.importorskip("tensorboard")
    words = [sys.executable, "-m", "gendiff.cli", "run", "mixture_diffusion"]
    words += ["--dir", str(tmp_path), "trainer.max_steps=20", "logging.every_steps=5"]
    words += ["logging.wandb=online", "logging.tensorboard=true", "evaluation.steps=[]"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    secret = "k3y-0123456789abcdef"
    env |= {"OMP_NUM_THREADS": "1", "HOME": str(tmp_path), "HUB_TOKEN": secret}
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "logging offline" in done.stdout
    stage = tmp_path / "mixture_diffusion"
    assert [row["step"] for row in read(stage / "metrics.csv")] == ["5", "10", "15", "20"]
    assert list((stage / "tensorboard").glob("events*"))
    run_id = (stage / "wandb" / "id").read_text()
    (record,) = (stage / "wandb").glob(f"offline-run-*-{run_id}/run-{run_id}.wandb")
    assert b"mixture_diffusion" in record.read_bytes()
    assert json.loads((stage / "done.json").read_text())["steps"] == 20
    for path in tmp_path.rglob("*"):  # W&B's own files among them
        assert not path.is_file() or secret.encode() not in path.read_bytes()

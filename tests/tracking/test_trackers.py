"""Rows of a CSV join without gap or double after a kill; which way W&B logs."""

from __future__ import annotations

import csv
import sys

import pytest

from gendiff.sections import LoggingConfig
from gendiff.tracking.csv_file import CSVTracker, read_rows
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


@pytest.mark.parametrize(
    ("text", "mode"),
    [(b"\xff machine api.wandb.ai", "online"), (b"\xff", "offline"), (None, "offline")],
)
def test_a_netrc_of_any_bytes(text, mode, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    netrc = tmp_path / ".netrc"
    netrc.write_bytes(text) if text else netrc.mkdir()  # which nobody can read
    assert wandb_mode(LoggingConfig(wandb="online")) == mode


def test_a_step_beyond_all_integers_is_no_row(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(f"step,loss\n{'9' * 5000},1\n7,2\n")
    assert read_rows(path, sys.maxsize) == [{"step": "7", "loss": "2"}]

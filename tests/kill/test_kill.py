"""SIGKILL at any moment, the same command again: the final weights are bit-identical."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

HERE = Path(__file__).parent
TOOL = HERE.parents[1] / "tools" / "kills.py"
QUIET = {**os.environ, "TORCH_CPP_LOG_LEVEL": "ERROR"}


@pytest.fixture(scope="module", params=[1, 2], ids=["alone", "two-processes"])
def report(request, tmp_path_factory):
    """A pipeline of five stages, killed over and over in forks."""
    folder, kills = tmp_path_factory.mktemp("kill") / "runs", {1: 5, 2: 2}[request.param]
    words = [sys.executable, str(TOOL), "--dir", str(folder), "--fresh", "0"]
    words += [f"--instants={kills}", f"--boundaries={kills}", f"--processes={request.param}"]
    done = subprocess.run(words, capture_output=True, text=True, env=QUIET)
    logs = "\n".join(path.read_text()[-2000:] for path in folder.glob("*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    told = json.loads((folder / "report.json").read_text())
    return {**told, "logs": logs, "kills": kills, "processes": request.param}


def test_kills_at_any_instant_change_nothing(report):
    assert set(report["codes"]) == {0}, report["logs"]
    assert report["instants"] == report["kills"]
    assert report["boundaries"] == report["kills"]  # inside checkpoint writes, between stages
    assert not report["hung"], report["logs"]
    assert len(report["undisturbed"]) == 5
    for killed in report["killed"]:
        assert killed == report["undisturbed"]
    assert "Traceback" not in report["logs"]


@pytest.mark.long
@pytest.mark.parametrize("report", [2], ids=["two-processes"], indirect=True)
def test_a_launcher_killed_and_resumed(report, tmp_path):
    """In the middle of a product, by the command itself."""
    run = [sys.executable, "-m", "gendiff.cli", "run", str(HERE / "pipeline.yaml")]
    run += ["--dir", str(tmp_path / "run"), "hardware.devices=2"]
    process = subprocess.Popen(run, env=QUIET, stdout=subprocess.DEVNULL)
    while not (tmp_path / "run" / "couples/products/pairs").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    for locked in (tmp_path / "run" / ".locks").glob("*/.lock"):
        with FileLock(locked, timeout=60):  # what the killed launcher had started ends as well
            pass
    assert subprocess.run(run, env=QUIET, capture_output=True).returncode == 0
    for name, wanted in report["undisturbed"].items():
        found = json.loads((tmp_path / "run" / name / "done.json").read_text())["digests"]
        assert found.pop("config.yaml")  # which says by how many processes
        assert found == {file: digest for file, digest in wanted.items() if file in found}
        assert len(found) == len(wanted) - 1


def test_a_signal_to_some_ranks_stops_all(tmp_path):
    """At most a step is lost, nothing hangs, and the same command goes on."""
    cases = ["set-up:1", "training:1", "saving:0", "evaluation:0,1"]
    words = [sys.executable, str(HERE / "stopserver.py"), str(tmp_path), *cases]
    done = subprocess.run(words, capture_output=True, text=True, env=QUIET)
    logs = "\n".join(path.read_text()[-2000:] for path in tmp_path.glob("*.log"))
    assert done.returncode == 0, done.stderr + logs
    report = json.loads(done.stdout)
    assert len(report) == len(cases)
    for case in report:
        assert 75 in case["codes"], case
        assert set(case["codes"]) <= {75, 1}, case  # 1: a rank that has lost the others
        assert case["again"] == [0, 0]
        assert case["same"]
    training = report[1]
    assert training["codes"] == [75, 75]
    assert 8 <= training["kept"] <= 10  # asked for as step 8 ended
    assert "Traceback" not in logs


@pytest.mark.long
def test_a_signal_to_the_launcher_saves_and_exits_75(tmp_path):
    """Of two processes; to one alone: tests/pipeline/test_jobs.py, test_signals.py."""
    run = [sys.executable, "-m", "gendiff.cli", "run", "mixture_diffusion"]
    run += ["--dir", str(tmp_path), "trainer.max_steps=100000", "evaluation.steps=[]"]
    run += ["hardware.devices=2"]
    process = subprocess.Popen(run, env=QUIET, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "mixture_diffusion" / "metrics.csv"
    while not (metrics.exists() and metrics.read_text().count("\n") > 1):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "run again" in told
    assert len(told.splitlines()) == 1
    manifest = json.loads((metrics.parent / "checkpoints" / "manifest.json").read_text())
    step = manifest[0]["batches_done"]
    assert f"stopped at step {step} of 100000" in told
    assert step >= 50
    assert step % 500  # not one of the regular checkpoints

"""Stages at the same time: order, places, failures, stops, and the same weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from gendiff.cli import main
from gendiff.pipeline.jobs import schedule

NEEDS = {"a": [], "b": ["a", "gone"], "c": [], "d": ["c"], "e": ["b", "d"]}
STAGES = """
hardware: {accelerator: cpu}
stages:
  teacher: {config: mixture_diffusion, trainer: {max_steps: 6}, evaluation: {steps: []}}
  alone: {config: mixture_diffusion, trainer: {max_steps: 6}, evaluation: {steps: []}, seed: 3}
  student:
    config: mixture_consistency
    init: {student: teacher.ema, teacher: teacher.ema}
    trainer: {max_steps: 6}
    evaluation: {steps: [1], samples: 50, draws: 2, metrics: [energy_distance], watch_times: 0}
"""


def piped(text):
    return subprocess.Popen(
        ["sh", "-c", text], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def scheduled(jobs, texts):
    """What was said, (name, place) as they were started, the most at once, and the code."""
    said, begun, most = [], [], 0
    processes = []

    def start(name, place):
        nonlocal most
        begun.append((name, place))
        processes.append(piped(texts.get(name, f"sleep 0.05; echo {name} done")))
        most = max(most, sum(process.poll() is None for process in processes))
        return processes[-1]

    return schedule(NEEDS, start, jobs, said.append), said, begun, most


@pytest.mark.parametrize("jobs", [1, 2, 9])
def test_each_runs_once_after_what_it_needs(jobs):
    code, said, begun, most = scheduled(jobs, {})
    assert code == 0
    assert sorted(said) == [f"{name} | {name} done" for name in NEEDS]
    ended = [line.split()[0] for line in said]
    assert all(ended.index(n) < ended.index(x) for x in NEEDS for n in NEEDS[x] if n in NEEDS)
    assert most <= jobs
    assert {place for _, place in begun} == set(range(min(jobs, 2)))


def test_a_failure_keeps_only_those_back_that_need_it():
    """And it is the first one whose exit code is told."""
    code, said, begun, _ = scheduled(2, {"a": "echo why; exit 2", "d": "exit 75"})
    assert code == 2
    assert "a | why" in said
    assert sorted(name for name, _ in begun) == ["a", "c", "d"]


@pytest.fixture
def words(tmp_path):
    """Of a run of two teachers and a student."""
    stages = tmp_path / "three.yaml"
    stages.write_text(STAGES)
    return ["run", str(stages), "--dir", str(tmp_path / "run"), "--jobs", "2"]


def test_the_weights_are_those_of_one_process(words, tmp_path, capfd):
    assert main(words) == 0
    assert main([*words[:-4], "--dir", str(tmp_path / "one")]) == 0
    for stage in ("teacher", "alone", "student"):
        one, two = (
            json.loads((tmp_path / folder / stage / "done.json").read_text())["digests"]
            for folder in ("one", "run")
        )
        assert one == two
    assert (tmp_path / "run" / "quality.md").is_file()
    capfd.readouterr()
    assert main(words) == 0
    assert "student |" not in capfd.readouterr().out  # nothing is left to do: nothing is started


def test_a_signal_stops_all_of_them(words, tmp_path):
    words += [f"stages.{name}.trainer.max_steps=1000000" for name in ("teacher", "alone")]
    command = [sys.executable, "-m", "gendiff.cli", *words]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    begun = [tmp_path / "run" / name / "metrics.csv" for name in ("teacher", "alone")]
    end = time.monotonic() + 300
    while time.monotonic() < end:
        if all(path.is_file() and "\n50," in path.read_text() for path in begun):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    for path in begun:
        manifest = json.loads((path.parent / "checkpoints" / "manifest.json").read_text())
        assert manifest[0]["batches_done"] > 50


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--only", "teacher"], "--jobs: goes with none of"),
        (["--jobs", "0"], "at least 1"),
        (["hardware.devices=2"], "--jobs: teacher has hardware.devices"),
    ],
)
def test_refused(words, capsys, more, said):
    assert main([*words, *more]) == 2
    assert said in capsys.readouterr().err

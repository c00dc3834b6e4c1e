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
from gendiff.errors import Interrupted
from gendiff.following import FOLLOW
from gendiff.pipeline import jobs
from gendiff.pipeline.jobs import run_jobs, schedule, surroundings
from gendiff.pipeline.stages import load_pipeline
from gendiff.progress import Reporter

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
    """And it is the first one whose exit code is told. A line without words is no end."""
    code, said, begun, _ = scheduled(2, {"a": "echo; echo why; exit 2", "d": "sleep 0.2; exit 75"})
    assert code == 2
    assert "a | why" in said
    assert sorted(name for name, _ in begun) == ["a", "c", "d"]


def test_one_that_is_killed_is_named():
    code, said, _, _ = scheduled(1, {"a": "kill -KILL $$"})
    assert code == -signal.SIGKILL
    assert [line for line in said if "kill" in line] == [
        "a | was killed by SIGKILL; run again to go on."
    ]


def test_an_interruption_ends_all_that_run():
    processes, said = [], []

    def start(name, place):
        processes.append(piped("echo up; exec sleep 3"))
        return processes[-1]

    def say(line):
        said.append(line)
        if len(said) == 1:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted, match="stopped"):
        schedule(NEEDS, start, 2, say)
    assert [process.returncode for process in processes] == [-signal.SIGTERM] * 2


@pytest.mark.parametrize(
    ("place", "at_once", "gpus", "given", "wanted"),
    [
        (1, 3, 0, {}, {"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": None}),
        (0, 9, 0, {"CUDA_VISIBLE_DEVICES": ""}, {"OMP_NUM_THREADS": "1"}),
        (1, 2, 2, {"OMP_NUM_THREADS": "7"}, {"OMP_NUM_THREADS": "7", "CUDA_VISIBLE_DEVICES": "1"}),
        (3, 4, 2, {"CUDA_VISIBLE_DEVICES": "4,6"}, {"CUDA_VISIBLE_DEVICES": "6"}),
    ],
)
def test_each_has_its_share_of_the_machine(monkeypatch, place, at_once, gpus, given, wanted):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    for word in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(word, raising=False)
    for word, value in given.items():
        monkeypatch.setenv(word, value)
    found = surroundings(place, at_once)
    assert found[FOLLOW] == str(os.getpid())
    assert found["PATH"] == os.environ["PATH"]
    assert {word: found.get(word) for word in wanted} == wanted


def asked_for(monkeypatch):
    """What is to be run, each with what it needs; none is, and the first is said to be killed."""
    seen = []
    monkeypatch.setattr(jobs, "schedule", lambda needs, *_: seen.append({**needs}) or -9)
    monkeypatch.setattr(jobs, "write_report", lambda folder: folder)
    return seen


@pytest.fixture
def words(tmp_path):
    """Of a run of two teachers and a student."""
    stages = tmp_path / "three.yaml"
    stages.write_text(STAGES)
    return ["run", str(stages), "--dir", str(tmp_path / "run"), "--jobs", "2"]


def test_of_a_stage_that_was_killed_the_exit_code_is_1(words, tmp_path, monkeypatch):
    asked, pipeline = asked_for(monkeypatch), load_pipeline(words[1], [])
    assert run_jobs(pipeline, tmp_path / "run", [words[1]], 2, Reporter(quiet=True)) == 1
    assert asked == [{"teacher": [], "alone": [], "student": ["teacher"]}]


def test_the_weights_are_those_of_one_process(words, tmp_path, monkeypatch, capfd):
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
    out = capfd.readouterr().out
    assert "student |" not in out  # nothing is left to do: nothing is started
    assert "real halves" in out  # of the table
    assert str(tmp_path / "run" / "report.html") in out

    assert main([*words, "stages.alone.optim.lr=0.5"]) == 2  # a stale stage lets none run
    out, err = capfd.readouterr()
    assert "alone: stale" in err
    assert " | " not in out

    (tmp_path / "run" / "student" / "evaluation.json").unlink()  # is evaluated anew, alone
    asked = asked_for(monkeypatch)
    run_jobs(load_pipeline(words[1], []), tmp_path / "run", [words[1]], 2, Reporter(quiet=True))
    assert asked == [{"student": ["teacher"]}]


@pytest.mark.long
def test_a_signal_stops_all_of_them(words, tmp_path):
    words += [f"stages.{name}.trainer.max_steps=1000000" for name in ("teacher", "alone")]
    command = [sys.executable, "-m", "gendiff.cli", *words]
    process = subprocess.Popen(command)
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

"""W&B's own agent at work on sweeps of ours, against a stand-in for its server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from agentserver import AgentServer

import gendiff
from gendiff.sweep.file import read_sweep

TRIALS = {"good": (0.01, 20), "bad": (0.02, 400)}
"""The rate and the steps of the student."""
TEACHER, EVERY, SAVED = 8, 25, 50
"""The teacher's steps; how often the student is logged and saved."""
PLAIN = ["${env}", "${interpreter}", "-m", "gendiff"]
TORCHRUN = ["torchrun", "--standalone", "--nproc-per-node", 2, "--redirects", 3, "--log-dir"]
PATIENCE = 25.0
"""Seconds that the server takes for an answer at most; the agent asks anew after 30."""


def sweep_file(path, command, two, folder):
    """A sweep over a late stage's rate, as ``gendiff sweep`` takes it too."""
    lr, steps = ({"values": list(values)} for values in zip(*TRIALS.values(), strict=True))
    every = {"trainer.checkpoint_steps": {"value": SAVED}, "logging.every_steps": {"value": EVERY}}
    late = {"optim.lr": lr, "trainer.max_steps": steps, **every}
    parameters = {f"stages.student.{key}": value for key, value in late.items()}
    parameters |= {f"stages.{s}.evaluation.steps": {"value": []} for s in ("teacher", "student")}
    whole = {"program": "gendiff", "method": "grid", "metric": {"name": "student/loss"}}
    whole |= {"early_terminate": {"type": "hyperband", "min_iter": 2}, "parameters": parameters}
    whole["command"] = [*command, "run", two, "--dir", str(folder), "${args_no_hyphens}"]
    path.write_text(yaml.safe_dump(whole))
    return read_sweep(path)


def begin(sweep, kind, trial):
    """A command of the server's: run a trial with its values, or go on with it."""
    lr, steps = TRIALS[trial]
    chosen = {"stages.student.optim.lr": lr, "stages.student.trainer.max_steps": steps}
    parameters = sweep.raw["parameters"].items()
    args = {key: {"value": chosen.get(key, said.get("value"))} for key, said in parameters}
    return [{"type": kind, "run_id": trial, "program": "gendiff", "args": args}]


def wait_for(true):
    """Whether something comes to be so while the agent waits."""
    end = time.monotonic() + PATIENCE
    while not (come := true()) and time.monotonic() < end:
        time.sleep(0.02)
    return come


@pytest.fixture(scope="module")
def seen(two, tmp_path_factory):
    """The server after two agents: its runs, the sweep's folder, and what was said.

    The first agent runs both trials, of which the server stops the bad one. The second one, whose
    command is torchrun, is handed that trial again.
    """
    pytest.importorskip("wandb", reason="the agent is W&B's: pip install 'gendiff[wandb]'")
    place = tmp_path_factory.mktemp("agent")
    folder, ranks = place / "runs", [*TORCHRUN, str(place / "ranks"), "-m", "gendiff"]
    commands = {"plain": PLAIN, "ranks": ranks}
    sweeps = {n: sweep_file(place / f"{n}.yaml", c, two, folder) for n, c in commands.items()}
    handed = {"plain": [*TRIALS], "ranks": ["bad"]}

    def order(name, running):
        """What an agent hears at a heartbeat, which it repeats if that takes long."""

        def over(trial):
            return trial in server.runs and server.runs[trial].codes

        if name == "plain" and running == ["bad"]:
            saved = folder / "bad" / "student" / "checkpoints"
            behind = wait_for(lambda: len([*saved.glob("*.ckpt")]) > 1)  # the first is of step 0
            return [{"type": "stop", "run_id": "bad"}] if behind else []
        if running:
            return []
        if name == "plain":
            return begin(sweeps[name], "run", "bad" if over("good") else "good")
        return begin(sweeps[name], "resume", "bad") if wait_for(lambda: over("bad")) else []

    env = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    env |= {"PYTHONPATH": str(Path(gendiff.__file__).parents[1]), "HOME": str(place)}
    with AgentServer({n: yaml.safe_dump(s.raw) for n, s in sweeps.items()}, order) as server:
        env |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40}
        agents = {}
        for name, trials in handed.items():
            words = ["wandb", "agent", "--count", str(len(trials)), f"us/maps/{name}"]
            with (place / f"{name}.log").open("w") as log:
                agents[name] = subprocess.Popen(words, cwd=place, env=env, stdout=log, stderr=log)
        try:
            codes = [agent.wait(300) for agent in agents.values()]
        finally:
            for agent in agents.values():
                agent.kill()  # its trials follow
    said = {name: (place / f"{name}.log").read_text() for name in agents}
    for log in (place / "ranks").rglob("std*.log"):
        said[f"{log.stem} {log.parent.name}"] = log.read_text()
    assert codes == [0, 0], said
    assert not server.errors
    return server.runs, folder, said


def stopped_at(said):
    """The step at which the plain agent's bad trial was stopped."""
    return int(said["plain"].partition("gendiff: stopped at step ")[2].partition(" of 400;")[0])


@pytest.mark.long
def test_the_teacher_is_trained_once_and_trials_are_told_by_their_ids(seen):
    runs, folder, said = seen
    assert {path.name for path in folder.iterdir()} == {"shared", *TRIALS} == {"shared", *runs}
    assert len([*folder.glob("shared/teacher-*")]) == 1
    assert len({(folder / trial / "teacher").resolve() for trial in TRIALS}) == 1
    assert said["plain"].count("teacher: to do") == said["plain"].count("teacher: up to date") == 1
    assert [row["step"] for row in runs["good"].rows if "teacher/loss" in row][:-1] == [2, 4, 6, 8]


@pytest.mark.long
@pytest.mark.parametrize("trial", TRIALS)
def test_the_values_are_in_the_config_and_the_losses_at_the_server(seen, trial):
    runs, folder, said = seen
    lr, last = TRIALS[trial]
    config = yaml.safe_load((folder / trial / "student" / "config.yaml").read_text())
    assert (config["optim"]["lr"], config["trainer"]["max_steps"]) == (lr, last)
    assert runs[trial].config["stages.student.optim.lr"]["value"] == lr
    assert runs[trial].asked[0]["sweep"] == "plain"
    begins = TEACHER + 1  # and one for the teacher's figures
    found = [row["step"] - begins for row in runs[trial].rows if "student/loss" in row]
    also = {stopped_at(said)} if trial == "bad" else set()  # what is saved is logged
    assert found == sorted({*range(EVERY, last, EVERY), last, last + 1, *also})


@pytest.mark.long
def test_a_trial_that_the_server_stops_goes_on_when_it_is_handed_out_again(seen):
    runs, _, said = seen
    assert runs["good"].codes == [0]
    assert runs["bad"].codes == [75, 0]
    assert SAVED <= stopped_at(said) < TRIALS["bad"][1]
    assert f"student: resumes at step {stopped_at(said)} of 400" in said["stdout 0"]
    assert "teacher: up to date" in said["stdout 0"]


@pytest.mark.long
def test_of_two_ranks_the_first_alone_speaks(seen):
    runs, _, said = seen
    assert said["stdout 1"] == said["stderr 1"] == ""
    assert said["stdout 0"].count("student: resumes") == 1
    writers = runs["bad"].config["_wandb"]["value"]["e"]
    assert len(writers) == 1  # of the processes that were there last

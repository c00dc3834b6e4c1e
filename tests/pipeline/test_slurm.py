"""Jobs for SLURM: one a stage that is not done, each after those it waits for."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

SBATCH = """#!/bin/sh
echo "$@" >> {said}
[ -n "$REFUSED" ] && echo "sbatch: error: Invalid account" >&2 && exit 1
grep -c . {said}
"""


@pytest.fixture
def said(tmp_path, monkeypatch):
    """What a stand-in for sbatch was called with, line by line; its jobs are 1, 2, ..."""
    path = tmp_path / "said"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(SBATCH.format(said=path))
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return lambda: path.read_text().splitlines() if path.exists() else []


def test_a_script_a_stage_that_asks_for_what_its_stage_does(gendiff, tmp_path, said, pair):
    words = ["--slurm", "hardware.accelerator=gpu", "hardware.devices=4", "hardware.nodes=2"]
    code, out, _ = gendiff("run", tmp_path / "run", *words)
    assert code == 0
    assert not said()  # nothing is submitted unasked
    scripts = [tmp_path / "run" / "slurm" / f"{name}.sh" for name in ("teacher", "child")]
    *told, how = out.splitlines()
    assert told == [str(scripts[0]), f"{scripts[1]} after teacher"]
    assert "--submit" in how
    assert "SBATCH_TIMELIMIT" in how
    lines = scripts[1].read_text().splitlines()
    for asked in (
        "nodes=2",
        "ntasks-per-node=4",
        "gpus-per-node=4",
        "requeue",
        "signal=USR1@120",
        f"chdir={os.getcwd()}",
    ):
        assert f"#SBATCH --{asked}" in lines
    (command,) = (line for line in lines if line.startswith("srun "))
    run = ["srun", sys.executable, "-m", "gendiff.cli", "run", pair, *words[1:]]
    assert shlex.split(command) == [*run, "--dir", str(tmp_path / "run"), "--only", "child"]
    assert "gpus" not in gendiff_script(gendiff, tmp_path / "cpu")


def test_nodes_without_slurm_are_told(gendiff, tmp_path):
    told = gendiff("run", tmp_path, "--dry-run", "hardware.nodes=2")[1]
    assert (
        told.splitlines()[0] == "hardware.nodes: 2 are for --slurm and torchrun; this runs on one"
    )
    assert "nodes" not in gendiff("run", tmp_path, "--dry-run")[1]


def gendiff_script(gendiff, folder):
    assert gendiff("run", folder, "--slurm", "hardware.accelerator=cpu")[0] == 0
    return (folder / "slurm" / "teacher.sh").read_text()


def test_jobs_wait_for_their_parents(gendiff, tmp_path, said):
    code, out, _ = gendiff("run", tmp_path, "--slurm", "--submit")
    assert code == 0
    teacher, child = said()
    assert "dependency" not in teacher
    assert "--dependency=afterok:1 --kill-on-invalid-dep=yes" in child
    assert "job 2 after 1" in out


def test_what_is_done_is_no_job(gendiff, done, said):
    assert gendiff("run", done, "--slurm", "--submit")[:2] == (0, "")
    assert not said()


def test_a_refusal_is_told(gendiff, tmp_path, said, monkeypatch):
    monkeypatch.setenv("REFUSED", "1")
    code, _, told = gendiff("run", tmp_path, "--slurm", "--submit")
    assert code == 2
    assert "sbatch refuses: sbatch: error: Invalid account" in told
    monkeypatch.setenv("PATH", "/nowhere")
    assert "there is no sbatch here" in gendiff("run", tmp_path, "--slurm", "--submit")[2]
    assert "goes with --slurm" in gendiff("run", tmp_path, "--submit")[2]


def test_what_slurm_does_itself_is_not_asked_too(gendiff, tmp_path):
    code, _, told = gendiff("run", tmp_path / "run", "--slurm", "--jobs", "2")
    assert (code, told) == (
        2,
        "gendiff: --slurm: goes with --submit alone; it runs nothing itself.\n",
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("left_with", "requeued"), [(0, False), (75, True), (2, False)])
def test_a_stopped_job_goes_back_into_the_queue(gendiff, tmp_path, left_with, requeued):
    """The script itself, run by the shell with stand-ins for SLURM."""
    gendiff_script(gendiff, tmp_path)
    (tmp_path / "bin").mkdir()
    for name, text in {"srun": f"exit {left_with}", "scontrol": 'echo "$@"'}.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    place = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    job = ["bash", str(tmp_path / "slurm" / "teacher.sh")]
    done = subprocess.run(job, env={**os.environ, **place}, capture_output=True, text=True)
    assert done.returncode == left_with
    assert done.stdout == ("requeue 7\n" if requeued else "")

"""One SLURM job a stage: written as scripts, submitted each after those that it waits for.

A job that is preempted, or whose time is nearly up, stops after its step with exit code 75 and is
put back into the queue, where the same command goes on. What is the cluster's own (account,
partition, time limit) is said in sbatch's environment: ``SBATCH_ACCOUNT``, ``SBATCH_PARTITION``,
``SBATCH_TIMELIMIT``.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

from gendiff.checks import check_ranks
from gendiff.errors import UserError
from gendiff.pipeline.jobs import stage_command
from gendiff.pipeline.plan import Step, make_plan
from gendiff.pipeline.runner import refuse_unfit
from gendiff.pipeline.stages import Pipeline
from gendiff.progress import Reporter
from gendiff.storage import write_text

SCRIPT = """#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node={devices}
#SBATCH --chdir={here}
#SBATCH --output={log}
#SBATCH --open-mode=append
#SBATCH --requeue
# to every process, two minutes before the time is up
#SBATCH --signal=USR1@120
{gpus}
srun {command}
code=$?
if [ $code -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
"""


NOT_SUBMITTED = "not submitted: --submit does that; sbatch reads SBATCH_TIMELIMIT, SBATCH_PARTITION"
"""Said where scripts are written alone."""


def slurm_jobs(
    pipeline: Pipeline, folder: Path, words: list[str], reporter: Reporter, submit: bool
) -> None:
    """Write a script for every stage that is not done, and submit them if asked to.

    Args:
        words: target and overrides, as given on the command line.

    Raises:
        UserError: a stage is stale or damaged, or sbatch refuses.
    """
    jobs: dict[str, str] = {}
    for step in make_plan(pipeline, folder):
        refuse_unfit(step)
        name, hardware = step.stage.name, step.stage.run.hardware
        check_ranks(step.stage.run, hardware.devices * hardware.nodes, name)
        if step.state == "done":
            continue
        script = folder / "slurm" / f"{step.stage.name}.sh"
        write_text(script, script_of(step, pipeline.name, folder, words))
        after = {name: jobs[name] for name in step.stage.needs if name in jobs}
        jobs[name] = sbatch(script, [*after.values()]) if submit else ""
        waits = f" after {', '.join(after.values() if submit else after)}" if after else ""
        reporter.say(f"{script}{f': job {jobs[name]}' if submit else ''}{waits}")
    if jobs and not submit:
        reporter.say(NOT_SUBMITTED)


def script_of(step: Step, pipeline: str, folder: Path, words: list[str]) -> str:
    """The text of a stage's job."""
    name, hardware = step.stage.name, step.stage.run.hardware
    log = shlex.quote(str((folder / "slurm" / f"{name}.log").absolute()))
    command = stage_command(words, folder, name)
    gpus = "" if hardware.accelerator == "cpu" else f"#SBATCH --gpus-per-node={hardware.devices}\n"
    return SCRIPT.format(
        name=re.sub(r"\s", "-", f"{pipeline}-{name}"),
        nodes=hardware.nodes,
        devices=hardware.devices,
        here=shlex.quote(str(Path.cwd())),
        log=log,
        gpus=gpus,
        command=shlex.join(command),
    )


def sbatch(script: Path, after: list[str]) -> str:
    """Submit a script; returns the number of its job.

    Raises:
        UserError: there is no sbatch here, or it refuses.
    """
    words = ["sbatch", "--parsable"]
    if after:
        # a job whose parents fail is not left waiting for ever
        words += [f"--dependency=afterok:{':'.join(after)}", "--kill-on-invalid-dep=yes"]
    try:
        done = subprocess.run([*words, str(script)], capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError("--submit: there is no sbatch here; the scripts are written.") from None
    if done.returncode:
        why = (done.stderr or done.stdout).strip().split("\n")[-1]
        raise UserError(f"{script}: sbatch refuses: {why}")
    return done.stdout.strip().partition(";")[0]

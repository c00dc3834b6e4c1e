"""Run a pipeline: skip what is done, resume what is half done, stop at what changed."""

from __future__ import annotations

import shutil
from pathlib import Path

from gendiff.errors import UserError, did_you_mean
from gendiff.pipeline.evaluation import evaluate_stage, write_summary
from gendiff.pipeline.plan import Step, make_plan, with_digests
from gendiff.pipeline.stages import Pipeline
from gendiff.pipeline.ways_out import accept, put_aside, ways_out
from gendiff.progress import Reporter
from gendiff.signals import Stop
from gendiff.storage import lock, make_folder, sweep_temporaries
from gendiff.train import Job, train_stage


def run_pipeline(
    pipeline: Pipeline,
    folder: Path,
    reporter: Reporter,
    stop: Stop,
    *,
    only: str | None = None,
    rerun: list[str] | None = None,
    accepted: list[str] | None = None,
    dry_run: bool = False,
) -> None:
    """Bring every stage up to date, each evaluated after it is done.

    Args:
        only: the one stage to run; its parents must be done.
        rerun: stages whose folder is moved aside first.
        accepted: stale stages whose weights are kept under the present config.

    Raises:
        UserError: a stale or damaged stage, before anything is trained.
    """
    for name in [*(rerun or []), *(accepted or []), *([only] if only else [])]:
        if name not in pipeline.stages:
            raise UserError(f"{name}: no such stage.{did_you_mean(name, pipeline.stages)}")
    plan = make_plan(pipeline, folder)
    if not dry_run:
        make_folder(folder)
        for name in accepted or []:
            with lock(folder / ".locks" / name):
                step = next(s for s in make_plan(pipeline, folder) if s.stage.name == name)
                if step.state == "stale":
                    accept(step)
                    reporter.say(f"{name}: accepted under the present config")
        for name in rerun or []:
            with lock(folder / ".locks" / name):
                put_aside(folder / name, reporter)
        plan = make_plan(pipeline, folder)
    steps = [step for step in plan if only in (None, step.stage.name)]
    for step in steps:
        redone = dry_run and step.stage.name in (rerun or [])
        if step.state in ("stale", "damaged") and not redone:
            lines = "; ".join(step.why)
            raise UserError(f"{step.stage.name}: {step.state}: {lines}.\n{ways_out(step)}")
        if only and step.waits_for:
            raise UserError(f"{only}: waits for {', '.join(step.waits_for)}.")
    for number, step in enumerate(steps, 1):
        title = f"[{number}/{len(steps)}] {step.stage.name}"
        if dry_run:
            reporter.say(f"{title}: {describe(step)}")
        else:
            run_step(step, title, reporter, stop)
    if not dry_run:
        write_summary(pipeline, folder, reporter)


def describe(step: Step) -> str:
    """The state in a few words."""
    total = step.stage.run.trainer.max_steps
    if step.state == "done":
        return "up to date"
    if step.state == "resumable":
        return f"resumes at step {step.done} of {total}"
    return "to do" if step.state == "missing" else step.state


def run_step(step: Step, title: str, reporter: Reporter, stop: Stop) -> None:
    """Train a stage unless it is done, then evaluate what has not been evaluated."""
    run_folder, stage = step.folder.parent, step.stage
    with lock(run_folder / ".locks" / stage.name):
        reporter.say(f"{title}: {describe(step)}")
        if step.state == "missing":
            # what a begin that was killed half-way has left
            shutil.rmtree(step.folder / "checkpoints", ignore_errors=True)
        make_folder(step.folder)
        sweep_temporaries(step.folder)
        if step.state != "done":
            record = with_digests(step)
            job = Job(stage.run, stage.name, step.folder, step.sources, record)
            train_stage(job, reporter, stop, title)
        evaluate_stage(stage, run_folder, reporter, title)

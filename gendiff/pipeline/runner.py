"""Run a pipeline: skip what is done, resume what is half done, stop at what changed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from gendiff.checks import check_ranks
from gendiff.errors import Interrupted, UserError, did_you_mean
from gendiff.extractors import check_extractor, find_weights, keys_of
from gendiff.pipeline.overview import write_report
from gendiff.pipeline.plan import Step, inspect, make_plan, with_digests
from gendiff.pipeline.quality import evaluate_after, write_summary
from gendiff.pipeline.shared import in_use, link_reference, refuse_others, share
from gendiff.pipeline.stages import Pipeline, Stage
from gendiff.pipeline.trial import TrialLog
from gendiff.pipeline.ways_out import accept, put_aside, ways_out
from gendiff.progress import Reporter
from gendiff.ranks import Ranks, for_all
from gendiff.signals import Stop
from gendiff.storage import lock, lock_of, make_folder, sweep_temporaries
from gendiff.train import Job, planned, train_stage


def run_pipeline(
    pipeline: Pipeline,
    folder: Path,
    reporter: Reporter,
    stop: Stop,
    ranks: Ranks,
    *,
    only: str | None = None,
    rerun: list[str] | None = None,
    accepted: list[str] | None = None,
    dry_run: bool = False,
    trial: TrialLog | None = None,
) -> None:
    """Bring every stage up to date, each evaluated after it is done.

    Args:
        only: the one stage to run; its parents must be done.
        rerun: stages whose folder is moved aside first.
        accepted: stale stages whose weights are kept under the present config.
        trial: the run is one of a sweep; its stages are shared with the other trials.

    Raises:
        UserError: a stale or damaged stage, before anything is trained.
    """
    anew = rerun or []

    def ready() -> list[Step]:
        """The whole plan, after all that ``--accept`` and the like ask."""
        for name in [*anew, *(accepted or []), *([only] if only else [])]:
            if name not in pipeline.stages:
                raise UserError(f"{name}: no such stage.{did_you_mean(name, pipeline.stages)}")
        for name in anew:  # before their folders are moved aside
            if only not in (None, name):
                raise UserError(f"--rerun: {name}: --only {only} trains no other stage.")
            refuse_missing(pipeline.stages[name])
        plan = make_plan(pipeline, folder)
        if trial and not dry_run:
            share(plan)
        if not dry_run:
            set_right(pipeline, folder, reporter, anew, accepted or [])
            plan = make_plan(pipeline, folder)
        for step in (step for step in plan if only in (None, step.stage.name)):
            if not (dry_run and step.stage.name in anew) and not in_use(step):
                refuse_unfit(step)
            if only and step.waits_for:
                raise UserError(f"{only}: waits for {', '.join(step.waits_for)}.")
            check_ranks(step.stage.run, ranks.world, step.stage.name)
        return plan

    plan = ranks.decide(ready)
    latest = {step.stage.name: step for step in plan}
    for number, step in enumerate(plan, 1):
        if only not in (None, step.stage.name):
            continue
        title = f"[{number}/{len(plan)}] {step.stage.name}"
        if dry_run:
            reporter.say(f"{title}: {'to do' if step.stage.name in anew else describe(step)}")
        else:
            reporter.ahead = 0 if only else batches_ahead(plan[number:])
            with ranks.losing(step.stage.name):
                run_step(step, latest, title, reporter, stop, ranks, trial)
    if not dry_run:
        ranks.decide(lambda: write_summary(pipeline, folder, reporter, show=not only))
        if trial:
            ranks.decide(trial.record)
        page = ranks.decide(lambda: write_report(folder))
        if not only:
            reporter.say(str(page))


def batches_ahead(steps: list[Step]) -> int:
    """Batches that stages are still to be trained for."""
    trained = [step for step in steps if not step.stage.run.method_class.products]
    return sum(planned(step.stage.run) - step.done for step in trained)


def set_right(
    pipeline: Pipeline, folder: Path, reporter: Reporter, rerun: list[str], accepted: list[str]
) -> None:
    """Do what ``--accept`` and ``--rerun`` ask for."""
    make_folder(folder)
    for name in accepted:
        with lock(lock_of(folder / name)):
            step = next(s for s in make_plan(pipeline, folder) if s.stage.name == name)
            refuse_others(step)
            if step.state != "done":
                accept(step)
                reporter.say(f"{name}: accepted under the present config")
    for name in rerun:
        with lock(lock_of(folder / name)):
            refuse_others(next(s for s in make_plan(pipeline, folder) if s.stage.name == name))
            put_aside(folder / name, reporter)


def describe(step: Step) -> str:
    """The state in a few words."""
    total = planned(step.stage.run)
    if step.state == "done":
        return "up to date"
    if step.state == "resumable":
        return f"resumes at step {step.done} of {total}"
    return "to do" if step.state == "missing" else step.state


def refuse_unfit(step: Step) -> None:
    """
    Raises:
        UserError: the stage is stale or damaged, with the ways out; or what it is to be trained
            with is missing.
    """
    if step.state in ("stale", "damaged"):
        lines = "; ".join(why.rstrip(".") for why in step.why)
        raise UserError(f"{step.stage.name}: {step.state}: {lines}.\n{ways_out(step)}")
    if step.state != "done":
        refuse_missing(step.stage)


def refuse_missing(stage: Stage) -> None:
    """
    Raises:
        UserError: the weights of an extractor that the stage's training or evaluation needs.
    """
    term, asked = getattr(stage.run.method, "perceptual", None), stage.run.evaluation
    try:
        if asked.weights:
            find_weights(asked.weights)
        if term and term.weight:
            with keys_of("method.perceptual"):
                check_extractor(term.extractor, term.weights)
                find_weights(term.weights)
    except UserError as error:
        raise UserError(f"{stage.name}: {error}") from None


def run_step(
    step: Step,
    latest: dict[str, Step],
    title: str,
    reporter: Reporter,
    stop: Stop,
    ranks: Ranks,
    trial: TrialLog | None = None,
) -> None:
    """Train a stage unless it is done, then evaluate what has not been evaluated.

    Args:
        latest: every stage's step; this one's is brought up to date.
    """
    run_folder, stage = step.folder.parent, step.stage

    def look() -> Step:
        return inspect(stage, step.folder, latest)

    def prepare() -> dict[str, Any]:
        refuse_unfit(step)
        reporter.say(f"{title}: {describe(step)}")
        if step.state == "missing":
            # what a begin that was killed half-way has left
            shutil.rmtree(step.folder / "checkpoints", ignore_errors=True)
        make_folder(step.folder)
        sweep_temporaries(step.folder)
        return with_digests(step) if step.state != "done" else step.record

    def wait() -> None:
        reporter.say(f"{title}: waits for the run that has {step.folder.resolve()}")

    def linked() -> None:
        if trial:
            link_reference(stage, run_folder)

    def measured() -> None:
        if trial:
            trial.evaluated(stage)

    with ranks.holding(lock_of(step.folder), wait if step.folder.is_symlink() else None):
        # again, under the lock: a parent was retrained, or another process was here
        latest[stage.name] = step = ranks.decide(look)
        record = ranks.decide(prepare)
        ranks.decide(linked)
        if step.state != "done":
            also = (trial.stage(stage.name),) if trial else ()
            job = Job(stage.run, stage.name, step.folder, step.sources, record, also)
            train_stage(job, reporter, stop, title, ranks)
            latest[stage.name] = ranks.decide(look)
            if ranks.any(stop.asked):
                raise for_all(Interrupted, f"stopped after {stage.name}")
        ranks.decide(linked)
        evaluate_after(stage, run_folder, reporter, title, ranks)
        ranks.decide(measured)

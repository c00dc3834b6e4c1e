"""Train every stage that is not up to date, and evaluate it."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gendiff.commands.words import count, open_pipeline, pipeline_words
from gendiff.errors import UserError
from gendiff.following import FOLLOW, follow, launched, restarted
from gendiff.signals import Stop

if TYPE_CHECKING:
    from gendiff.pipeline.stages import Pipeline
    from gendiff.pipeline.trial import Trial


def arguments(command: ArgumentParser) -> None:
    """The options."""
    pipeline_words(command)
    command.add_argument("--only", metavar="STAGE", help="run this one stage")
    command.add_argument("--rerun", metavar="STAGE", action="append", help="train it anew")
    command.add_argument("--accept", metavar="STAGE", action="append", help="keep stale weights")
    command.add_argument("--dry-run", action="store_true", help="check everything, train nothing")
    command.add_argument(
        "--jobs", type=count, default=1, metavar="N", help="stages at the same time (default 1)"
    )
    command.add_argument("--slurm", action="store_true", help="write a SLURM job a stage instead")
    command.add_argument("--submit", action="store_true", help="with --slurm: submit them, chained")


def call(args: Any) -> int:
    """Run it; returns the exit code."""
    pipeline, folder = open_pipeline(args)
    from gendiff.pipeline.trial import this_trial
    from gendiff.progress import Reporter

    trial = this_trial()
    words = [args.target, *args.overrides]
    one_way(args, bool(trial))
    if args.slurm:
        from gendiff.pipeline.slurm import slurm_jobs

        slurm_jobs(pipeline, folder, words, Reporter(), args.submit)
        return 0
    if args.jobs > 1:
        from gendiff.pipeline.jobs import run_jobs

        with Stop().listening():
            return run_jobs(pipeline, folder, words, args.jobs, Reporter())
    from gendiff.sections import HardwareConfig

    stages = pipeline.stages.values()
    hardware = [s.run.hardware for s in stages if args.only in (None, s.name)] or [HardwareConfig()]
    processes, nodes = (max(getattr(h, word) for h in hardware) for word in ("devices", "nodes"))
    if nodes > 1 and not launched():
        print(f"hardware.nodes: {nodes} are for --slurm and torchrun; this runs on one", flush=True)
    if {"TORCHELASTIC_RUN_ID", FOLLOW} & set(os.environ):
        follow()
    if processes > 1 and not launched() and not args.dry_run:
        from gendiff.launch import launch

        print(f"starting {processes} processes", flush=True)
        return launch(args.words, processes)
    if trial and trial.agent and not launched():  # ranks have begun to
        follow()
    if trial:
        folder = trial.folder(pipeline, args.dir)
    walk(pipeline, folder, args, trial, max(asked.timeout_minutes for asked in hardware))
    return 0


def one_way(args: Any, trial: bool) -> None:
    """
    Raises:
        UserError: options that do not go together.
    """
    others = args.only or args.rerun or args.accept or args.dry_run
    if args.slurm and trial:
        raise UserError("--slurm: a trial of a sweep runs where its agent runs.")
    if args.slurm and (others or args.jobs > 1):
        raise UserError("--slurm: goes with --submit alone; it runs nothing itself.")
    if args.submit and not args.slurm:
        raise UserError("--submit: goes with --slurm.")
    if args.jobs > 1 and (trial or others or "RANK" in os.environ):
        why = "goes with none of --only, --rerun, --accept, --dry-run, torchrun and sweeps"
        raise UserError(f"--jobs: {why}.")


def walk(pipeline: Pipeline, folder: Path, args: Any, trial: Trial | None, minutes: float) -> None:
    """Run the pipeline in this process and those that it is one of.

    Args:
        minutes: that one of them may be silent.
    """
    from gendiff.pipeline.runner import run_pipeline
    from gendiff.pipeline.trial import trial_log
    from gendiff.progress import Reporter
    from gendiff.ranks import joined

    stop = Stop()
    with ExitStack() as stack:
        stack.enter_context(stop.listening())
        ranks = stack.enter_context(joined(minutes))
        reporter, log = Reporter(quiet=not ranks.first), None
        rerun = args.rerun
        if rerun and restarted():
            reporter.say("--rerun: not done again, as this job has been started anew")
            rerun = None
        if trial:
            first = ranks.first and not args.dry_run
            log = stack.enter_context(trial_log(trial, pipeline, folder, first, reporter.say))
        run_pipeline(
            pipeline,
            folder,
            reporter,
            stop,
            ranks,
            only=args.only,
            rerun=rerun,
            accepted=args.accept,
            dry_run=args.dry_run,
            trial=log,
        )

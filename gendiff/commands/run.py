"""Train every stage that is not up to date, and evaluate it."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from contextlib import ExitStack
from typing import Any

from gendiff.commands.words import count, open_pipeline, pipeline_words
from gendiff.errors import UserError
from gendiff.following import FOLLOW, follow, launched
from gendiff.signals import Stop


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
    from gendiff.pipeline.trial import this_trial, trial_log
    from gendiff.progress import Reporter

    trial = this_trial()
    words = [args.target, *args.overrides]
    if trial:
        folder = trial.folder(pipeline, args.dir)
    if args.slurm:
        if trial:
            raise UserError("--slurm: a trial of a sweep runs where its agent runs.")
        if args.only or args.rerun or args.accept or args.dry_run or args.jobs > 1:
            raise UserError("--slurm: goes with --submit alone; it runs nothing itself.")
        from gendiff.pipeline.slurm import slurm_jobs

        slurm_jobs(pipeline, folder, words, Reporter(), args.submit)
        return 0
    if args.submit:
        raise UserError("--submit: goes with --slurm.")
    if args.jobs > 1:
        if trial or args.only or args.rerun or args.accept or args.dry_run or "RANK" in os.environ:
            why = "goes with none of --only, --rerun, --accept, --dry-run, torchrun and sweeps"
            raise UserError(f"--jobs: {why}.")
        from gendiff.pipeline.jobs import run_jobs

        with Stop().listening():
            return run_jobs(pipeline, folder, words, args.jobs, Reporter())
    from gendiff.launch import launch
    from gendiff.sections import HardwareConfig

    stages = pipeline.stages.values()
    hardware = [s.run.hardware for s in stages if args.only in (None, s.name)] or [HardwareConfig()]
    processes, nodes = (max(getattr(h, word) for h in hardware) for word in ("devices", "nodes"))
    if nodes > 1 and not launched():
        print(f"hardware.nodes: {nodes} are for --slurm and torchrun; this runs on one", flush=True)
    if {"TORCHELASTIC_RUN_ID", FOLLOW} & set(os.environ):
        follow()
    if processes > 1 and not launched() and not args.dry_run:
        print(f"starting {processes} processes", flush=True)
        return launch(args.words, processes)
    if trial and trial.agent and not launched():  # ranks have begun to
        follow()
    from gendiff.pipeline.runner import run_pipeline
    from gendiff.ranks import joined

    stop = Stop()
    with ExitStack() as stack:
        stack.enter_context(stop.listening())
        minutes = max(asked.timeout_minutes for asked in hardware)
        ranks = stack.enter_context(joined(minutes))
        reporter, log = Reporter(quiet=not ranks.first), None
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
            rerun=args.rerun,
            accepted=args.accept,
            dry_run=args.dry_run,
            trial=log,
        )
    return 0

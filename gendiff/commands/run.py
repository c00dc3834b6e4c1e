"""Train every stage that is not up to date, and evaluate it."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from typing import Any

from gendiff.commands.words import open_pipeline, pipeline_words
from gendiff.errors import UserError
from gendiff.signals import Stop


def arguments(command: ArgumentParser) -> None:
    """The options."""
    pipeline_words(command)
    command.add_argument("--only", metavar="STAGE", help="run this one stage")
    command.add_argument("--rerun", metavar="STAGE", action="append", help="train it anew")
    command.add_argument("--accept", metavar="STAGE", action="append", help="keep stale weights")
    command.add_argument("--dry-run", action="store_true", help="check everything, train nothing")
    command.add_argument("--slurm", action="store_true", help="write a SLURM job a stage instead")
    command.add_argument("--submit", action="store_true", help="with --slurm: submit them, chained")


def call(args: Any) -> int:
    """Run it; returns the exit code."""
    pipeline, folder = open_pipeline(args)
    if args.slurm:
        if args.only or args.rerun or args.accept or args.dry_run:
            raise UserError("--slurm: goes with --submit alone; it runs nothing itself.")
        from gendiff.pipeline.slurm import slurm_jobs
        from gendiff.progress import Reporter

        words = [args.target, *args.overrides]
        slurm_jobs(pipeline, folder, words, Reporter(), args.submit)
        return 0
    if args.submit:
        raise UserError("--submit: goes with --slurm.")
    from gendiff.launch import follow, launch, launched
    from gendiff.sections import HardwareConfig

    stages = pipeline.stages.values()
    hardware = [s.run.hardware for s in stages if args.only in (None, s.name)] or [HardwareConfig()]
    processes, nodes = (max(getattr(h, word) for h in hardware) for word in ("devices", "nodes"))
    if nodes > 1 and not launched():
        print(f"hardware.nodes: {nodes} are for --slurm and torchrun; this runs on one", flush=True)
    if processes > 1 and not launched() and not args.dry_run:
        print(f"starting {processes} processes", flush=True)
        return launch(args.words, processes)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        follow()
    from gendiff.pipeline.runner import run_pipeline
    from gendiff.progress import Reporter
    from gendiff.ranks import joined

    stop = Stop()
    with stop.listening(), joined(max(asked.timeout_minutes for asked in hardware)) as ranks:
        run_pipeline(
            pipeline,
            folder,
            Reporter(quiet=not ranks.first),
            stop,
            ranks,
            only=args.only,
            rerun=args.rerun,
            accepted=args.accept,
            dry_run=args.dry_run,
        )
    return 0

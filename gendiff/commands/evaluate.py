"""Quality against NFE of finished stages."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from gendiff.commands.words import count, counts
from gendiff.errors import UserError
from gendiff.signals import Stop


def arguments(command: ArgumentParser) -> None:
    """The options."""
    command.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="a stage folder")
    command.add_argument("--steps", type=counts, help="e.g. 1,2,4,8")
    command.add_argument("--sampler", action="append", help="may be given several times")
    command.add_argument("--guidance", type=float, action="append", metavar="W", help="weight")
    command.add_argument("--role", action="append", help="whose weights (default: the average)")
    command.add_argument("--metric", action="append", help="one of them (default: all)")
    command.add_argument("--samples", type=count, help="samples a draw (default: as held out)")
    command.add_argument("--draws", type=count, help="sample sets a point")
    command.add_argument(
        "-o", "--output", type=Path, help="x.json; the table and curves go beside it"
    )


def call(args: Any) -> None:
    """Evaluate, show the table, and write what ``-o`` asks for."""
    from gendiff.pipeline.quality import evaluate_models, write_quality
    from gendiff.progress import Reporter
    from gendiff.ranks import joined
    from gendiff.report.table import show_table
    from gendiff.storage import make_folder, write_json

    if args.output and args.output.suffix != ".json":
        raise UserError(f"-o: {args.output}: points are written as .json.")
    if args.output:  # now, as hours may pass until then
        make_folder(args.output.parent)
        if not os.access(args.output.parent, os.W_OK):
            raise UserError(f"-o: {args.output.parent}: cannot be written to.")
    asked = {
        "steps": args.steps,
        "samplers": args.sampler,
        "guidance": args.guidance,
        "roles": args.role,
        "metrics": args.metric,
        "samples": args.samples,
        "draws": args.draws,
    }
    with Stop().listening(), joined() as ranks:
        reporter = Reporter(quiet=not ranks.first)
        entries, floors = evaluate_models(args.models, asked, reporter, ranks)
        if ranks.first:
            show_table(entries, floors, reporter.console)
        if ranks.first and args.output:
            write_json(args.output, entries)
            write_quality(args.output.with_suffix(""), args.output.stem, entries, floors)

"""Run a W&B sweep file, on its server or here; trials share the stages they do not change."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from gendiff.commands import run
from gendiff.commands.words import count
from gendiff.errors import UserError
from gendiff.signals import Stop


class Words(ArgumentParser):
    """What follows ``gendiff run`` in a sweep's command."""

    def error(self, message: str) -> Any:
        raise UserError(f"command: {message}.")


def arguments(command: ArgumentParser) -> None:
    """The options."""
    command.add_argument("file", metavar="FILE", type=Path, help="a W&B sweep file")
    command.add_argument("--dir", type=Path, help="sweep's folder (default: runs/<stages>-<file>)")
    command.add_argument("--count", type=count, help="trials in all; on a server, of this agent")
    command.add_argument("--seed", type=int, default=0, help="of random and bayes without a server")
    command.add_argument("--local", action="store_true", help="without a server, come what may")


def call(args: Any) -> int:
    """Run it; returns the exit code."""
    from gendiff.progress import Reporter
    from gendiff.sweep.check import check_first, run_words, sweep_id
    from gendiff.sweep.file import read_sweep
    from gendiff.sweep.local import run_local
    from gendiff.sweep.propose import need_optuna
    from gendiff.sweep.report import write_report
    from gendiff.sweep.server import on_server, run_agent

    sweep, parser = read_sweep(args.file), Words()
    run.arguments(parser)
    said, _ = parser.parse_known_args(run_words(sweep))
    if args.dir and said.dir:
        raise UserError("--dir: the sweep's command has one already.")
    pipeline = check_first(sweep, said.target, said.overrides, args.seed)
    name = sweep_id(args.file)
    folder = args.dir or said.dir or Path("runs") / f"{pipeline.name}-{name}"
    reporter = Reporter()
    if on_server(pipeline) and not args.local:
        run_agent(sweep, pipeline, folder, args.count, reporter)
        return 0
    if sweep.method == "bayes":
        need_optuna()
    with Stop().listening():
        state = run_local(sweep.within(args.dir), folder, name, args.count, args.seed, reporter)
        write_report(sweep, state, reporter)
    if not state.succeeded:
        raise UserError(f"{args.file}: no trial has succeeded.")
    return 0

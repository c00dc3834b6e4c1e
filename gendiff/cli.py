"""The command line: its words, its exit codes, its one line on errors."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from gendiff.errors import REFUSED, Interrupted, Lost, UserError, did_you_mean, printable
from gendiff.signals import Stop
from gendiff.streams import take_streams, why_lost

COMMANDS = (
    *("run", "status", "sample", "evaluate", "report", "lineage"),
    *("sweep", "cite", "list"),
)
"""Each a file of ``gendiff.commands``."""


class Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: one line, with a near miss."""

    def error(self, message: str) -> Any:
        raise UserError(f"{message}. See {self.prog} --help.")


def parser() -> Parser:
    """All commands and their options."""
    top = Parser(prog="gendiff", description=__import__("gendiff").__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = import_module(f"gendiff.commands.{name}")
        command = commands.add_parser(name, help=said(module), description=said(module))
        command.set_defaults(call=module.call, parser=command)
        module.arguments(command)
    return top


def said(module: ModuleType) -> str:
    """The first line of a module, as ``--help`` writes it."""
    line = str(module.__doc__).split("\n")[0].rstrip(".")
    return line[0].lower() + line[1:]


def parse(words: Sequence[str] | None) -> Any:
    """Arguments, overrides and models allowed before and after options."""
    args, rest = parser().parse_known_args(words)
    words_allowed = next((name for name in ("overrides", "models") if name in args), None)
    odd = next((word for word in rest if not words_allowed or word.startswith("-")), None)
    if odd:
        options = args.parser._option_string_actions if odd.startswith("-") else ()
        hint = did_you_mean(odd.split("=")[0], options)
        if words_allowed == "overrides" and "." in odd.split("=")[0]:
            hint = " An override is written key=value: ${args_no_hyphens} in a W&B sweep."
        raise UserError(f"{odd}: no such option or argument of gendiff {args.command}.{hint}")
    if rest and words_allowed == "overrides":
        args.overrides = [*args.overrides, *rest]
    elif rest:
        args.models = [*args.models, *map(Path, rest)]
    return args


def main(words: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 done, 2 the user's mistake, 75 stopped, run again."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # we say ourselves who is gone
    args = None
    try:
        args = parse(words)
        args.words = sys.argv[1:] if words is None else words
        return args.call(args) or 0
    except UserError as error:
        tell(str(error), all_know=error.shared)
        return 2
    except (Interrupted, KeyboardInterrupt) as error:
        why = str(error) or "SIGINT"
        all_know = why == "SIGINT" or getattr(error, "shared", False)  # a terminal tells every rank
        tell(f"{why}; {again(args)}.", all_know)
        return 75
    except Lost as error:
        tell(f"{str(error).rstrip('.')}; {again(args)}.")
        return 1
    except OSError as error:  # of a path: a name too long, a folder of someone else's
        path = error.filename or ("" if is_somewhere() else "the working folder")
        if error.errno not in REFUSED or not path:
            raise
        tell(f"{path}: {error.strerror}.")
        return 2


def is_somewhere() -> bool:
    """Whether the working folder is there."""
    with suppress(FileNotFoundError):
        return bool(os.getcwd())
    return False


def again(args: Any) -> str:
    """How to go on after a stop: what --rerun moves aside would be the new weights."""
    return f"run again {'without --rerun ' if getattr(args, 'rerun', None) else ''}to go on"


def tell(text: str, all_know: bool = False) -> None:
    """A line on standard error; what all ranks know is told by the first alone."""
    if not all_know or os.environ.get("RANK", "0") == "0":
        print(f"gendiff: {printable(text)}", file=sys.stderr)


def entry() -> None:
    """The ``gendiff`` command; a signal during long imports ends it as it would later."""
    out, code = take_streams(), 75
    with Stop().listening(), suppress(Interrupted):  # raised anew by one who cannot wait
        try:
            code = main()
        except SystemExit as asked:  # --help has been said
            code = int(asked.code or 0)
    if (why := why_lost(out)) and not code:
        tell(f"standard output: {why}; not all that was said is there.")
        code = 0 if sys.argv[1:2] == ["run"] else 2  # a job is no failure when its log is full
    sys.exit(code)


if __name__ == "__main__":
    entry()

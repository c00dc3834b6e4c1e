"""The command line of a trial, word for word as W&B's agent would issue it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from gendiff.errors import UserError

ARGS = "${args_no_hyphens}"
"""The one form of the agent's arguments that ``gendiff run`` reads: key=value."""
VARIABLE = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")
PROGRAMS = ("gendiff", "gendiff.cli", "gendiff.__main__")


def read_command(raw: dict[str, Any]) -> list[str]:
    """The words of a sweep file's ``command``, or of its ``program`` alone, macros unfilled.

    Raises:
        UserError: no command of ours, or arguments that ``gendiff run`` does not read.
    """
    command, program = raw.get("command"), raw.get("program")
    if command is None:
        if not isinstance(program, str) or "run" not in program.split():
            raise UserError("command: missing; e.g. [gendiff, run, STAGES, '${args_no_hyphens}'].")
        return ["${env}", *program.split(), ARGS]
    if not isinstance(command, list) or not command:
        raise UserError("command: must be a list of words.")
    words = [str(word) for word in command]
    known = ["${env}", "${interpreter}", "${program}", ARGS]
    for word in words:
        if word.startswith("${") and word not in known and not VARIABLE.search(word):
            raise UserError(f"command: {word}: gendiff run reads its arguments as {ARGS} alone.")
    if "${program}" in words and not isinstance(program, str):
        raise UserError("program: missing; command names it.")
    if words.count(ARGS) != 1:
        raise UserError(f"command: must hold {ARGS}, once.")
    return words


def fill(command: list[str], program: str, args: list[str]) -> list[str]:
    """The words with their macros filled in."""
    filled = {"${env}": ["/usr/bin/env"], "${interpreter}": ["python"], "${program}": [program]}
    filled[ARGS] = args
    words: list[str] = []
    for word in command:
        said = VARIABLE.sub(lambda found: os.environ.get(found[1], found[1]), word)
        words += filled.get(said, [said])
    return words


def args_no_hyphens(parameters: dict[str, Any]) -> list[str]:
    """``key=value`` words: a value is written as Python does, None as the word."""
    return [f"{key}={value}" for key, value in parameters.items()]


def after_run(words: list[str]) -> list[str]:
    """What follows ``gendiff run`` in a command line.

    Raises:
        UserError: it is no such line.
    """
    for place in range(1, len(words)):
        if words[place] == "run" and Path(words[place - 1]).name in PROGRAMS:
            return words[place + 1 :]
    raise UserError("command: must name gendiff run STAGES.")

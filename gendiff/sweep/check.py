"""Whether a sweep's trials can begin: its first one, composed before anything is trained."""

from __future__ import annotations

import re
from pathlib import Path

from gendiff.errors import UserError
from gendiff.pipeline.fingerprint import flatten
from gendiff.pipeline.plan import make_plan
from gendiff.pipeline.stages import Pipeline, load_pipeline
from gendiff.sweep.command import after_run
from gendiff.sweep.file import Sweep, check_metric
from gendiff.sweep.propose import propose

UNTOLD = ("hardware", "logging")
"""Sections that a stage's fingerprint leaves out: trials share what differs in them alone."""


def run_words(sweep: Sweep) -> list[str]:
    """What every trial's ``gendiff run`` is given, besides its parameters."""
    try:
        return after_run(sweep.fixed())
    except UserError as error:
        raise UserError(f"{sweep.path}: {error}") from None


def sweep_id(path: Path) -> str:
    """The id of a sweep without a server: its file's name, so that the same command goes on."""
    return re.sub(r"[^\w-]+", "-", path.stem).strip("-") or "sweep"


def check_first(sweep: Sweep, target: str, words: list[str], seed: int) -> Pipeline:
    """The pipeline of the sweep's first trial, checked with all its inits.

    Raises:
        UserError: begins with the file, and the parameter where one is to blame.
    """
    values, _ = propose(sweep, 0, seed, [])
    try:
        check_told(sweep)
        pipeline = load_pipeline(target, words)
        try:
            pipeline = load_pipeline(target, [*words, *sweep.args(values)])
        except UserError as error:
            raise UserError(blame(sweep, values, target, words) or str(error)) from None
        make_plan(pipeline, Path("runs") / "no such folder")
    except UserError as error:
        raise UserError(f"{sweep.path}: {error}") from None
    check_metric(sweep, pipeline)
    return pipeline


def check_told(sweep: Sweep) -> None:
    """
    Raises:
        UserError: a parameter changes nothing that tells one trained stage from another.
    """
    for parameter in sweep.parameters:
        if parameter.kind == "constant":  # the same for all trials
            continue
        for value in parameter.values or (None,):
            for key in flatten(value, parameter.name):
                section = re.sub(r"^stages\.[^.]+\.", "", key).partition(".")[0]
                if section in UNTOLD:
                    raise UserError(
                        f"parameters.{parameter.name}: trials share stages that differ in "
                        f"{section} alone; set it in command, or as a value of all."
                    )


def blame(sweep: Sweep, values: dict[str, object], target: str, words: list[str]) -> str | None:
    """What a parameter alone is refused for, after its key; None if it takes several."""
    for word in sweep.args(values):
        try:
            load_pipeline(target, [*words, word])
        except UserError as error:
            return f"parameters.{word.partition('=')[0]}: {error}"
    return None

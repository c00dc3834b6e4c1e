"""What several commands read of a command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def count(text: str) -> int:
    """A word as a number of things."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too small; at least 1")
    return number


def counts(text: str) -> list[int]:
    """Such numbers with commas between, each once."""
    return [*dict.fromkeys(count(word) for word in text.split(","))]


def pipeline_words(command: argparse.ArgumentParser) -> None:
    """The words that name a pipeline, and its run folder."""
    command.add_argument("target", metavar="STAGES|CONFIG", help="a shipped name or a path")
    command.add_argument("overrides", nargs="*", metavar="key=value", default=[])
    command.add_argument("--dir", type=Path, help="run folder (default: runs/<name>)")


def open_pipeline(args: Any) -> tuple[Any, Path]:
    """The pipeline that they name, and its run folder."""
    from gendiff.pipeline.stages import load_pipeline

    pipeline = load_pipeline(args.target, args.overrides)
    return pipeline, args.dir or Path("runs") / pipeline.name

"""One page of HTML about a run folder: what came of what, how good it is, what it took."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any


def arguments(command: ArgumentParser) -> None:
    """The options."""
    command.add_argument("run", type=Path, metavar="RUN", help="a run folder, with its stages")


def call(args: Any) -> None:
    """Write ``report.html`` into the folder, and say where it is."""
    from gendiff.pipeline.overview import write_report

    print(write_report(args.run))

"""What a config leaves to the data: decided once, before its stage begins, and kept from then on.

A field of a method's config that is none is open; its `Method.settle` may fill it. The number then
stands in the stage folder's ``config.yaml``, which is what sampling and evaluation go by, and in
``stage.json``, which resume goes by; the fingerprint stays that of what was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gendiff.build import read_run
from gendiff.sections import RunConfig
from gendiff.storage import read_json


def settled(
    run: RunConfig, folder: Path, begun: bool, rows: Callable[[], Any], say: Callable[[str], None]
) -> RunConfig:
    """A run with what the data decide, and said; as decided before where its stage has begun.

    Args:
        folder: of the stage.
        begun: whether it has.
        rows: opens the rows that are trained on.

    Raises:
        UserError: the data allow no choice.
    """
    if begun:
        found = kept(run, folder)
    else:
        method = run.method_class.settle(run.method, run.make_path(), rows)
        found = replace(run, method=method)
    for name in left_open(run):
        value = getattr(found.method, name)
        if value is not None:
            say(f"  method.{name}: {value:g}, decided by the data")
    return found


def kept(run: RunConfig, folder: Path) -> RunConfig:
    """A run with what was decided when the stage in this folder began."""
    names = left_open(run)
    if not names:
        return run
    begun = read_json(folder / "stage.json").get("settled")
    if begun is None:  # of a folder from before this was kept there, under its seal
        begun = asdict(read_run(folder).method)
    found = {name: begun.get(name) for name in names}
    return replace(run, method=replace(run.method, **found))


def left_open(run: RunConfig) -> list[str]:
    """Fields of a run's method that are none."""
    return [name for name, value in asdict(run.method).items() if value is None]

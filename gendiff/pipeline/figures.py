"""The figures of a stage by full name, which a sweep's metric is one of.

``STAGE/loss`` and other columns of the stage's ``metrics.csv``; ``STAGE/METRIC@STEPS`` of its
evaluation with that many sampling steps, and ``STAGE/METRIC`` with the fewest. Of several roles,
samplers or guidance weights the first of each counts.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from gendiff.evaluation.entries import points_of, read_entries
from gendiff.pipeline.quality import current_entries
from gendiff.pipeline.stages import Stage
from gendiff.report.figures import finite
from gendiff.tracking.csv_file import numbers, read_rows

SETTINGS = ("steps", "guidance", "samples", "draws")
"""Numbers of an evaluated point that are no figures of it."""


def figures_of(stage: Stage, folder: Path) -> dict[str, float]:
    """Figures of a stage by full name, those that are finite; empty before it is done."""
    if not (folder / "done.json").is_file():
        return {}
    rows = history(folder)
    found = {name: values[-1] for name, values in rows.items()}
    run = stage.run
    if run.method_class.extracts:
        for entry in read_entries(folder / "evaluation.json"):
            found |= figures_in(entry)
    elif run.method_class.samplers and run.evaluation.steps:
        points, current = points_of(run), current_entries(folder, run)
        mine = [p for p in points if replace(p, steps=0) == replace(points[0], steps=0)]
        for point in sorted(mine, key=lambda point: -point.steps):
            if point in current:
                measured = figures_in(current[point])
                found |= {f"{name}@{point.steps}": v for name, v in measured.items()} | measured
    return {f"{stage.name}/{name}": value for name, value in found.items()}


def figures_in(entry: dict[str, Any]) -> dict[str, float]:
    """The finite figures of an evaluated point, without intervals and settings."""
    return {
        name: value
        for name, value in finite(entry).items()
        if name not in SETTINGS and not name.endswith("_interval")
    }


def history(folder: Path) -> dict[str, list[float]]:
    """The finite figures that a stage has logged so far, by column."""
    columns = dict[str, list[float]]()
    for row in read_rows(folder / "metrics.csv", sys.maxsize):
        for name, value in finite(numbers(row)).items():
            columns.setdefault(name, []).append(value)
    return columns

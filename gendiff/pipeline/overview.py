"""What a run folder holds, for a page about it: read from the folder alone, none of it trusted.

A stage that is half done, running, stale or damaged is there too, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gendiff.citations import users_of
from gendiff.errors import UserError
from gendiff.lineage import Node, outside_of, problems
from gendiff.pipeline.findings import MOST, Found
from gendiff.pipeline.quality import Floors, shown_entries
from gendiff.report.figures import Entry, finite
from gendiff.report.graph import in_tree_order
from gendiff.report.page import render
from gendiff.report.views import RunView
from gendiff.storage import write_text

MARKS = ("stage.json", "done.json", "config.yaml", "checkpoints")
"""Any of these makes a folder a stage's."""
WORDS = ("role", "sampler", "reference")
"""Of a measured point; the rest are numbers."""


def write_report(run_folder: Path) -> Path:
    """Write ``report.html`` into a run folder; returns its path.

    Raises:
        UserError: there is no such folder, no stage in it, or it cannot be written.
    """
    path = run_folder / "report.html"
    write_text(path, render(read_overview(run_folder)))
    return path


def read_overview(run_folder: Path) -> RunView:
    """All stages of a run folder, each after its parents.

    Raises:
        UserError: there is no such folder, or no stage in it.
    """
    if not run_folder.is_dir():
        raise UserError(f"{run_folder}: no such run folder.")
    if (run_folder / "stage.json").exists():
        where = run_folder.resolve().parent
        raise UserError(f"{run_folder}: is a stage of {where}; a report is of a whole run folder.")
    folders = sorted(filter(is_stage, run_folder.iterdir()), key=lambda path: natural(path.name))
    if not folders:
        raise UserError(f"{run_folder}: no stage has begun in it.")
    found = {folder.name: Found(folder) for folder in folders}
    nodes = {name: one.node for name, one in found.items() if one.node} | outside(found)
    wrong = problems(nodes)
    parents = {name: one.parents for name, one in found.items()}
    # of those that descend from none, evaluators first: nothing is made of them
    used = {parent for several in parents.values() for parent in several}
    order = in_tree_order({n: parents[n] for n in sorted(parents, key=lambda n: n in used)})
    # the picture's stages in the order, and so the colours, of the one that a run writes
    entries, floors = measured(sorted((found[name] for name in order), key=lambda one: one.place))
    papers = users_of({name: run for name in order if (run := found[name].run)})
    told = {name: [line for line in wrong if line.startswith(f"{name}: ")] for name in order}
    stages = [found[name].view(found, nodes, told[name]) for name in order]
    return RunView(run_folder.resolve().name, stages, entries, floors, papers)


def outside(found: Mapping[str, Found]) -> dict[str, Node]:
    """The stages of other run folders that those found descend from; says where one is damaged."""
    nodes: dict[str, Node] = {}
    for one in found.values():
        try:
            nodes |= outside_of({one.name: one.node} if one.node else {})
        except (UserError, OSError) as error:
            one.why.append(str(error).rstrip("."))
    return nodes


def is_stage(folder: Path) -> bool:
    """Whether a folder is a stage's, and not one that ``--rerun`` has put aside."""
    aside = folder.name.startswith(".") or ".old-" in folder.name
    return not aside and folder.is_dir() and any((folder / mark).exists() for mark in MARKS)


def natural(name: str) -> list[Any]:
    """By which ``halve-8`` comes before ``halve-16``."""
    parts = re.split(r"(\d{1,9})", name)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)]


def measured(stages: list[Found]) -> tuple[list[Entry], dict[str, Entry]]:
    """Points of all stages, and what real data reach by reference, as far as both are there."""
    entries: list[Entry] = []
    wanted = Floors()
    for stage in stages:
        run = stage.run
        if not (run and run.method_class.samplers and stage.node and stage.node.done):
            continue
        try:
            stage.check_size("evaluation.json")
            shown = shown_entries(stage.folder, run)
            points = [clean(entry, stage.name) for entry in shown]
            each = [draw["seconds"] for entry in shown for draw in entry["each"]]
            stage.sampling = float(sum(each))
        except UserError as error:
            stage.why.append(f"no figures: {stage.within(error)}")
            continue
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            stage.why.append("evaluation.json: is not what gendiff wrote")
            continue
        entries += [point for point in points if point]
        if points:
            wanted.need(run, stage.folder.parent)
    floors = {digest: numbers(floor) for digest, floor in wanted.kept().items()}
    return entries, {digest: floor for digest, floor in floors.items() if floor}


def clean(entry: Entry, stage: str) -> Entry:
    """A point whose numbers are numbers; empty if it has no place on the curve.

    Raises:
        KeyError, TypeError: it is none of gendiff's.
    """
    words = {key: entry[key] for key in WORDS if isinstance(entry[key], str)}
    point = {"model": stage, **words, **numbers(entry)}
    whole = {*WORDS, "steps", "nfe", "guidance"} <= set(point)
    return point if whole and point["nfe"] >= 1 else {}


def numbers(entry: Any) -> Entry:
    """What of it can be drawn."""
    found = finite(entry) if isinstance(entry, dict) else {}
    return {name: value for name, value in found.items() if abs(value) < MOST}

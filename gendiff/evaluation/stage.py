"""All points of a finished stage, each draw kept as it is done, so that nothing is done twice."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from gendiff.build import run_folder_of
from gendiff.errors import UserError
from gendiff.evaluation.entries import Entry, Marks, points_of, read_entries, write_entries
from gendiff.evaluation.points import Point, draw, summarise
from gendiff.evaluation.reference import Reference
from gendiff.evaluation.trajectory import straightness
from gendiff.model import Model, load
from gendiff.progress import Reporter
from gendiff.ranks import Ranks
from gendiff.report.grid import save_grid, save_points
from gendiff.sections import RunConfig
from gendiff.storage import user_errors, write_atomic

PER_CLASS = 10
"""Columns of a sample grid."""


def evaluate_stage(
    run: RunConfig,
    folder: Path,
    reporter: Reporter,
    title: str,
    device: torch.device,
    ranks: Ranks,
) -> list[Entry]:
    """The entries of all points that a run's ``evaluation`` asks for, computed where missing.

    Args:
        run: the stage's run, with the evaluation that is wanted now.
        folder: of the finished stage.
    """
    path, marks, points = folder / "evaluation.json", Marks(folder, run), points_of(run)
    entries = ranks.agree(read_entries(path) if ranks.first else None)
    current, asked = marks.current(entries), run.evaluation.draws
    have = {point: draws_of(current, point, asked) for point in points}
    todo = [point for point in points if len(have[point]) < asked]
    missing = sum(asked - len(have[point]) for point in todo)
    if todo:
        reference = Reference(run, run_folder_of(folder), device, ranks)
        model: Model | None = None
        with reporter.task(f"{title}: evaluating", missing, verb="draw") as task:
            drawn = 0
            for point in todo:
                if model is None or model.role != point.role:
                    model = load(folder, point.role).to(device)
                    model.batch = run.evaluation.batch_size
                fixed: Entry = {}
                if ranks.first:
                    save_samples(model, point, folder, reach_of(reference))
                    fixed = straight(model, current, point, reference)
                draws = have[point]
                while len(draws) < asked:
                    names, alone = marks.metrics, asked == 1
                    draws.append(draw(model, reference, point, len(draws), names, alone))
                    drawn += 1
                    task.update(drawn)
                    if ranks.first:
                        entry = summarise(point, draws, reference.samples)
                        name = {"model": folder.absolute().name}
                        current[point] = {**name, **fixed, **entry, **marks.of(point)}
                        entries = [*marks.kept(entries, point), current[point]]
                        write_entries(path, entries)
                if ranks.first and current[point].get("broken"):
                    reporter.warn(f"{title}: {point}: samples that are not finite: no figures.")
    current = ranks.agree(current)
    return [current[point] for point in points]


def draws_of(current: dict[Point, Entry], point: Point, asked: int) -> list[Entry]:
    """The draws to go on from: a single one counts only with an interval of its own."""
    draws: list[Entry] = current[point]["each"] if point in current else []
    return [] if asked == len(draws) == 1 and not {"intervals", "broken"} & set(draws[0]) else draws


def straight(
    model: Model, current: dict[Point, Entry], point: Point, reference: Reference
) -> Entry:
    """How straight a model's own flow is, measured once a role and guidance weight."""
    for other, entry in current.items():
        if (other.role, other.guidance) == (point.role, point.guidance):
            return {key: value for key, value in entry.items() if key.startswith("straightness")}
    return straightness(model, reference.held_out.labels, point.guidance)


def reach_of(reference: Reference) -> float | None:
    """Half the width of pictures of points: that of the data, and a fifth more."""
    features = reference.held_out.features
    return 1.2 * float(features.abs().max()) if reference.known.points else None


def save_samples(model: Model, point: Point, folder: Path, reach: float | None) -> None:
    """A grid of images, rows by class, or a scatter of points in axes of that reach."""
    shape, classes = model.run.data.shape, model.run.data.classes
    words = [re.sub(r"[^\w.=]+", "-", point.sampler).strip("-"), str(point.steps)]  # no quotes
    if point.guidance:
        words.append(f"w{point.guidance:g}")
    if point.role != type(model.method).speaker:
        words.append(point.role)
    path = folder / "samples" / f"{'-'.join(words)}.png"
    path.parent.mkdir(exist_ok=True)
    n = PER_CLASS * max(classes, 1) if len(shape) == 3 else 1000
    x = model.sample(n, point.steps, sampler=point.sampler, guidance=point.guidance)
    with user_errors(path):
        if len(shape) == 3:
            write_atomic(path, lambda file: save_grid(x, file, PER_CLASS))
        else:
            write_atomic(path, lambda file: save_points(x, file, reach))


def check_points(run: RunConfig, steps: list[int] | None, folder: Path) -> None:
    """
    Raises:
        UserError: steps that were asked for by hand are not covered by the training.
    """
    covered = run.method_class.steps_range(run.method)
    odd = [k for k in steps or [] if covered and not covered[0] <= k <= covered[1]]
    if covered and odd:
        raise UserError(f"{folder}: steps: {odd[0]}; takes {covered[0]} to {covered[1]}.")

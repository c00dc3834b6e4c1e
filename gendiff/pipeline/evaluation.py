"""Evaluate stages after they are done; what has a figure for these weights is not redone."""

from __future__ import annotations

import dataclasses
import re
from itertools import product
from pathlib import Path
from typing import Any

from gendiff.build import check_done, load, read_run
from gendiff.config import RunConfig, check
from gendiff.errors import UserError
from gendiff.evaluate import Point, Reference, evaluate_point, reference_digest
from gendiff.pipeline.stages import Pipeline, Stage
from gendiff.progress import Reporter
from gendiff.report.curve import draw_curve
from gendiff.report.grid import save_grid, save_scatter
from gendiff.report.table import markdown_table, show_table
from gendiff.storage import lock, read_json, user_errors, write_json, write_text
from gendiff.train import device_of

PER_CLASS = 10
"""Columns of a sample grid."""


def evaluator_folder(run: RunConfig, run_folder: Path) -> Path | None:
    """The stage that measures a run's samples."""
    name = run.evaluation.extractor
    return run_folder / name if name else None


def points_of(run: RunConfig) -> list[Point]:
    """All points that a run's ``evaluation`` asks for and its training covers."""
    cls = run.method_class
    samplers = run.evaluation.samplers or list(cls.samplers[:1])
    low, high = cls.steps_range(run.method) or (1, max(run.evaluation.steps, default=1))
    return [
        Point(sampler, steps, weight)
        for sampler, weight, steps in product(
            samplers, run.evaluation.guidance, run.evaluation.steps
        )
        if low <= steps <= high
    ]


def known_points(path: Path) -> list[dict[str, Any]]:
    """The entries of an ``evaluation.json``; empty if there is none."""
    entries = read_json(path) if path.is_file() else []
    if not isinstance(entries, list):
        raise UserError(f"{path}: damaged, not a list of evaluated points. Remove it to redo them.")
    return entries


def evaluate_folder(
    folder: Path,
    points: list[Point],
    draws: int,
    reporter: Reporter,
    title: str,
    evaluator: Path | None,
) -> list[dict[str, Any]]:
    """Evaluate the points that ``evaluation.json`` has not yet, each written as it is done."""
    run, path = read_run(folder), folder / "evaluation.json"
    mark = mark_of(folder, run, draws, evaluator)
    entries = known_points(path)
    have = {place(e) for e in marked(entries, mark)}
    missing = [point for point in points if point not in have]
    if missing:
        model, reference = load(folder).to(device_of(run)), Reference(run.data, evaluator)
        cost = sum(point.steps for point in missing)
        with reporter.task(f"{title}: evaluating", cost, verb="evaluated") as task:
            spent = 0
            for point in missing:
                save_samples(model, point, folder)
                entry = {"model": folder.name, **evaluate_point(model, reference, point, draws)}
                entries = [e for e in entries if place(e) != point or e["draws"] != draws]
                entries.append({**entry, "weights": mark["weights"]})
                write_json(path, entries)
                spent += point.steps
                task.update(spent)
    return [e for e in marked(entries, mark) if place(e) in points]


def mark_of(folder: Path, run: RunConfig, draws: int, evaluator: Path | None) -> dict[str, Any]:
    """What the entries of a stage's present weights, reference and draws have in common."""
    weights = check_done(folder)["digests"][f"weights/{run.method_class.speaker}.safetensors"]
    return {"weights": weights, "draws": draws, "reference": reference_digest(run.data, evaluator)}


def marked(entries: list[dict[str, Any]], mark: dict[str, Any]) -> list[dict[str, Any]]:
    """Only figures of the same weights, reference and draws are ever shown together."""
    return [entry for entry in entries if mark.items() <= entry.items()]


def place(entry: dict[str, Any]) -> Point:
    return Point(entry["sampler"], entry["steps"], entry["guidance"])


def save_samples(model: Any, point: Point, folder: Path) -> None:
    """A grid of images, rows by class, or a scatter of points."""
    shape, classes = model.run.data.shape, model.run.data.classes
    guided = f"-w{point.guidance:g}" if point.guidance else ""
    sampler = re.sub(r"[^\w.=]+", "-", point.sampler).strip("-")  # a name that needs no quotes
    path = folder / "samples" / f"{sampler}-{point.steps}{guided}.png"
    path.parent.mkdir(exist_ok=True)
    n = PER_CLASS * max(classes, 1) if len(shape) == 3 else 1000
    x = model.sample(n, point.steps, sampler=point.sampler, guidance=point.guidance)
    with user_errors(path):
        if len(shape) == 3:
            save_grid(x, path, PER_CLASS)
        else:
            save_scatter(x, path)


def evaluate_stage(stage: Stage, run_folder: Path, reporter: Reporter, title: str) -> None:
    """What a stage's ``evaluation`` asks for, after its ``done.json``."""
    run, folder = stage.run, run_folder / stage.name
    evaluator = evaluator_folder(run, run_folder)
    if hasattr(run.method_class, "features"):
        judge_evaluator(run, folder)
    elif run.method_class.samplers and run.evaluation.steps:
        draws = run.evaluation.draws
        evaluate_folder(folder, points_of(run), draws, reporter, title, evaluator)


def evaluate_models(
    folders: list[Path],
    steps: list[int] | None,
    samplers: list[str] | None,
    guidance: list[float] | None,
    draws: int | None,
    reporter: Reporter,
) -> list[dict[str, Any]]:
    """Evaluate finished stages; what is not given is as their own config says.

    Raises:
        UserError: a folder is no finished stage, or its evaluator has not been trained.
    """
    entries: list[dict[str, Any]] = []
    for folder in folders:
        run = read_run(folder)
        if not run.method_class.samplers:
            raise UserError(f"{folder}: a {run.method.name} stage makes no samples to evaluate.")
        asked: dict[str, Any] = {
            "steps": steps or run.evaluation.steps or [load(folder).default_steps],
            "samplers": samplers or run.evaluation.samplers,
            "guidance": guidance or run.evaluation.guidance,
            "draws": run.evaluation.draws if draws is None else draws,
        }
        run = dataclasses.replace(run, evaluation=dataclasses.replace(run.evaluation, **asked))
        check(run, str(folder))
        covered = run.method_class.steps_range(run.method)
        odd = [k for k in steps or [] if covered and not covered[0] <= k <= covered[1]]
        if covered and odd:
            raise UserError(f"{folder}: steps: {odd[0]}; takes {covered[0]} to {covered[1]}.")
        evaluator = evaluator_folder(run, folder.resolve().parent)
        if evaluator:
            check_done(evaluator)
        draws, points = run.evaluation.draws, points_of(run)
        with lock(folder.resolve().parent / ".locks" / folder.name):
            entries += evaluate_folder(folder, points, draws, reporter, folder.name, evaluator)
    show_table(entries, None, reporter.console)
    return entries


def judge_evaluator(run: RunConfig, folder: Path) -> None:
    """An evaluator's own figures: its accuracy on held-out data, and the floor it sees."""
    path, mark = folder / "evaluation.json", reference_digest(run.data, folder)
    if any(entry.get("reference") == mark for entry in known_points(path)):
        return
    reference = Reference(run.data, folder)
    floor = reference.floor()
    entry = {
        "model": folder.name,
        "samples": len(reference.features),
        "class_accuracy": floor["class_accuracy"],
        "floor": floor,
        "reference": mark,
    }
    write_json(path, [entry])


def write_summary(pipeline: Pipeline, run_folder: Path, reporter: Reporter) -> None:
    """The table and the curve of all stages that have figures: ``quality.md``, ``quality.png``."""
    entries: list[dict[str, Any]] = []
    floor = None
    for name, stage in pipeline.stages.items():
        folder, run = run_folder / name, stage.run
        found = known_points(folder / "evaluation.json")
        floor = next((entry["floor"] for entry in found if "floor" in entry), floor)
        evaluator = evaluator_folder(run, run_folder)
        if run.method_class.samplers and found and (folder / "done.json").is_file():
            mark = mark_of(folder, run, run.evaluation.draws, evaluator)
            shown = [e for e in marked(found, mark) if place(e) in points_of(run)]
            entries += sorted(shown, key=lambda e: (e["sampler"], e["guidance"], e["steps"]))
    if not entries:
        return
    show_table(entries, floor, reporter.console)
    write_text(run_folder / "quality.md", markdown_table(pipeline.name, entries, floor))
    if all("frechet_distance" in entry for entry in entries):
        with user_errors(run_folder):
            draw_curve(entries, run_folder / "quality.png", floor)
    reporter.say(f"table: {run_folder / 'quality.md'}   curve: {run_folder / 'quality.png'}")

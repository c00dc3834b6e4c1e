"""The quality of finished stages: evaluated where figures are missing, one table, one curve."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gendiff.build import check_done, device_of, finished, run_folder_of
from gendiff.checks import check
from gendiff.errors import UserError
from gendiff.evaluation.entries import (
    Entry,
    Marks,
    metrics_of,
    points_of,
    read_entries,
    write_entries,
)
from gendiff.evaluation.points import Point
from gendiff.evaluation.reference import (
    Reference,
    describe,
    digest_of,
    floor_key,
    read_record,
)
from gendiff.evaluation.stage import check_points, draws_of, evaluate_stage
from gendiff.model import load
from gendiff.pipeline.stages import Pipeline, Stage
from gendiff.progress import Reporter
from gendiff.ranks import Ranks
from gendiff.report.curve import draw_curve
from gendiff.report.figures import main_distance
from gendiff.report.table import markdown_table, show_table
from gendiff.sections import RunConfig
from gendiff.storage import lock_of, write_text
from gendiff.tracking.wandb_stage import log_stage


def evaluate_after(
    stage: Stage, run_folder: Path, reporter: Reporter, title: str, ranks: Ranks
) -> None:
    """What a stage's ``evaluation`` asks for, after its ``done.json``; on all ranks together."""
    run, folder = stage.run, run_folder / stage.name
    if run.method_class.extracts:
        ranks.decide(lambda: judge_evaluator(run, folder, device_of(run, needed=False)))
    elif run.method_class.samplers and run.evaluation.steps:
        device = device_of(run, ranks.local, needed=False)
        evaluate_stage(run, folder, reporter, title, device, ranks)
    ranks.decide(lambda: tell_wandb(run, folder, reporter))


def tell_wandb(run: RunConfig, folder: Path, reporter: Reporter) -> None:
    """Give W&B, if it is asked for, the weights and the figures that belong to them."""
    if run.logging.wandb == "off":
        return
    entries = read_entries(folder / "evaluation.json")
    if entries and not run.method_class.extracts:
        entries = list(Marks(folder, run).current(entries).values())
    log_stage(run, folder, entries, reporter.say)


def judge_evaluator(run: RunConfig, folder: Path, device: torch.device) -> None:
    """An evaluator's own figure, its accuracy on held-out data, into its ``evaluation.json``."""
    named = dataclasses.replace(run.evaluation, extractor=folder.name)
    run, path = dataclasses.replace(run, evaluation=named), folder / "evaluation.json"
    mark = digest_of(describe(run, run_folder_of(folder)))
    if any(entry.get("reference") == mark for entry in read_entries(path)):
        return
    reference = Reference(run, run_folder_of(folder), device)
    hits = reference.held_out.hits
    entry = {
        "model": folder.name,
        "samples": reference.samples,
        "class_accuracy": None if hits is None else float(hits.double().mean()),
        "reference": mark,
    }
    write_entries(path, [entry])


def evaluate_models(
    folders: list[Path], asked: dict[str, Any], reporter: Reporter, ranks: Ranks
) -> tuple[list[Entry], dict[str, dict[str, float]]]:
    """Evaluate finished stages, on all ranks together.

    Args:
        asked: keys of ``evaluation``; what is None is as each stage's own config says.

    Returns:
        The entries, and the floor by reference.

    Raises:
        UserError: a folder is no finished stage, or its evaluator has not been trained.
    """
    entries: list[Entry] = []
    floors = Floors()
    folders = list(dict.fromkeys(folders))
    stages = [folder.name for folder in folders]
    alike = {name for name in stages if stages.count(name) > 1}
    for folder in folders:
        run, _ = finished(folder)
        if not run.method_class.samplers:
            raise UserError(f"{folder}: a {run.method.name} stage makes no samples to evaluate.")
        given = {key: value for key, value in asked.items() if value is not None}
        if not (given.get("steps") or run.evaluation.steps):
            given["steps"] = [load(folder).default_steps]
        run = dataclasses.replace(run, evaluation=dataclasses.replace(run.evaluation, **given))
        check(run, str(folder))
        check_points(run, asked.get("steps"), folder)
        run_folder, device = run_folder_of(folder), device_of(run, ranks.local, needed=False)
        if run.evaluation.stage:
            check_done(run_folder / run.evaluation.stage)
        with ranks.holding(lock_of(folder)):
            found = evaluate_stage(run, folder, reporter, folder.name, device, ranks)
            ranks.decide(partial(tell_wandb, run, folder, reporter))
        name = {"model": str(folder)} if folder.name in alike else {}
        entries += [{**entry, **name} for entry in found]
        if ranks.first:
            floors.need(run, run_folder)
    return entries, floors.computed()


class Floors:
    """What real data reach, by reference, for all metrics that some stage asks for."""

    def __init__(self) -> None:
        self.asked: dict[str, tuple[RunConfig, Path, set[str]]] = {}
        self.labelled: set[str] = set()

    def need(self, run: RunConfig, run_folder: Path) -> None:
        """A stage is measured against its reference by its metrics."""
        digest = digest_of(describe(run, run_folder))
        _, _, names = self.asked.setdefault(digest, (run, run_folder, set()))
        names.update(metrics_of(run))
        if run.conditional:
            self.labelled.add(digest)

    def computed(self) -> dict[str, dict[str, float]]:
        """Figures by reference."""
        return {
            digest: Reference(run, run_folder, device_of(run, needed=False)).floor(
                sorted(names), digest in self.labelled
            )
            for digest, (run, run_folder, names) in self.asked.items()
        }

    def kept(self) -> dict[str, dict[str, float]]:
        """Those figures that were computed before, by reference."""
        found = {}
        for digest, (_, run_folder, names) in self.asked.items():
            record = read_record(run_folder / f"reference-{digest}" / "reference.json")
            asked = floor_key(sorted(names), digest in self.labelled)
            found[digest] = record.get("floors", {}).get(asked, {})
        return found


def current_entries(folder: Path, run: RunConfig) -> dict[Point, Entry]:
    """A finished stage's figures, less those of other weights or against another reference."""
    return Marks(folder, run).current(read_entries(folder / "evaluation.json"))


def has_evaluator(stage: Stage, run_folder: Path) -> bool:
    """Whether the stage that measures another, if one does, is done."""
    measures = stage.run.evaluation.stage
    return not measures or (run_folder / measures / "done.json").is_file()


def is_evaluated(stage: Stage, run_folder: Path) -> bool:
    """Whether a finished stage has all figures that its ``evaluation`` asks for."""
    if stage.run.method_class.extracts:
        return (run_folder / stage.name / "evaluation.json").is_file()
    if not stage.run.method_class.samplers:
        return True
    if not has_evaluator(stage, run_folder):
        return False
    folder, asked = run_folder / stage.name, stage.run.evaluation.draws
    current = current_entries(folder, stage.run)
    return all(len(draws_of(current, point, asked)) >= asked for point in points_of(stage.run))


def write_summary(
    pipeline: Pipeline, run_folder: Path, reporter: Reporter, show: bool = True
) -> None:
    """Table and curve of all stages that have figures: ``quality.md``, ``.png`` and ``.svg``."""
    entries: list[Entry] = []
    wanted = Floors()
    for name, stage in pipeline.stages.items():
        folder, run = run_folder / name, stage.run
        done = (folder / "done.json").is_file() and has_evaluator(stage, run_folder)
        if not (run.method_class.samplers and done):
            continue
        if shown := shown_entries(folder, run):
            entries += shown
            wanted.need(run, run_folder)
    if entries:
        floors = wanted.computed()
        if show:
            show_table(entries, floors, reporter.console)
        files = write_quality(run_folder / "quality", pipeline.name, entries, floors)
        if show:
            reporter.say("  ".join(map(str, files)))


def shown_entries(folder: Path, run: RunConfig) -> list[Entry]:
    """What a finished stage's ``evaluation`` asks for, as far as it is measured."""
    current = current_entries(folder, run)
    shown = [current[point] for point in points_of(run) if point in current]
    return sorted(shown, key=lambda e: (e["role"], e["sampler"], e["guidance"], e["nfe"]))


def write_quality(
    path: Path, title: str, entries: list[Entry], floors: dict[str, dict[str, float]]
) -> list[Path]:
    """``path``.md, and a curve a reference as ``path``.png and .svg; returns what was written."""
    files = [path.with_name(f"{path.name}.md")]
    write_text(files[0], markdown_table(title, entries, floors))
    for reference in dict.fromkeys(entry["reference"] for entry in entries):
        mine = [entry for entry in entries if entry["reference"] == reference]
        if main_distance(mine) is None:
            continue
        mark = f"-{reference}" if len(floors) > 1 else ""
        for suffix in (".png", ".svg"):
            files.append(path.with_name(f"{path.name}{mark}{suffix}"))
            draw_curve(mine, files[-1], floors.get(reference))
    return files

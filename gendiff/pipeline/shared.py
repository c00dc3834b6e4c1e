"""Stages that the trials of a sweep share: each lives once, and trials hold links to it.

A sweep's folder has a folder a trial and ``shared``, where a stage lives under its name and the
beginning of its fingerprint. Trials whose parameters do not touch a stage, nor what it descends
from, agree on both, so the first of them trains it and the others wait and find it done.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from gendiff.errors import UserError
from gendiff.evaluation.reference import describe, digest_of
from gendiff.pipeline.plan import Step
from gendiff.pipeline.stages import Stage
from gendiff.storage import fsync_folder, lock_of, locked, make_folder, user_errors

POOL = "shared"
DIGITS = 12
"""Of the fingerprint, in the name of a folder."""


def share(plan: list[Step]) -> None:
    """Link a trial's stages to where they live.

    A link to a stage that has begun under another config stays: the stage is then stale.
    """
    for step in plan:
        target = step.folder.parent.parent / POOL / home(step)
        there = step.folder.is_symlink() and Path(os.readlink(step.folder)).name == target.name
        if not there and not (step.folder / "stage.json").exists():
            link(step.folder, target)
        elif there:
            make_folder(target)


def home(step: Step) -> str:
    """The name under which a stage is shared."""
    return f"{step.stage.name}-{step.record['fingerprint'][:DIGITS]}"


def link(path: Path, target: Path) -> None:
    """Make a path a relative link to a folder, which is made as well."""
    make_folder(target)
    make_folder(path.parent)
    with user_errors(path):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()  # begun by nobody
        fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.path.relpath(target, path.parent))
        fresh.replace(path)
        fsync_folder(path.parent)


def link_reference(stage: Stage, run_folder: Path) -> None:
    """Keep the statistics that a trial's stage is measured against where all trials find them."""
    run = stage.run
    if run.method_class.extracts:  # it is judged in its own features
        if not (run_folder / stage.name / "done.json").is_file():
            return
        run = replace(run, evaluation=replace(run.evaluation, extractor=stage.name))
    elif not (run.method_class.samplers and run.evaluation.steps):
        return
    name = f"reference-{digest_of(describe(run, run_folder))}"
    if not (run_folder / name).exists():
        link(run_folder / name, run_folder.parent / POOL / name)


def elsewhere(step: Step) -> bool:
    """Whether a stage's folder is a link to one of other trials, with another config."""
    if not step.folder.is_symlink():
        return False
    real = Path(os.path.realpath(step.folder))
    return real.parent.name == POOL and real.name != home(step)


def in_use(step: Step) -> bool:
    """Whether another process is at work on a shared stage: its files may change as we look."""
    return step.folder.is_symlink() and locked(lock_of(step.folder))


def refuse_others(step: Step) -> None:
    """
    Raises:
        UserError: the stage is one of other trials, with another config than this one's.
    """
    if elsewhere(step):
        raise UserError(
            f"{step.stage.name}: {step.folder} is a link to {step.folder.resolve().name}, which "
            f"trials of a sweep share under their config; choose another --dir."
        )

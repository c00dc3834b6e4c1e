"""What W&B is given of a stage that is done: weights, reference statistics, figures, samples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gendiff.build import run_folder_of
from gendiff.errors import UserError
from gendiff.lineage import LINEAGE, Node, as_plain, read_node, roles_of
from gendiff.report.figures import Entry, finite, has, main_distance
from gendiff.sections import RunConfig
from gendiff.storage import read_json, write_json
from gendiff.tracking.csv_file import read_rows
from gendiff.tracking.names import alias_of, artifact_name
from gendiff.tracking.wandb_run import WandbTracker

WAIT = 1800.0
"""Seconds that weights have to be uploaded; W&B's files in the stage's folder keep them."""
RECORDS = ("config.yaml", "stage.json", "done.json")
"""What makes a stage's weights a model that `gendiff.load` opens."""
MARKS = ("role", "sampler", "guidance", "steps", "nfe")
"""First columns of the table of figures."""


def log_stage(
    run: RunConfig, folder: Path, entries: Sequence[Entry], say: Callable[[str], None]
) -> None:
    """Give W&B a stage that is done and its evaluation, unless it has them as they are now.

    Args:
        folder: of the stage.
        entries: of its ``evaluation.json``.
    """
    node, path = read_node(folder, folder.name), folder / "wandb" / "logged.json"
    told = json.dumps([as_plain(node), *entries], sort_keys=True)
    mark, before = hashlib.sha256(told.encode()).hexdigest(), logged(path)
    if before.get("mark") == mark:
        return
    tracker = WandbTracker(folder, run, read_rows(folder / "metrics.csv", node.steps), say, WAIT)
    times = int(before.get("times", 0)) + 1
    try:
        tracker.send(lambda wandb_run: give(wandb_run, node, folder, list(entries), times))
    finally:
        kept = tracker.run is not None
        tracker.close()
    if kept:
        write_json(path, {"mark": mark, "times": times})


def logged(path: Path) -> dict[str, Any]:
    """What W&B was given before; empty if that is unknown."""
    try:
        record = read_json(path)
    except UserError:
        return {}
    return record if isinstance(record, dict) else {}


def give(run: Any, node: Node, folder: Path, entries: list[Entry], times: int) -> None:
    """Log all of it to a W&B run."""
    import wandb

    run.config.update({LINEAGE: {**run.config[LINEAGE], **as_plain(node)}}, allow_val_change=True)
    log_weights(run, node, folder)
    for digest in sorted({entry["reference"] for entry in entries if "reference" in entry}):
        log_reference(run, run_folder_of(folder) / f"reference-{digest}")
    images = {
        f"samples/{path.stem}": wandb.Image(str(path))
        for path in sorted((folder / "samples").glob("*.png"))
    }
    points = [entry for entry in entries if "nfe" in entry]
    row: dict[str, Any] = {**images, **(tables(points) if points else {})}
    if row:
        # beyond the losses' steps, and beyond what an earlier evaluation was logged at
        run.log(row, step=max(run.starting_step, node.steps + times), commit=True)
    run.summary.update({"evaluation": {label(entry): figures(entry) for entry in entries}})


def log_weights(run: Any, node: Node, folder: Path) -> None:
    """One artifact a stage: its weights as they lie, and what says what they are.

    The pairs that a stage has made stay where they are: their stamp is given, which holds the
    digests of all their files.
    """
    import wandb

    kind = "model" if any(name.startswith("weights/") for name in node.digests) else "dataset"
    artifact = wandb.Artifact(artifact_name(folder), type=kind, metadata=as_plain(node))
    for name in RECORDS:
        artifact.add_file(str((folder / name).resolve()), name)
    for name in node.digests:  # not copied: weights are large, and nobody writes to them again
        artifact.add_file(str((folder / name).resolve()), name, policy="immutable")
    aliases = [alias_of(role, digest) for role, digest in roles_of(node.digests).items()]
    run.log_artifact(artifact, aliases=["latest", *aliases])


def log_reference(run: Any, folder: Path) -> None:
    """The statistics that figures are measured against; of one content W&B keeps one version."""
    import wandb

    record = read_json(folder / "reference.json")
    metadata = {name: record[name] for name in ("digest", "of", "features")}
    artifact = wandb.Artifact(folder.name, type="reference", metadata=metadata)
    artifact.add_file(str(folder / "reference.json"))  # copied, as floors are added to it
    artifact.add_file(str(folder / "features.safetensors"), policy="immutable")
    run.log_artifact(artifact)


def tables(points: list[Entry]) -> dict[str, Any]:
    """All figures of all points, and quality against NFE."""
    import wandb

    names = list(dict.fromkeys(name for entry in points for name in figures(entry)))
    marks = [name for name in MARKS if name in points[0]]
    rest = [name for name in names if name not in marks]
    rows = [
        [series(e), *(e.get(name) for name in marks), *(figures(e).get(name) for name in rest)]
        for e in points
    ]
    table = wandb.Table(columns=["series", *marks, *rest], data=rows)
    made: dict[str, Any] = {"quality": table}
    if distance := main_distance(points):
        lines = [[e["nfe"], e[distance], series(e)] for e in points if has(e, distance)]
        curve = wandb.Table(columns=["nfe", distance, "series"], data=lines)
        made["quality_curve"] = wandb.plot.line(
            curve, x="nfe", y=distance, stroke="series", title=f"{distance} against NFE"
        )
    return made


def series(entry: Entry) -> str:
    """The line that a point is on."""
    weight = f" w{entry['guidance']:g}" if entry.get("guidance") else ""
    return f"{entry.get('role')} {entry.get('sampler')}{weight}"


def label(entry: Entry) -> str:
    """What the summary calls a point; an evaluator's own figures bear its name."""
    return f"{series(entry)} {entry['steps']}" if "steps" in entry else str(entry.get("model"))


def figures(entry: Entry) -> dict[str, float]:
    """The finite numbers of an entry, as W&B's tables take them: of one kind a column."""
    return {name: float(value) for name, value in finite(entry).items()}

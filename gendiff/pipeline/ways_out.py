"""Ways out of a stale or damaged stage: train it again, or keep it as it is."""

from __future__ import annotations

from pathlib import Path

import torch

from gendiff.build import build_network, check_done
from gendiff.config import to_yaml
from gendiff.errors import UserError
from gendiff.pipeline.plan import Step, with_digests
from gendiff.pipeline.shared import elsewhere
from gendiff.progress import Reporter
from gendiff.settle import kept
from gendiff.storage import make_folder, read_json, sha256, write_json, write_text
from gendiff.weights import differences, explain, read_tensors, weight_file

MEANING = ("data", "networks", "path", "method")
"""Sections that say what a stage's weights mean, and so what their samples are."""


def ways_out(step: Step) -> str:
    """What a stale or damaged stage's owner can do."""
    name = step.stage.name
    if elsewhere(step):
        return f"{step.folder} links to a stage of other trials; choose another --dir."
    ways = [f"--rerun {name} moves the old folder aside and trains it again"]
    if (step.folder / "done.json").is_file():
        ways.append(f"--accept {name} keeps its weights under the present config")
    return "; ".join([*ways, "or choose another --dir"]) + "."


def accept(step: Step) -> None:
    """Record the present config as the folder's own, if its weights still fit.

    Raises:
        UserError: the stage is not finished, or its shapes differ.
    """
    name, run = step.stage.name, step.stage.run
    done = check_done(step.folder)
    for role in run.networks:
        path = weight_file(step.folder, role)
        with torch.device("meta"):
            wanted = build_network(run, role).state_dict()
        lines = differences(wanted, read_tensors(path))
        if lines:
            raise UserError(f"--accept {name}: the weights do not fit: {explain(lines)}.")
    old = read_json(step.folder / "stage.json")
    if any(old["identity"].get(key) != step.record["identity"].get(key) for key in MEANING):
        (step.folder / "evaluation.json").unlink(missing_ok=True)  # of other samples
    write_text(step.folder / "config.yaml", to_yaml(kept(run, step.folder)))
    done["digests"]["config.yaml"] = sha256(step.folder / "config.yaml")
    write_json(step.folder / "done.json", {**done, "fingerprint": step.record["fingerprint"]})
    write_json(
        step.folder / "stage.json",
        {
            **with_digests(step),
            **{key: old.get(key) for key in ("settled", "provenance")},
            "accepted": True,
        },
    )


def put_aside(folder: Path, reporter: Reporter) -> None:
    """Rename a stage's folder to the first free ``<name>.old-<n>``; a link's, where it lives."""
    if not folder.exists():
        return
    if linked := folder.is_symlink():
        folder = folder.resolve()
    number = 1
    while (aside := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    folder.rename(aside)
    if linked:
        make_folder(folder)
    reporter.say(f"{folder.name}: old folder kept as {aside.name}")

"""A sweep on W&B's server: created once, and worked on by an agent here and any others."""

from __future__ import annotations

from pathlib import Path

from gendiff.errors import UserError
from gendiff.pipeline.stages import Pipeline
from gendiff.progress import Reporter
from gendiff.storage import lock, make_folder, read_json, write_json
from gendiff.sweep.file import Sweep
from gendiff.tracking.wandb_run import wandb_mode


def on_server(pipeline: Pipeline) -> bool:
    """Whether a pipeline's runs go to W&B's server: ``logging.wandb: online``, and a key."""
    return any(wandb_mode(stage.run.logging) == "online" for stage in pipeline.stages.values())


def run_agent(
    sweep: Sweep, pipeline: Pipeline, folder: Path, count: int | None, reporter: Reporter
) -> None:
    """Create the sweep unless its folder says that it was, and run an agent here.

    Args:
        folder: of the sweep, which the command names, so that all agents share it.
        count: trials of this agent; None for as many as the server gives.
    """
    try:
        import wandb
    except ImportError:
        raise UserError(
            "logging.wandb: online needs wandb: pip install 'gendiff[wandb]'."
        ) from None
    path = folder / "sweep.json"
    make_folder(folder)
    with lock(folder / ".locks" / "sweep"):
        if path.is_file():
            address = str(read_json(path).get("server") or "")
            if not address:
                raise UserError(f"{path}: of a sweep without a server; choose another --dir.")
        else:
            first = next(iter(pipeline.stages.values()))
            project = sweep.raw.get("project") or first.run.logging.project
            entity = sweep.raw.get("entity")
            here = sweep.within(folder)
            config = {**sweep.raw, "program": here.program, "command": here.command}
            name = wandb.sweep(config, entity=entity, project=project)
            address = "/".join(filter(None, [entity, project, name]))
            write_json(path, {"server": address})
    reporter.say(
        f"more agents, also on other machines that share this folder: wandb agent {address}"
    )
    wandb.agent(address, count=count)

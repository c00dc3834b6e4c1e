"""Where losses go: a CSV always; TensorBoard and W&B by key, imported only then.

Every row carries gendiff's own step, the global batches done, so that rows of a killed run and
of the one that resumes it join without gap or double.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from gendiff.sections import RunConfig
from gendiff.tracking.csv_file import CSVTracker
from gendiff.tracking.wandb_run import WandbTracker, wandb_mode


class Tracker(Protocol):
    def log(self, metrics: dict[str, float], step: int) -> None: ...

    def close(self) -> None:
        """Called at the end, also while an error ends the training."""


class TensorBoardTracker:
    """``tensorboard/`` event files."""

    def __init__(self, folder: Path, resume_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # purge_step hides what a killed run had logged beyond its last checkpoint
        self.writer: Any = SummaryWriter(str(folder), purge_step=resume_step + 1)

    def log(self, metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


def make_trackers(
    folder: Path, run: RunConfig, resume_step: int, say: Callable[[str], None]
) -> list[Tracker]:
    """All that the run's ``logging`` asks for, of a stage whose ``stage.json`` is there."""
    table = CSVTracker(folder / "metrics.csv", resume_step)
    trackers: list[Tracker] = [table]
    if run.logging.tensorboard:
        trackers.append(TensorBoardTracker(folder / "tensorboard", resume_step))
    if run.logging.wandb != "off":
        if run.logging.wandb != wandb_mode(run.logging):
            say("  W&B has no key here: logging offline")
        trackers.append(WandbTracker(folder, run, table.rows, say))
    return trackers

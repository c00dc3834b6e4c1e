"""Where losses go: a CSV always; TensorBoard and W&B by key, imported only then.

Every row carries gendiff's own step, the global batches done, so that rows of a killed run and
of the one that resumes it join without gap or double.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any, Protocol

from gendiff.config import to_plain
from gendiff.sections import LoggingConfig, RunConfig
from gendiff.storage import user_errors, write_text

LINE = 2**16
"""Most characters of a line that are read of a log."""


class Tracker(Protocol):
    def log(self, metrics: dict[str, float], step: int) -> None: ...

    def close(self) -> None: ...


class CSVTracker:
    """``metrics.csv``: a column a metric; rows after the step resumed from are dropped."""

    def __init__(self, path: Path, resume_step: int) -> None:
        self.path, self.rows = path, list[dict[str, Any]]()
        if path.is_file():
            with path.open(newline="", errors="replace") as file:
                for row in csv.DictReader(line[:LINE] for line in file):
                    # a kill can tear the last line: such a row is dropped, and logged again
                    torn = None in row.values() or None in row
                    if torn or not str(row.get("step")).isdecimal():
                        continue
                    if int(row["step"]) <= resume_step:
                        self.rows.append(row)
        self.columns = list(self.rows[0]) if self.rows else []
        self._rewrite()

    def _rewrite(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, restval="")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())

    def log(self, metrics: dict[str, float], step: int) -> None:
        row = {"step": step, **metrics}
        self.rows.append(row)
        if set(row) - set(self.columns):
            self.columns += [name for name in row if name not in self.columns]
            self._rewrite()
            return
        with user_errors(self.path), self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns, restval="").writerow(row)

    def close(self) -> None:
        pass


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


class WandbTracker:
    """One W&B run a stage, all stages of a run folder in one group."""

    def __init__(self, folder: Path, run: RunConfig, parents: dict[str, Any]) -> None:
        import wandb

        mode: Any = wandb_mode(run.logging)
        group, stage = folder.resolve().parent.name, folder.name
        (folder / "wandb").mkdir(exist_ok=True)
        self.run = wandb.init(
            project=run.logging.project,
            group=group,
            name=stage,
            job_type=run.method.name,
            id=stable_id(folder),
            resume="allow" if mode == "online" else None,
            mode=mode,
            dir=folder,
            config={**to_plain(run), "parents": parents},
            settings=wandb.Settings(silent=True),
        )

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.run.log(metrics, step=step)

    def close(self) -> None:
        self.run.finish()


def wandb_mode(logging: LoggingConfig) -> str:
    """``online`` becomes ``offline`` where W&B has no key to use."""
    if logging.wandb != "online" or os.environ.get("WANDB_API_KEY"):
        return logging.wandb
    netrc = Path.home() / ".netrc"
    return "online" if netrc.is_file() and "wandb" in netrc.read_text() else "offline"


def stable_id(folder: Path) -> str:
    """A run id that survives a kill: kept in the stage folder."""
    path = folder / "wandb" / "id"
    if not path.is_file():
        write_text(path, os.urandom(4).hex())
    return path.read_text()


def make_trackers(
    folder: Path, run: RunConfig, parents: dict[str, Any], resume_step: int, say: Any
) -> list[Tracker]:
    """All that the run's ``logging`` asks for."""
    trackers: list[Tracker] = [CSVTracker(folder / "metrics.csv", resume_step)]
    if run.logging.tensorboard:
        trackers.append(TensorBoardTracker(folder / "tensorboard", resume_step))
    if run.logging.wandb != "off":
        if run.logging.wandb == "online" and wandb_mode(run.logging) == "offline":
            say("  W&B has no key here: logging offline")
        trackers.append(WandbTracker(folder, run, parents))
    return trackers

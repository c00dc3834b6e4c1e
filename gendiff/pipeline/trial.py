"""A run that is a trial of a sweep: its folder, its own W&B run, and the figures it is judged by.

W&B's agent, and ``gendiff sweep`` without a server, tell a run that it is a trial by
``WANDB_SWEEP_ID`` and ``WANDB_RUN_ID``. The trial's folder has the name of its id, so that a trial
that was killed and is started again goes on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gendiff.errors import Interrupted, UserError
from gendiff.following import AGENT
from gendiff.pipeline.figures import figures_of
from gendiff.pipeline.stages import Pipeline, Stage
from gendiff.storage import make_folder, write_json
from gendiff.tracking.csv_file import numbers, read_rows
from gendiff.tracking.guarded import Guarded, cut
from gendiff.tracking.sweep import outside_sweep
from gendiff.tracking.wandb_run import WAIT, settings, wandb_mode
from gendiff.train import planned
from gendiff.wandb_files import STEP

SWEEP, RUN = "WANDB_SWEEP_ID", "WANDB_RUN_ID"


@dataclass(frozen=True)
class Trial:
    """Which trial of which sweep this process runs."""

    sweep: str
    name: str
    agent: bool
    """Whether W&B's agent started it, which hears of the objective from W&B alone."""

    def folder(self, pipeline: Pipeline, asked: Path | None) -> Path:
        """The trial's run folder; ``--dir`` names the sweep's."""
        return (asked or Path("runs") / f"{pipeline.name}-{self.sweep}") / self.name


def this_trial() -> Trial | None:
    """The trial that this process runs, if it is one.

    Raises:
        UserError: an id that cannot be the name of a folder.
    """
    sweep, name = os.environ.get(SWEEP), os.environ.get(RUN)
    if not sweep or not name:
        return None
    for variable, value in ((SWEEP, sweep), (RUN, name)):
        if not re.fullmatch(r"[\w-][\w.-]*", value) or value == "shared":
            raise UserError(f"${variable}: {value!r} cannot be the name of a folder.")
    return Trial(sweep, name, AGENT in os.environ)


class TrialLog(Guarded):
    """What a trial tells W&B while it runs, and ``trial.json`` when it is done.

    Stages follow one another on one axis of steps, each with as many as it is planned for and one
    more for its figures: the same step means the same thing however often the trial was killed.

    W&B failing ends no trial: it is said in a line.
    """

    def __init__(
        self, trial: Trial, pipeline: Pipeline, folder: Path, run: Any, say: Callable[[str], None]
    ) -> None:
        super().__init__(run, say)
        self.trial, self.pipeline, self.folder = trial, pipeline, folder
        self.held = self.held_of(folder / "wandb")
        self.begins, total = dict[str, int](), 0
        for name, stage in pipeline.stages.items():
            self.begins[name] = total
            total += planned(stage.run) + 1

    def stage(self, name: str) -> StageLog:
        """Takes the losses of a stage."""
        return StageLog(self, name)

    def log(self, figures: dict[str, float], step: int) -> None:
        """Figures by full name, into the trial's W&B run if there is one."""
        if figures and step > self.held:
            self.send(lambda run: run.log({STEP: step, **figures}, step=step))

    def evaluated(self, stage: Stage) -> None:
        """The stage is done and evaluated."""
        found = figures_of(stage, self.folder / stage.name)  # its last losses too, if shared
        last = self.begins[stage.name] + planned(stage.run) + 1
        self.log(found, last)

    def record(self) -> None:
        """Write ``trial.json``: the figures of all stages."""
        figures: dict[str, float] = {}
        for stage in self.pipeline.stages.values():
            figures |= figures_of(stage, self.folder / stage.name)
        what = {"sweep": self.trial.sweep, "trial": self.trial.name, "figures": figures}
        write_json(self.folder / "trial.json", what)


class StageLog:
    """A `gendiff.tracking.Tracker` that writes into the trial's W&B run.

    What W&B lacks of the rows before the first, as after a kill, comes from ``metrics.csv``.
    """

    def __init__(self, log: TrialLog, stage: str) -> None:
        self.trial, self.name, self.filled = log, stage, log.run is None

    def log(self, metrics: dict[str, float], step: int) -> None:
        if not self.filled:
            self.filled = True
            for row in read_rows(self.trial.folder / self.name / "metrics.csv", step - 1):
                self.log(numbers(row), int(row[STEP]))
        named = {f"{self.name}/{key}": value for key, value in metrics.items()}
        self.trial.log(named, self.trial.begins[self.name] + step)

    def close(self) -> None:
        pass


@contextmanager
def trial_log(
    trial: Trial, pipeline: Pipeline, folder: Path, first: bool, say: Callable[[str], None]
) -> Iterator[TrialLog]:
    """The log of a trial for as long as it runs; its W&B run ends with the trial's exit code.

    Args:
        first: this is the rank that speaks.
        say: prints a line.
    """
    run = open_run(trial, pipeline, folder) if first else None
    log = TrialLog(trial, pipeline, folder, run, say)
    code = 1
    try:
        yield log
        code = 0
    except UserError:
        code = 2
        raise
    except (Interrupted, KeyboardInterrupt):
        code = 75
        raise
    finally:
        log.send(lambda run: run.finish(exit_code=code))


def open_run(trial: Trial, pipeline: Pipeline, folder: Path) -> Any:
    """The trial's W&B run, under the trial's id: always of an agent, else as logging asks.

    A trial without a server is no part of a sweep that W&B knows of: its run is in a group.
    """
    loggings = [stage.run.logging for stage in pipeline.stages.values()]
    modes = [wandb_mode(logging) for logging in loggings]
    mode = next((m for m in ("online", "offline") if m in modes), "online" if trial.agent else "")
    if not mode:
        return None
    import wandb

    make_folder(folder / "wandb")
    said: dict[str, Any] = {"id": trial.name, "mode": mode, "dir": folder, "job_type": "trial"}
    said |= {"resume": "allow" if mode == "online" else None, "reinit": "create_new"}
    said["settings"] = wandb.Settings(**settings(WAIT))
    try:
        if trial.agent:
            run = wandb.init(**said)
        else:
            said |= {"project": loggings[0].project, "group": trial.sweep, "name": trial.name}
            with outside_sweep():
                run = wandb.init(**said)
        run.define_metric(STEP, hidden=True)
        run.define_metric("*", step_metric=STEP, step_sync=False)
    except Exception as error:  # W&B's and its libraries', of any kind
        raise UserError(f"W&B: {cut(error)}: the trial cannot tell its figures.") from None
    return run

"""A sweep's record, ``sweep.json``: which trials there are, and how far each has come."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from gendiff.errors import UserError
from gendiff.pipeline.fingerprint import changes
from gendiff.storage import read_json, write_json
from gendiff.sweep.file import MATTERS, Sweep
from gendiff.sweep.propose import Seen

Ending = Literal["begun", "done", "stopped", "failed"]


@dataclass
class TrialState:
    """One trial."""

    name: str
    """Its id, and its folder's name."""
    values: dict[str, Any]
    """By parameter."""
    places: dict[str, float]
    """Where in their distributions the values are."""
    state: Ending = "begun"
    code: int | None = None
    """Its exit code, if it failed."""
    bracket: int | None = None
    """Logged values after which it was stopped."""
    loss: float | None = None
    """Where it was stopped, of what trials are compared by; smaller is better."""


@dataclass
class State:
    """A sweep's record, kept in its folder."""

    path: Path
    what: dict[str, Any]
    trials: list[TrialState] = field(default_factory=list)

    def save(self) -> None:
        """Write it, whole or not at all."""
        write_json(self.path, {**self.what, "trials": [asdict(trial) for trial in self.trials]})

    @property
    def succeeded(self) -> bool:
        """Whether any trial has come to its end."""
        return any(trial.state == "done" for trial in self.trials)

    def figures(self, trial: TrialState) -> dict[str, float]:
        """What a trial's ``trial.json`` says; empty before it is done."""
        path = self.path.parent / trial.name / "trial.json"
        return dict(read_json(path)["figures"]) if path.is_file() else {}

    def objective(self, trial: TrialState, metric: str | None) -> float | None:
        """The metric of a trial that is done."""
        return self.figures(trial).get(metric or "") if trial.state == "done" else None

    def seen(self, sweep: Sweep) -> list[Seen]:
        """The trials that are over, as a search sees them."""
        found = []
        for trial in self.trials:
            objective = self.objective(trial, sweep.metric)
            if objective is not None:
                found.append(Seen(trial.places, sweep.sign * objective))
            elif trial.state == "stopped" and trial.loss is not None:
                found.append(Seen(trial.places, trial.loss, trial.bracket))
        return found

    def add(self, values: dict[str, Any], places: dict[str, float]) -> TrialState:
        """A trial with an id of its own, kept before it begins."""
        name = f"{len(self.trials) + 1:03d}-{os.urandom(3).hex()}"
        self.trials.append(TrialState(name, values, places))
        self.save()
        return self.trials[-1]


def open_state(sweep: Sweep, folder: Path, seed: int) -> State:
    """The record in a sweep's folder, or a new one.

    Raises:
        UserError: the folder is of a sweep over something else.
    """
    asked = json.loads(json.dumps({key: sweep.raw.get(key) for key in MATTERS}))
    what = {"sweep": asked, "seed": seed}
    path = folder / "sweep.json"
    if not path.is_file():
        return State(path, what)
    old = read_json(path)
    try:
        trials = [TrialState(**trial) for trial in old["trials"]]
        before = {key: old[key] for key in what}
    except (KeyError, TypeError):
        raise UserError(f"{path}: not what gendiff wrote.") from None
    if before != what:
        lines = "; ".join(changes(before, what))
        raise UserError(f"{path}: of another sweep: {lines}. Choose another --dir.")
    return State(path, what, trials)

"""A sweep file, in W&B's own format, checked before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gendiff.errors import UserError, did_you_mean
from gendiff.pipeline.stages import Pipeline
from gendiff.report.figures import OTHERS, QUALITY
from gendiff.sweep.command import ARGS, args_no_hyphens, fill, read_command
from gendiff.sweep.hyperband import Hyperband, read_hyperband
from gendiff.sweep.parameters import Parameter
from gendiff.sweep.reading import read_parameters
from gendiff.yaml_files import check_public, load_yaml

METHODS = ("grid", "random", "bayes")
KEYS = [
    *("method", "metric", "parameters", "early_terminate", "command", "program", "run_cap"),
    *("name", "description", "project", "entity"),
]
MATTERS = ("method", "parameters", "command", "program")
"""Keys that may not change while a sweep is under way."""


@dataclass(frozen=True)
class Sweep:
    """What a sweep file asks for."""

    path: Path
    raw: dict[str, Any]
    method: str
    parameters: list[Parameter]
    command: list[str]
    metric: str | None
    sign: int
    """1 for a metric to minimize, -1 for one to maximize."""
    hyperband: Hyperband | None

    @property
    def program(self) -> str:
        return str(self.raw.get("program", "gendiff"))

    @property
    def run_cap(self) -> int | None:
        """Most trials."""
        return self.raw.get("run_cap")

    def args(self, values: dict[str, Any]) -> list[str]:
        """The words of a trial's parameters: those of nested ones as one mapping."""
        nested: dict[str, Any] = {}
        for parameter in self.parameters:
            *outer, last = parameter.path
            inner = nested
            for key in outer:
                inner = inner.setdefault(key, {})
            inner[last] = values[parameter.name]
        return args_no_hyphens(nested)

    def line(self, values: dict[str, Any]) -> list[str]:
        """A trial's command line, as W&B's agent issues it."""
        return fill(self.command, self.program, self.args(values))

    def fixed(self) -> list[str]:
        """The same without the parameters."""
        return fill(self.command, self.program, [])

    def within(self, folder: Path | None) -> Sweep:
        """The sweep with a command that names its folder, so that all agents share it."""
        if folder is None or "--dir" in self.command:
            return self
        place = self.command.index(ARGS)
        command = [*self.command[:place], "--dir", str(folder), *self.command[place:]]
        return replace(self, command=command)


def read_sweep(path: Path) -> Sweep:
    """
    Raises:
        UserError: one line with the key, for all that is wrong but for the pipeline's own keys.
    """
    raw = load_yaml(path)
    try:
        for key in raw:
            check_public(str(raw[key]), str(key))
            if key not in KEYS:
                raise UserError(f"{key}: unknown key.{did_you_mean(str(key), KEYS)}")
        method = raw.get("method")
        if method not in METHODS:
            raise UserError(f"method: {method!r}.{did_you_mean(str(method), METHODS)}")
        command, parameters = read_command(raw), read_parameters(raw.get("parameters"))
        metric = raw.get("metric")
        name, sign = read_metric(metric) if metric is not None else (None, 1)
        stopping = raw.get("early_terminate")
        if not name and (method == "bayes" or stopping):
            raise UserError("metric: missing; bayes and early_terminate go by it.")
        cap = raw.get("run_cap")
        if cap is not None and (not isinstance(cap, int) or cap < 1):
            raise UserError(f"run_cap: {cap!r} must be a number of trials.")
        if method == "grid":
            for parameter in parameters:
                _ = parameter.grid
        hyperband = read_hyperband(stopping) if stopping else None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return Sweep(path, raw, str(method), parameters, command, name, sign, hyperband)


def read_metric(raw: Any) -> tuple[str, int]:
    """Name, and 1 or -1 for minimize or maximize, as W&B does without a goal."""
    name = raw.get("name") if isinstance(raw, dict) else None
    if not isinstance(name, str) or not all(name.partition("/")):
        raise UserError(f"metric.name: {name!r} must be STAGE/FIGURE, e.g. student/loss.")
    goal = raw.get("goal", "minimize")
    goals = {"minimize": 1, "maximize": -1}
    if goal not in goals:
        raise UserError(f"metric.goal: {goal!r}.{did_you_mean(str(goal), goals)}")
    return name, goals[goal]


def check_metric(sweep: Sweep, pipeline: Pipeline) -> None:
    """
    Raises:
        UserError: the metric is of no stage, or of no point that is evaluated.
    """
    if not sweep.metric:
        return
    name, _, figure = sweep.metric.partition("/")
    where = f"{sweep.path}: metric.name: {sweep.metric}"
    if name not in pipeline.stages:
        raise UserError(f"{where}: no stage {name!r}.{did_you_mean(name, pipeline.stages)}")
    run = pipeline.stages[name].run
    figure, at, steps = figure.partition("@")
    known = {*QUALITY, *OTHERS}
    near = did_you_mean(figure, known)
    if figure not in known and "mean" in near:
        raise UserError(f"{where}: no such figure.{near}")
    evaluated = run.evaluation.steps
    if at and steps not in map(str, evaluated):
        raise UserError(f"{where}: evaluation.steps of {name} are {evaluated}.")
    if figure in known and not evaluated and not run.method_class.extracts:
        raise UserError(f"{where}: {name} is not evaluated; evaluation.steps is empty.")

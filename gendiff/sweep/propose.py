"""What a sweep's next trial tries, as a function of its number and of what came before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gendiff.errors import UserError
from gendiff.seeding import key
from gendiff.sweep.file import Sweep

STARTUP = 5
"""Trials drawn at random before Bayesian search goes by their results."""


@dataclass(frozen=True)
class Seen:
    """A trial that is over, as Bayesian search sees it."""

    places: dict[str, float]
    """Where in its distribution, or which of its values, each parameter was."""
    loss: float
    """Smaller is better."""
    stopped: int | None = None
    """The bracket at which it was stopped; None for a finished one."""


def trials_of(sweep: Sweep) -> int | None:
    """How many trials there can be; None without end."""
    if sweep.method != "grid":
        return None
    return math.prod(len(parameter.grid) for parameter in sweep.parameters)


def propose(
    sweep: Sweep, number: int, seed: int, seen: Sequence[Seen]
) -> tuple[dict[str, Any], dict[str, float]]:
    """Values of all parameters for a trial, and their places.

    Args:
        number: of the trial, from 0; a grid runs through the last parameter fastest.
    """
    values, places = dict[str, Any](), dict[str, float]()
    if sweep.method == "grid":
        for parameter in reversed(sweep.parameters):
            number, which = divmod(number, len(parameter.grid))
            values[parameter.name] = parameter.grid[which]
        return {p.name: values[p.name] for p in sweep.parameters}, {}
    if sweep.method == "bayes" and len(seen) >= STARTUP:
        places = bayes(sweep, number, seed, seen)
    for parameter in sweep.parameters:
        name = parameter.name
        place = places.setdefault(name, uniform(seed, number, name))
        values[name] = parameter.at(place)
    return values, places


def uniform(seed: int, number: int, name: str) -> float:
    """A number between 0 and 1, the same for the same words on every machine."""
    return (key("sweep", seed, number, name) + 0.5) / 2**63


def bayes(sweep: Sweep, number: int, seed: int, seen: Sequence[Seen]) -> dict[str, float]:
    """Places that a tree of Parzen estimators expects most of (Bergstra et al., NeurIPS 2011)."""
    optuna = need_optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        seed=key("sweep", seed, number) % 2**32, n_startup_trials=0, multivariate=False
    )
    study = optuna.create_study(sampler=sampler)
    continuous = optuna.distributions.FloatDistribution(1e-9, 1 - 1e-9)
    free = [p for p in sweep.parameters if p.kind != "constant"]
    space: dict[str, Any] = {}
    for parameter in free:
        space[parameter.name] = continuous
        if parameter.listed:
            many = list(range(len(parameter.values)))
            space[parameter.name] = optuna.distributions.CategoricalDistribution(many)
    for trial in seen:
        found = {p.name: place_of(p, trial.places[p.name]) for p in free}
        said: dict[str, Any] = {"params": found, "distributions": space}
        if trial.stopped is None:
            said["value"] = trial.loss
        else:
            said["state"] = optuna.trial.TrialState.PRUNED
            said["intermediate_values"] = {trial.stopped: trial.loss}
        study.add_trial(optuna.trial.create_trial(**said))
    asked = study.ask(space).params
    return {p.name: middle(p, asked[p.name]) for p in free}


def place_of(parameter: Any, place: float) -> Any:
    """A place as optuna is told it: of listed values the number."""
    if not parameter.listed:
        return min(max(place, 1e-9), 1 - 1e-9)
    return parameter.values.index(parameter.at(place))


def middle(parameter: Any, asked: Any) -> float:
    """A place that stands for what optuna asks for."""
    if not parameter.listed:
        return float(asked)
    shares = parameter.shares or (1 / len(parameter.values),) * len(parameter.values)
    return sum(shares[:asked]) + shares[asked] / 2


def need_optuna() -> Any:
    """
    Raises:
        UserError: optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        what = "method: bayes without a server needs optuna: pip install 'gendiff[sweep]'."
        raise UserError(what) from None
    return optuna

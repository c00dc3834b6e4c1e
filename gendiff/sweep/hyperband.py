"""Stopping early, by W&B's rule: at each bracket only the better trials go on.

Li et al., "Hyperband", JMLR 2018, as W&B runs it: brackets are at ``min_iter * eta**k``, or at
``max_iter / eta**k`` for k = 1..s, counted in logged values of the metric. A trial that has reached
a bracket is stopped if its best value up to there (``strict``: its value there) is worse than the
value at place ``int(n / eta)``, from 0, of the n trials that have reached it, best first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gendiff.errors import UserError, did_you_mean

KEYS = ("type", "min_iter", "max_iter", "s", "eta", "strict")
LAST = 100
"""Brackets at most."""


@dataclass(frozen=True)
class Hyperband:
    """When trials are compared, and how many go on."""

    brackets: tuple[int, ...]
    """In logged values, ascending."""
    eta: float
    strict: bool = False

    def stops(self, mine: list[float], others: list[list[float]]) -> int | None:
        """The bracket at which a trial falls behind; None if it goes on.

        Args:
            mine: its values so far, smaller is better.
            others: of all other trials.
        """
        reached = [bracket for bracket in self.brackets if bracket <= len(mine)]
        if not reached:
            return None
        place = reached[-1]
        values = [self._value(v, place) for v in (mine, *others) if len(v) >= place]
        limit = sorted(values)[int(len(values) / self.eta)]
        return place if values[0] > limit else None

    def _value(self, values: list[float], place: int) -> float:
        return values[place - 1] if self.strict else min(values[:place])


def read_hyperband(raw: Any) -> Hyperband:
    """
    Raises:
        UserError: one line with the key.
    """
    if not isinstance(raw, dict) or raw.get("type") != "hyperband":
        raise UserError("early_terminate.type: must be hyperband.")
    for key in raw:
        if key not in KEYS:
            hint = did_you_mean(str(key), KEYS)
            raise UserError(f"early_terminate.{key}: unknown key.{hint}")
    eta = raw.get("eta", 3)
    if not isinstance(eta, int | float) or eta <= 1:
        raise UserError(f"early_terminate.eta: {eta!r} must be above 1.")
    for key in ("min_iter", "max_iter", "s"):
        value = raw.get(key)
        if value is not None and (not isinstance(value, int) or value < 1):
            raise UserError(f"early_terminate.{key}: {value!r} must be 1 or more.")
    if "min_iter" in raw:
        places = [raw["min_iter"] * eta**k for k in range(LAST)]
    elif "max_iter" in raw and "s" in raw:
        places = [raw["max_iter"] / eta**k for k in range(1, raw["s"] + 1)]
    else:
        raise UserError("early_terminate: needs min_iter, or max_iter and s.")
    brackets = sorted({int(place) for place in places if place >= 1})
    return Hyperband(tuple(brackets), float(eta), bool(raw.get("strict", False)))

"""What a sweep's parameter may be, in W&B's words, as a function of a number between 0 and 1.

A continuous distribution is its inverse distribution function, so that random search draws uniform
numbers and Bayesian search looks for the best of them, whatever the distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from gendiff.errors import UserError


def _same(x: float) -> float:
    return x


def _inverse(x: float) -> float:
    return math.exp(-x)


RANGES: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "uniform": (_same, _same),
    "log_uniform": (_same, math.exp),
    "log_uniform_values": (math.log, math.exp),
    "inv_log_uniform": (_same, _inverse),
    "inv_log_uniform_values": (math.log, math.exp),
}
"""What is uniform between which bounds, and the value that it stands for."""
NORMALS = ("normal", "log_normal")
LISTS = ("constant", "categorical", "categorical_w_probabilities")
KINDS = [*LISTS, "int_uniform", *RANGES, *NORMALS, "beta"]
KINDS += [
    "q_uniform",
    "q_log_uniform",
    "q_log_uniform_values",
    "q_normal",
    "q_log_normal",
    "q_beta",
]
MOST = 1000
"""Values that a quantized range may have to be laid out as a grid."""


@dataclass(frozen=True)
class Parameter:
    """One key of a pipeline and what it may be."""

    path: tuple[str, ...]
    """Its key, after those of the parameters it is nested in."""
    kind: str
    """A distribution of W&B's."""
    values: tuple[Any, ...] = ()
    shares: tuple[float, ...] = ()
    """How often each value is drawn; all alike if empty."""
    low: float = 0.0
    high: float = 1.0
    mu: float = 0.0
    sigma: float = 1.0
    q: float = 1.0

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def listed(self) -> bool:
        """Whether it is one of some values, without order."""
        return self.kind in LISTS

    @property
    def logarithmic(self) -> bool:
        return "log" in self.kind

    @property
    def grid(self) -> tuple[Any, ...]:
        """All values, for a grid.

        Raises:
            UserError: there is no end of them.
        """
        if self.listed:
            return self.values
        if self.kind == "int_uniform":
            return tuple(range(int(self.low), int(self.high) + 1))
        if self.kind == "q_uniform" and (self.high - self.low) / self.q <= MOST:
            first, last = math.ceil(self.low / self.q), math.floor(self.high / self.q)
            return tuple(number * self.q for number in range(first, last + 1))
        raise UserError(f"parameters.{self.name}: a grid takes values, or whole min and max.")

    def at(self, u: float) -> Any:
        """The value that a share ``u`` of all draws lies below, 0 < u < 1."""
        if self.listed:
            total = 0.0
            for value, share in zip(self.values, self.shares, strict=False):
                total += share
                if u < total:
                    return value
            last = len(self.values) - 1
            return self.values[last if self.shares else min(int(u * len(self.values)), last)]
        if self.kind == "int_uniform":
            return min(int(self.low + u * (self.high - self.low + 1)), int(self.high))
        plain = self.kind.removeprefix("q_")
        value = self._continuous(plain, u)
        return round(value / self.q) * self.q if plain != self.kind else value

    def _continuous(self, kind: str, u: float) -> float:
        if kind in RANGES:
            into, out = RANGES[kind]
            low, high = into(self.low), into(self.high)
            return out(low + u * (high - low))
        if kind == "beta":
            from scipy.stats import beta

            return float(beta.ppf(u, self.low, self.high))
        value = NormalDist(self.mu, self.sigma).inv_cdf(u)
        return math.exp(value) if kind == "log_normal" else value

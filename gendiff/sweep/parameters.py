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

from gendiff.errors import UserError, did_you_mean


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
KEYS = [
    *("value", "values", "probabilities", "distribution", "parameters"),
    *("min", "max", "mu", "sigma", "q", "a", "b"),
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


def read_parameters(
    raw: Any, where: str = "parameters", path: tuple[str, ...] = ()
) -> list[Parameter]:
    """All parameters, those nested in others with dotted names.

    Raises:
        UserError: what W&B would refuse, with the key.
    """
    if not isinstance(raw, dict) or not raw:
        raise UserError(f"{where}: must map each key of the pipeline to its values.")
    found: list[Parameter] = []
    for name, given in raw.items():
        here = f"{where}.{name}"
        if not isinstance(given, dict) or not given:
            raise UserError(f"{here}: needs value, values, or min and max.")
        odd = next((key for key in given if key not in KEYS), None)
        if odd is not None:
            raise UserError(f"{here}.{odd}: unknown key.{did_you_mean(str(odd), KEYS)}")
        if "parameters" in given:
            inner = f"{here}.parameters"
            found += read_parameters(given["parameters"], inner, (*path, str(name)))
        else:
            found.append(read_parameter((*path, str(name)), given, here))
    return found


def read_parameter(path: tuple[str, ...], given: dict[str, Any], where: str) -> Parameter:
    """One parameter; what W&B takes for granted is filled in.

    Raises:
        UserError: a distribution that there is not, or numbers that it cannot have.
    """
    kind = given.get("distribution") or implied(given, where)
    if kind not in KINDS:
        raise UserError(f"{where}.distribution: {kind!r}.{did_you_mean(str(kind), KINDS)}")
    if kind in LISTS:
        values = [given["value"]] if "value" in given else given.get("values")
        if not isinstance(values, list) or not values:
            raise UserError(f"{where}.values: must be a list of values.")
        if any(isinstance(v, float) and not math.isfinite(v) for v in values):
            raise UserError(f"{where}: a number that is not finite; write it as a word, 'inf'.")
        shares = given.get("probabilities") or []
        if shares and (
            len(shares) != len(values) or not math.isclose(sum(shares), 1, abs_tol=1e-6)
        ):
            raise UserError(f"{where}.probabilities: must be one a value, and sum to 1.")
        return Parameter(path, kind, tuple(values), tuple(shares))
    plain = kind.removeprefix("q_")
    numbers = {
        key: number(given, key, f"{where}.{key}") for key in ("min", "max", "mu", "sigma", "q")
    }
    low, high, mu, sigma, q = numbers.values()
    if plain == "beta":
        low, high = number(given, "a", f"{where}.a"), number(given, "b", f"{where}.b")
        if not (low and high and min(low, high) > 0):
            raise UserError(f"{where}: beta needs a and b above 0.")
    elif plain not in NORMALS:
        if low is None or high is None or low >= high:
            raise UserError(f"{where}: needs min and max, min the smaller.")
        if plain.endswith("_values") and low <= 0:
            raise UserError(f"{where}.min: {low:g} has no logarithm.")
        if plain == "int_uniform" and not (isinstance(low, int) and isinstance(high, int)):
            raise UserError(f"{where}: int_uniform needs whole min and max.")
    low, high, mu = (0.0 if n is None else n for n in (low, high, mu))
    sigma, q = (1.0 if n is None else n for n in (sigma, q))
    if sigma <= 0 or q <= 0:
        raise UserError(f"{where}: sigma and q must be above 0.")
    return Parameter(path, kind, low=low, high=high, mu=mu, sigma=sigma, q=q)


def implied(given: dict[str, Any], where: str) -> str:
    """The distribution that the other keys imply."""
    if "value" in given:
        return "constant"
    if "values" in given:
        return "categorical"
    if "min" in given and "max" in given:
        whole = isinstance(given["min"], int) and isinstance(given["max"], int)
        return "int_uniform" if whole else "uniform"
    raise UserError(f"{where}: needs value, values, or min and max.")


def number(given: dict[str, Any], key: str, where: str) -> Any:
    """A number of a parameter, None where it is not given."""
    value = given.get(key)
    usual = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if value is None or usual:
        return value
    raise UserError(f"{where}: {value!r} must be a number.")

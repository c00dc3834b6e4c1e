"""A sweep file's ``parameters``, read as W&B reads them, and refused in a line with the key."""

from __future__ import annotations

import math
from typing import Any

from gendiff.errors import UserError, did_you_mean
from gendiff.sweep.parameters import KINDS, LISTS, NORMALS, Parameter

KEYS = [
    *("value", "values", "probabilities", "distribution", "parameters"),
    *("min", "max", "mu", "sigma", "q", "a", "b"),
]


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

"""Which point is best, which distance says so, and how many digits it is written with."""

import math
import random
import sys

import pytest

from gendiff.report.figures import finite, main_distance, number, pareto_front

NAN = float("nan")


def pair(nfe, distance):
    return {"nfe": nfe, "d": distance}


@pytest.mark.parametrize(
    ("pairs", "front"),
    [
        ([(1, 5.0)], [(1, 5.0)]),
        ([(4, 1.0), (1, 5.0), (2, 3.0)], [(1, 5.0), (2, 3.0), (4, 1.0)]),
        ([(1, 5.0), (2, 5.0)], [(1, 5.0)]),  # as good for more
        ([(1, 5.0), (1, 4.0)], [(1, 4.0)]),  # better for as much
        ([(1, 5.0), (1, 5.0), (2, 6.0)], [(1, 5.0), (1, 5.0)]),  # equals stay
        ([(1, NAN), (2, 3.0), (3, math.inf)], [(2, 3.0)]),
        ([], []),
    ],
)
def test_pareto_front(pairs, front):
    entries = [pair(*values) for values in pairs]
    found = pareto_front([*entries, {"nfe": 0}, {"nfe": 0, "d": None}], "d")
    assert [(entry["nfe"], entry["d"]) for entry in found] == front


def test_pareto_front_is_what_its_definition_says():
    numbers = random.Random(0)
    for _ in range(30):
        entries = [pair(numbers.randint(1, 6), numbers.randint(1, 8)) for _ in range(12)]

        def beaten(e, others=entries):
            return any(
                o["nfe"] <= e["nfe"]
                and o["d"] <= e["d"]
                and (o["nfe"], o["d"]) != (e["nfe"], e["d"])
                for o in others
            )

        kept = {id(entry) for entry in entries if not beaten(entry)}
        assert {id(entry) for entry in pareto_front(entries, "d")} == kept


@pytest.mark.parametrize(
    ("entries", "name"),
    [
        ([{"frechet_distance": 1.0}], "frechet_distance"),
        ([{"frechet_distance": 1.0, "sliced_wasserstein2": 2.0}], "sliced_wasserstein2"),
        ([{"sliced_wasserstein2": 2.0, "wasserstein2": 2.0}], "wasserstein2"),
        ([{"frechet_distance": 1.0}] * 2 + [{"wasserstein2": 2.0}], "frechet_distance"),
        ([{"frechet_distance": 1.0, "wasserstein2": NAN}], "frechet_distance"),
        ([{"precision": 1.0}], None),
    ],
)
def test_main_distance(entries, name):
    assert main_distance(entries) == name


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (12.3456, 1.26, "12.3 ± 1.3"),
        (12.3456, 0.5, "12.35 ± 0.50"),
        (12.3456, 0.0996, "12.35 ± 0.10"),  # rounds up to another digit
        (0.00123456, 0.000456, "0.00123 ± 0.00046"),
        (12345.6, 678.0, "12350 ± 680"),
        (-0.04, 1.2, "0.0 ± 1.2"),
        (-2.76, 0.56, "-2.76 ± 0.56"),
        (67.243638, 1e-17, "67.2436 ± 0.0000"),
        (25.0, 0.0, "25 ± 0"),
        (3.14159, None, "3.142"),
        (3.14159, NAN, "3.142"),
        (3721.84, None, "3722"),
        (123456.7, None, "123457"),
        (24.0, None, "24"),
        (0.0, None, "0"),
        (NAN, 1.0, ""),
        (None, 1.0, ""),
    ],
)
def test_digits_are_those_of_the_interval(value, half, text):
    entry = {"frechet_distance": value}
    if half is not None:
        entry["frechet_distance_interval"] = half
    assert number(entry, "frechet_distance") == text


def test_shares_are_in_per_cent():
    assert number({"recall": 0.70123, "recall_interval": 0.0204}, "recall") == "70.1 ± 2.0"
    assert number({"density": 0.70123, "density_interval": 0.0204}, "density") == "0.701 ± 0.020"


def test_missing_figure_is_blank():
    assert number({}, "recall") == ""


def test_what_is_finite():
    most = sys.float_info.max
    good = {"a": 0, "b": -most, "c": 1.5, "3": 2}
    bad = {"d": math.nan, "e": -math.inf, "f": 10**400, "g": True, "h": None, "i": "1", "j": [1]}
    assert finite({**good, **bad}) == good
    assert finite({3: 1}) == {"3": 1}

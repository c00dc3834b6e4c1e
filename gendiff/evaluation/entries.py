"""``evaluation.json``: a list of evaluated points, each saying what it was computed from."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

from gendiff import registry
from gendiff.build import check_done, run_folder_of
from gendiff.errors import UserError
from gendiff.evaluation.points import Point
from gendiff.evaluation.reference import describe, digest_of
from gendiff.sections import RunConfig
from gendiff.storage import read_json, sealed, unsealed, write_json

Entry = dict[str, Any]
KEYS = {*("role", "sampler", "steps", "guidance"), *("weights", "reference", "metrics", "each")}
"""What tells which point an entry is of, and what it was computed from."""


def points_of(run: RunConfig) -> list[Point]:
    """All points that a run's ``evaluation`` asks for and its training covers."""
    cls, asked = run.method_class, run.evaluation
    low, high = cls.steps_range(run.method) or (1, max(asked.steps, default=1))
    return [
        Point(role, sampler, steps, weight)
        for role, sampler, weight, steps in product(
            asked.roles or [cls.speaker],
            asked.samplers or cls.samplers[:1],
            asked.guidance,
            asked.steps,
        )
        if low <= steps <= high
    ]


def metrics_of(run: RunConfig) -> list[str]:
    """Names of the metrics that a run's ``evaluation`` asks for; by default all."""
    return list(run.evaluation.metrics or registry.names("metrics"))


def read_entries(path: Path) -> list[Entry]:
    """The entries of an ``evaluation.json``, less those changed since; empty if there is none.

    Raises:
        UserError: the file is damaged.
    """
    entries = read_json(path) if path.is_file() else []
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise UserError(f"{path}: damaged, not a list of evaluated points. Remove it to redo them.")
    return [whole for entry in entries if (whole := unsealed(entry)) is not None]


def write_entries(path: Path, entries: list[Entry]) -> None:
    """Write the entries, each with its seal."""
    write_json(path, [sealed(entry) for entry in entries])


def place(entry: Entry) -> Point:
    """Which point an entry is of."""
    return Point(entry["role"], entry["sampler"], entry["steps"], entry["guidance"])


class Marks:
    """What entries must have been computed from to be shown: these weights, this reference."""

    def __init__(self, folder: Path, run: RunConfig) -> None:
        self.digests = check_done(folder)["digests"]
        self.metrics = metrics_of(run)
        self.reference = digest_of(describe(run, run_folder_of(folder)))

    def of(self, point: Point) -> Entry:
        """The marks of a new entry of the point."""
        return {
            "weights": self._weights(point),
            "reference": self.reference,
            "metrics": self.metrics,
        }

    def current(self, entries: list[Entry]) -> dict[Point, Entry]:
        """Entries that bear them, by point; figures of anything else are never shown."""
        return {
            place(entry): entry
            for entry in entries
            if self._true(entry)
            and entry["reference"] == self.reference
            and set(self.metrics) <= set(entry["metrics"])
        }

    def kept(self, entries: list[Entry], point: Point) -> list[Entry]:
        """Entries that stay beside a new one of the point: of other points or references."""
        return [
            entry
            for entry in entries
            if self._true(entry) and (place(entry) != point or entry["reference"] != self.reference)
        ]

    def _true(self, entry: Entry) -> bool:
        """Whether an entry is whole, and of the weights as they are now."""
        whole = set(entry) >= KEYS
        return whole and entry["weights"] == self._weights(place(entry))

    def _weights(self, point: Point) -> str | None:
        return self.digests.get(f"weights/{point.role}.safetensors")

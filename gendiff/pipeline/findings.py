"""What one stage's folder holds, whatever has become of it."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gendiff.build import check_done, check_file
from gendiff.config import compose
from gendiff.errors import UserError
from gendiff.lineage import Node, node_of, roles_of, short
from gendiff.pipeline.fingerprint import differences, flatten
from gendiff.report.figures import finite, is_finite
from gendiff.report.views import Change, Curve, StageView
from gendiff.sections import RunConfig
from gendiff.storage import known_sha256, lock_of, locked, read_json
from gendiff.tracking.csv_file import numbers, read_rows
from gendiff.train import planned
from gendiff.yaml_files import read_yaml

LARGEST = 2**26
"""Bytes of a log or a list of figures; what is larger is named, not read."""
MOST = 1e15
"""Size of the numbers that are drawn."""


class Found:
    """A stage's folder, looked at once.

    Attributes:
        why: lines on what is wrong or missing.
        damaged: whether something in it is not as it was written.
        node: its record and its parents; None if they cannot be read.
        run: its config; None if that cannot be read.
        sampling: seconds of drawing the samples that were measured.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, folder.name
        self.why: list[str] = []
        self.damaged = False
        self.node: Node | None = None
        self.run: RunConfig | None = None
        self.sampling: float | None = None
        self.raw: dict[str, Any] = {}
        self.done: dict[str, Any] = {}
        self.record: dict[str, Any] = {}
        begun = (folder / "stage.json").is_file()
        if begun or (folder / "done.json").exists():
            self._look(self._read_record)
        if begun or (folder / "config.yaml").exists():
            self._look(self._read_config)

    @property
    def place(self) -> int:
        """In its pipeline, from 0; 0 where that is not recorded."""
        place = self.record.get("place")
        return place if isinstance(place, int) else 0

    def _look(self, what: Any) -> None:
        try:
            what()
        except UserError as error:
            self.damaged = True
            self.why.append(self.within(error))

    def _read_record(self) -> None:
        record = read_json(self.folder / "stage.json")
        done = check_done(self.folder) if (self.folder / "done.json").is_file() else None
        self.node, self.record = node_of(self.folder, self.name, record, done), record
        if done is None:
            return
        self.done = done
        if self.done.get("fingerprint") != self.node.fingerprint:
            raise UserError("done.json is of another run")
        for file in self.done["digests"]:
            check_file(self.folder, file, self.done, known_sha256)

    def _read_config(self) -> None:
        self.raw = read_yaml(self.folder / "config.yaml")
        try:
            self.run = compose(self.raw, "config.yaml")
        except UserError as error:  # of another version, say; nothing is known to be damaged
            self.why.append(self.within(error))

    def within(self, error: UserError) -> str:
        """A message without the folder's own place on this machine."""
        text = str(error).replace(f"{self.folder}/", "").replace(f"{self.folder.parent}/", "")
        return text.rstrip(".")

    def check_size(self, file: str) -> None:
        """
        Raises:
            UserError: a file is larger than is read.
        """
        path = self.folder / file
        if path.is_file() and path.stat().st_size > LARGEST:
            raise UserError(f"{file}: larger than {LARGEST} bytes")

    @property
    def parents(self) -> list[str]:
        """Names of the stages that it descends from."""
        return [*self.node.parents.values()] if self.node else []

    def stale(self, nodes: Mapping[str, Node]) -> bool:
        """Whether a parent that is done has other weights now than it was seeded with."""
        node = self.node
        of = [(nodes.get(name), node.used[r]) for r, name in node.parents.items()] if node else []
        return any(p and p.done and not used.items() <= p.digests.items() for p, used in of)

    def state(self, nodes: Mapping[str, Node]) -> str:
        """In a word or two."""
        if locked(lock_of(self.folder)):
            return "running"
        if self.damaged:
            return "damaged"
        if self.stale(nodes):
            return "stale"
        if self.node is None:
            return "not begun"
        return "done" if self.node.done else "half done"

    def view(
        self, others: Mapping[str, Found], nodes: Mapping[str, Node], wrong: list[str]
    ) -> StageView:
        """What a page shows of it.

        Args:
            others: all stages of the run folder by name.
            nodes: those of them that can be read, and those outside that they descend from.
            wrong: lines on parents that are not what it was made of.
        """
        node, run = self.node, self.run
        curves = self.curves()
        parent, changes = self.against(others)
        products = run is not None and bool(run.method_class.products)
        samples = self.folder / "samples"
        return StageView(
            name=self.name,
            state=self.state(nodes),
            why=[*self.why, *(line.removeprefix(f"{self.name}: ").rstrip(".") for line in wrong)],
            method=node.method if node else str(flatten(self.raw).get("method.name", "")),
            data=node.data if node else "",
            fingerprint=short(node.fingerprint) if node else "",
            init=node.init if node else {},
            parents=node.parents if node else {},
            gave={r: short(d) for r, d in roles_of(node.digests).items()} if node else {},
            steps=node.steps if node else 0,
            total=planned(run) if run else 0,
            batch=1 if products else run.data.batch_size if run else 0,
            config=self.text(),
            parent=parent,
            changes=changes,
            curves=curves,
            pictures=sorted(p for p in samples.glob("*.png") if p.is_file() and self.holds(p)),
            seconds=positive(self.done.get("seconds")),
            sampling=self.sampling,
            processes=round(positive(self.done.get("processes")) or 0) or None,
            device=str(self.done.get("device") or ""),
            environment=self.environment(),
        )

    def holds(self, path: Path) -> bool:
        """Whether a file lies in the folder, and is no link out of it."""
        return path.resolve().is_relative_to(self.folder.resolve())

    def text(self) -> str:
        """``config.yaml`` as it is, if it can be read."""
        return (self.folder / "config.yaml").read_text() if self.raw else ""

    def against(self, others: Mapping[str, Found]) -> tuple[str, list[Change]]:
        """The first parent in the folder, and what in its config is another."""
        parent = next((name for name in self.parents if name in others and others[name].raw), "")
        if not (parent and self.raw):
            return "", []
        rows = differences(others[parent].raw, self.raw, absent="–")
        return parent, [(key, str(old), str(new)) for key, old, new in rows]

    def environment(self) -> dict[str, str]:
        """Versions, host and commit that it began with."""
        return {k: str(v) for k, v in flatten(self.record.get("provenance") or {}).items() if k}

    def curves(self) -> dict[str, Curve]:
        """The columns of ``metrics.csv``, by name; says so where it cannot be read."""
        path = self.folder / "metrics.csv"
        curves: dict[str, Curve] = {}
        if not (path.is_file() and self.holds(path)):
            return {}
        try:
            self.check_size(path.name)
            for row in read_rows(path, sys.maxsize):
                for name, value in finite(numbers(row)).items():
                    if abs(value) < MOST:
                        curves.setdefault(name, []).append((float(row["step"]), value))
        except (UserError, csv.Error, OSError) as error:
            self.why.append(f"metrics.csv: cannot be read ({error})")
        return curves


def positive(value: Any) -> float | None:
    """A number that can be drawn, 0 or more."""
    return float(value) if is_finite(value) and 0 <= value < MOST else None

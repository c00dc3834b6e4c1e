"""Losses as a CSV file."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

from gendiff.storage import user_errors, write_text

LINE = 2**16
"""Most characters of a line that are read of a log."""

Row = dict[str, Any]


def read_rows(path: Path, resume_step: int) -> list[Row]:
    """The rows of a ``metrics.csv`` up to a step; none where there is no file."""
    if not path.is_file():
        return []
    rows = []
    with path.open(newline="", errors="replace") as file:
        for row in csv.DictReader(line[:LINE] for line in file):
            # a kill can tear the last line: such a row is dropped, and logged again
            torn = None in row.values() or None in row
            if torn or not re.fullmatch(r"[0-9]{1,18}", str(row.get("step"))):
                continue
            if int(row["step"]) <= resume_step:
                rows.append(row)
    return rows


def numbers(row: Row) -> dict[str, float]:
    """The figures of a row, without its step."""
    found = {}
    for name, value in row.items():
        if name != "step" and value not in ("", None):
            try:
                found[name] = float(value)
            except ValueError:  # not ours
                continue
    return found


class CSVTracker:
    """``metrics.csv``: a column a metric; rows after the step resumed from are dropped."""

    def __init__(self, path: Path, resume_step: int) -> None:
        self.path, self.rows = path, read_rows(path, resume_step)
        self.columns = list(self.rows[0]) if self.rows else []
        self._rewrite()

    def _rewrite(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, restval="")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())

    def log(self, metrics: dict[str, float], step: int) -> None:
        row = {"step": step, **metrics}
        self.rows.append(row)
        if set(row) - set(self.columns):
            self.columns += [name for name in row if name not in self.columns]
            self._rewrite()
            return
        with user_errors(self.path), self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns, restval="").writerow(row)

    def close(self) -> None:
        pass

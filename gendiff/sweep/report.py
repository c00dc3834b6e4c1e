"""What a sweep has found: a table of its trials, best first, and a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gendiff.progress import Reporter
from gendiff.storage import write_text
from gendiff.sweep.file import Sweep
from gendiff.sweep.picture import draw_trials
from gendiff.sweep.state import State


@dataclass(frozen=True)
class Row:
    """A trial as it is shown."""

    trial: str
    values: dict[str, Any]
    objective: float | None
    """None for one that was stopped or has failed."""
    ending: str
    """What came of it, in a word or two."""


def rows_of(sweep: Sweep, state: State) -> list[Row]:
    """Every trial, best first, and those without an objective last."""
    rows = []
    for trial in state.trials:
        ending = {
            "stopped": f"stopped at {trial.bracket}",
            "failed": f"failed ({trial.code})",
            "begun": "not done",
        }.get(trial.state, "done")
        rows.append(Row(trial.name, trial.values, state.objective(trial, sweep.metric), ending))
    return sorted(rows, key=lambda row: _rank(row, sweep.sign))


def _rank(row: Row, sign: int) -> tuple[bool, float]:
    return row.objective is None, sign * (row.objective or 0.0)


def write_report(sweep: Sweep, state: State, reporter: Reporter) -> None:
    """Print the table, and write ``sweep.md``, ``sweep.png`` and ``sweep.svg``."""
    rows, folder = rows_of(sweep, state), state.path.parent
    varied = [p for p in sweep.parameters if len({str(r.values[p.name]) for r in rows}) > 1]
    names = [parameter.name for parameter in varied]
    head = ["trial", *names, sweep.metric or "figures", "state"]
    body = [[r.trial, *(str(shown(r.values[n])) for n in names), *_end(r)] for r in rows]
    show(head, body, reporter.console)
    paths = [folder / "sweep.md"]
    write_text(paths[0], markdown(sweep, head, body))
    if varied and any(row.objective is not None for row in rows):
        for suffix in (".png", ".svg"):
            paths.append(folder / f"sweep{suffix}")
            draw_trials(rows, varied, str(sweep.metric), sweep.sign, paths[-1])
    reporter.say("  ".join(map(str, paths)))


def _end(row: Row) -> list[str]:
    return ["" if row.objective is None else f"{row.objective:.4g}", row.ending]


def shown(value: Any) -> Any:
    """A value with the digits that tell it."""
    return f"{value:.4g}" if isinstance(value, float) else value


def markdown(sweep: Sweep, head: list[str], body: list[list[str]]) -> str:
    """The table as Markdown, the best trial in bold."""

    def line(cells: list[str], bold: bool = False) -> str:
        safe = [cell.replace("|", "\\|").replace("\n", " ") for cell in cells]
        return f"| {' | '.join(f'**{c}**' if bold and c else c for c in safe)} |"

    goal = "" if not sweep.metric else f"; {sweep.metric}, the {_best(sweep.sign)} the better"
    lines = [f"# {sweep.raw.get('name') or sweep.path.stem}", "", f"{sweep.method}{goal}", ""]
    lines += [line(head), line(["---"] * len(head))]
    lines += [line(cells, bold=n == 0 and bool(cells[-2])) for n, cells in enumerate(body)]
    return "\n".join(lines) + "\n"


def _best(sign: int) -> str:
    return "smaller" if sign > 0 else "larger"


def show(head: list[str], body: list[list[str]], console: Any) -> None:
    """Print the table to a rich console."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name in head:
        table.add_column(Text(name.replace("stages.", "").replace("/", "/\n")), overflow="fold")
    for cells in body:
        table.add_row(*map(Text, cells))
    console.print(table)

"""Quality against number of function evaluations as a table: in the terminal and as Markdown."""

from __future__ import annotations

from typing import Any

FIGURES = {
    "frechet_distance": "Fréchet distance",
    "kernel_distance": "kernel distance",
    "wasserstein2": "2-Wasserstein",
    "energy_distance": "energy distance",
    "modes_covered": "modes covered",
    "high_quality": "high quality",
    "class_accuracy": "class accuracy",
}
SHARES = {"class_accuracy", "high_quality"}


def rows(entries: list[dict[str, Any]], floor: dict[str, float] | None) -> list[list[str]]:
    """Header and rows as text."""
    figures = [name for name in FIGURES if any(name in entry for entry in entries)]
    guided = any(entry["guidance"] for entry in entries)
    head = ["model", "sampler", *(["guidance"] if guided else []), "NFE"]
    table = [head + [FIGURES[name] for name in figures]]
    for entry in entries:
        weight = [f"{entry['guidance']:g}"] if guided else []
        cells = [entry["model"], entry["sampler"], *weight, str(entry["nfe"])]
        table.append(cells + [number(entry, name) for name in figures])
    if floor:
        cells = ["real halves", *[""] * (len(head) - 1)]
        table.append(cells + [number(floor, name) for name in figures])
    return table


def number(entry: dict[str, Any], name: str) -> str:
    """``12.3 ± 0.4``, shares in per cent; empty where there is no figure."""
    if name not in entry:
        return ""
    value, half = entry[name], entry.get(f"{name}_interval")
    if name in SHARES:
        return f"{100 * value:.1f} %" + (f" ± {100 * half:.1f}" if half is not None else "")
    digits = 2 if value >= 1 else 4
    return f"{value:.{digits}f}" + (f" ± {half:.{digits}f}" if half is not None else "")


def show_table(entries: list[dict[str, Any]], floor: dict[str, float] | None, console: Any) -> None:
    """Print to a rich console."""
    from rich.table import Table

    head, *body = rows(entries, floor)
    table = Table(*head)
    for row in body:
        table.add_row(*row)
    console.print(table)


def markdown_table(
    title: str, entries: list[dict[str, Any]], floor: dict[str, float] | None
) -> str:
    """A Markdown page."""
    head, *body = rows(entries, floor)
    lines = [f"# {title}: quality against number of function evaluations (NFE)", ""]
    if entries:
        e = entries[0]
        lines += [f"{e['samples']} samples a draw, {e['draws']} draws; ± is a 95 % interval.", ""]
    lines += [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in body]) + "\n"

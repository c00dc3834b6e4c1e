"""Quality against number of function evaluations as a table: in the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from gendiff.report.figures import (
    OTHERS,
    QUALITY,
    Entry,
    by_reference,
    column,
    has,
    main_distance,
    number,
    pareto_front,
)

_IMAGES = ("frechet_distance", "kernel_distance", "precision", "recall", "class_accuracy")
_POINTS = ("energy_distance", "modes_covered", "high_quality", "recall")
_WORDS = ("model", "role", "sampler")  # set left; numbers are set right
_FOLDED = 9  # characters of a word that stay together
_HEADS = {"nfe": "NFE"}
_FLOOR = "real halves"
_INCOMPARABLE = "Figures against different references are not comparable."


def show_table(entries: list[Entry], floors: Mapping[str, Entry], console: Any) -> None:
    """Print the telling figures to a rich console; what is too long is folded, never cut.

    Entries against each reference have a table of their own, where a star marks those on the
    Pareto front.

    Args:
        entries: as `draw_curve` takes them.
        floors: what real samples reach, by reference.
        console: a `rich.console.Console`.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    groups = by_reference(entries)
    for reference, group in groups.items():
        main = main_distance(group)
        figures = list(_IMAGES) if main is None or main in _IMAGES else [main, *_POINTS]
        if not any(has(entry, name) for entry in group for name in figures):
            figures = [*QUALITY, *OTHERS]
        keys = _keys(group)
        if len(groups) > 1:
            console.print(Text(f"\nagainst reference {reference or 'unknown'}"))
        head, *body = _rows(group, floors.get(reference), keys, figures, "*{}")
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for name, *cells in zip(head, *body, strict=True):
            # Folded at spaces: where even that is too wide, the terminal wraps the line.
            words = [word for cell in (name, *cells) for word in cell.replace(",", " ").split()]
            table.add_column(
                Text(name.replace(", ", "\n").replace(" ", "\n")),
                justify="left" if name in _WORDS else "right",
                overflow="fold",
                min_width=min(_FOLDED, max(map(len, words))),
            )
        for row in body:
            table.add_row(*map(Text, row))
        console.print(table, soft_wrap=False, crop=False)
        if main:
            console.print(Text(f"* on the Pareto front of NFE and {column(main).label}"))
    if len(groups) > 1:
        console.print(Text(_INCOMPARABLE))


def markdown_table(title: str, entries: list[Entry], floors: Mapping[str, Entry]) -> str:
    """A Markdown page of all figures, each explained.

    Entries against each reference have tables of their own, with the distance of those on the
    Pareto front in bold.

    Args:
        title: of the page.
        entries: as `draw_curve` takes them, with "samples" and "draws".
        floors: what real samples reach, by reference.
    """
    parts = [f"# {title}: quality against number of function evaluations (NFE)"]
    groups = by_reference(entries)
    if len(groups) > 1:
        parts.append(_INCOMPARABLE)
    for reference, group in groups.items():
        if len(groups) > 1:
            parts.append(f"## Against reference `{reference or 'unknown'}`")
        real = floors.get(reference)
        level = "###" if len(groups) > 1 else "##"
        parts.append(_caption(group, reference, real))
        for heading, figures in _tables(group).items():
            keys = _keys(group) + [k for k in ("samples", "draws") if _several(group, k)]
            table = _rows(group, real, keys, figures, "**{}**")
            parts += [f"{level} {heading}", _markdown(table), _legend(figures)]
    return "\n\n".join(parts) + "\n"


class PageTable(NamedTuple):
    """A table as a page of HTML lays it out, all of it text."""

    heading: str
    head: list[str]
    body: list[list[str]]
    notes: list[str]
    """What each figure is."""


def page_tables(entries: list[Entry], floor: Entry | None) -> list[PageTable]:
    """Tables of entries against one reference, with a star at those on the Pareto front."""
    tables = []
    for heading, figures in _tables(entries).items():
        head, *body = _rows(entries, floor, _keys(entries), figures, "★ {}")
        tables.append(PageTable(heading, head, body, _legend(figures).split("\n")))
    return tables


def caption(entries: list[Entry], reference: str, floor: Entry | None) -> str:
    """How the figures of such tables were measured."""
    return _caption(entries, reference, floor).replace("Bold:", "★:").replace("`", "")


def _tables(entries: list[Entry]) -> dict[str, list[str]]:
    """Headings of the page to the figures below them; figures of others' metrics are quality."""
    found = {name for entry in entries for name in entry if f"{name}_interval" in entry}
    quality = [*QUALITY, *sorted(found - {*QUALITY, *OTHERS})]
    tables = {"Quality": quality, "Diversity, copying and cost": [*OTHERS]}
    present = {
        heading: [name for name in names if any(has(entry, name) for entry in entries)]
        for heading, names in tables.items()
    }
    return {heading: names for heading, names in present.items() if names}


def _caption(entries: list[Entry], reference: str, floor: Entry | None) -> str:
    """How all of it was measured."""
    sizes = [
        f"{entries[0][key]} {key if entries[0][key] != 1 else key[:-1]}"
        for key in ("samples", "draws")
        if key in entries[0] and not _several(entries, key)
    ]
    draws = {entry.get("draws") for entry in entries}
    over = "over the draws" if draws != {1} else "over samples, by the jackknife"
    if 1 in draws and len(draws) > 1:
        over += ", or by the jackknife over samples where there is one draw"
    lines = [f"Of each point: {', '.join(sizes)}."] if sizes else []
    lines.append(f"± is half the width of a 95 % interval {over}.")
    lines.append(f"All figures are against reference `{reference or 'unknown'}`.")
    if floor and "samples" in floor:
        lines.append(
            f"The floor is of random halves of the real data, {floor['samples']} rows each; its ± "
            "is over partitions of the same rows."
        )
    if any("broken" in entry for entry in entries):
        lines.append("Where figures are missing, some samples were not finite.")
    main = main_distance(entries)
    if main:
        lines.append(f"Bold: on the Pareto front of NFE and {column(main).label}.")
    return "\n".join(lines)


def _legend(figures: list[str]) -> str:
    """One line a column: what it is, and which way is better."""
    columns = [column(name) for name in figures]
    return "\n".join(f"- {c.label}: {c.note}; {c.better}." for c in columns if c.note)


def _several(entries: list[Entry], key: str) -> bool:
    return len({entry.get(key) for entry in entries}) > 1


def _keys(entries: list[Entry]) -> list[str]:
    """What tells the entries apart."""
    role = ["role"] if _several(entries, "role") else []
    guided = ["guidance"] if any(entry.get("guidance") for entry in entries) else []
    return ["model", *role, "sampler", *guided, "nfe"]


def _rows(
    entries: list[Entry], floor: Entry | None, keys: list[str], figures: list[str], mark: str
) -> list[list[str]]:
    """Header and rows as text, with the main distance marked where it is on the Pareto front."""
    figures = [name for name in figures if any(has(entry, name) for entry in entries)]
    main = main_distance(entries)
    front = {id(entry) for entry in pareto_front(entries, main)} if main else set()
    table = [[_HEADS.get(key, key) for key in keys] + [column(name).head for name in figures]]
    for entry in entries:
        cells = {name: number(entry, name) for name in figures}
        if main in cells and id(entry) in front:
            cells[main] = mark.format(cells[main])
        table.append([_text(entry.get(key, "")) for key in keys] + [*cells.values()])
    if floor:
        blank = [""] * (len(keys) - 1)
        table.append([_FLOOR, *blank, *(number(floor, name) for name in figures)])
    return table


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _markdown(table: list[list[str]]) -> str:
    rule = [" --- |" if name in _WORDS else " ---: |" for name in table[0]]
    rows = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in table]
    return "\n".join([rows[0], f"|{''.join(rule)}", *rows[1:]])

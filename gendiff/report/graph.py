"""The pipeline as a graph: a box a stage, below those it came from, and an arrow a parent.

Arrows run down lanes on the left, a lane a parent, and end at the line that says which of the
stage's roles came from where; so a wide pipeline fits a telephone as well as a screen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gendiff.report.svg import add, markup, picture, write
from gendiff.report.views import StageView

_WIDE, _LANE, _ROUND = 330, 13, 6  # of a box, between lanes, of corners, px
_HEAD, _LINE, _GAP = 42, 17, 9  # height of a box's upper part, of a role's line, between boxes
_NAME, _MONO = 33, 44  # characters that fit a line of a name, of a role
COLOURS = 6
"""Of lanes, classes ``lane-0`` and so on of the page's style."""


class Row(NamedTuple):
    """A box of the graph."""

    name: str
    notes: tuple[str, str]
    state: str
    arrivals: dict[str, str]
    """Parent -> label of the arrow from it."""


def draw_graph(stages: Sequence[StageView]) -> str:
    """The graph as SVG, data first."""
    rows = rows_of(stages)
    tops, heights, y = [], [], 2.0
    for row in rows:
        tops.append(y)
        heights.append(_HEAD + _LINE * len(row.arrivals))
        y += heights[-1] + _GAP
    lane, count = lanes(rows)
    left = _LANE * count + 12
    root = picture(left + _WIDE + 2, y, f"Which stage came of which: {len(stages)} stages.")
    place = {row.name: number for number, row in enumerate(rows)}
    for number, row in enumerate(rows):
        for index, parent in enumerate(row.arrivals):
            end = tops[number] + _HEAD + _LINE * index + 4
            start, x = tops[place[parent]] + 16, left - 10 - _LANE * lane[parent]
            line = f"M{left} {start}H{x + _ROUND}q{-_ROUND} 0 {-_ROUND} {_ROUND}V{end - _ROUND}"
            turn = f"q0 {_ROUND} {_ROUND} {_ROUND}H{left - 4}"
            colour = f"lane-{lane[parent] % COLOURS}"
            add(root, "path", d=line + turn, kind=f"arrow {colour}")
            head = f"M{left} {end}l-7 -4v8z"
            add(root, "path", d=head, kind=f"tip {colour}")
    for row, top, height in zip(rows, tops, heights, strict=True):
        add(root, "rect", x=left, y=top, width=_WIDE, height=height, rx=5, kind="box")
        if row.name in lane:
            add(
                root,
                "circle",
                cx=left,
                cy=top + 16,
                r=4,
                kind=f"tip lane-{lane[row.name] % COLOURS}",
            )
        write(root, left + 12, top + 20, row.name, _NAME, kind="name")
        state = f"state {row.state.replace(' ', '-')}"
        write(root, left + _WIDE - 10, top + 20, row.state, text_anchor="end", kind=state)
        write(root, left + 12, top + 36, row.notes[0], 32, kind="note")
        write(root, left + _WIDE - 10, top + 36, row.notes[1], text_anchor="end", kind="note mono")
        for index, label in enumerate(row.arrivals.values()):
            write(root, left + 12, top + _HEAD + _LINE * index + 8, label, _MONO, kind="note mono")
    return markup(root)


def rows_of(stages: Sequence[StageView]) -> list[Row]:
    """A row for each data set, for each parent that is not there, and for each stage."""
    names = {stage.name for stage in stages}
    rows: list[Row] = []
    for data in dict.fromkeys(stage.data for stage in stages if stage.data and not stage.init):
        rows.append(Row(f"data: {data}", ("", ""), "", {}))
    absent = dict.fromkeys(p for s in stages for p in s.parents.values() if p not in names)
    rows += [Row(name, ("another run's", ""), "", {}) for name in absent]
    for stage in stages:
        arrivals: dict[str, list[str]] = {}
        for role, ref in stage.init.items():
            arrivals.setdefault(stage.parents[role], []).append(f"{role} ← {ref}")
        labels = {parent: ", ".join(short(lines)) for parent, lines in arrivals.items()}
        if not labels and stage.data:
            labels = {f"data: {stage.data}": "trained on data alone"}
        rows.append(Row(stage.name, (stage.method, stage.fingerprint), stage.state, labels))
    return rows


def short(lines: Sequence[str]) -> list[str]:
    """``student, teacher ← a.ema`` for two roles that are the same one of a parent."""
    by_ref: dict[str, list[str]] = {}
    for line in lines:
        role, _, ref = line.partition(" ← ")
        by_ref.setdefault(ref, []).append(role)
    return [f"{', '.join(roles)} ← {ref}" for ref, roles in by_ref.items()]


def lanes(rows: Sequence[Row]) -> tuple[dict[str, int], int]:
    """The lane of each row that has children, 0 nearest to the boxes, and how many there are.

    Lanes that overlap are different; short ones lie inside.
    """
    last: dict[str, int] = {}
    first = {row.name: number for number, row in enumerate(rows)}
    for number, row in enumerate(rows):
        last |= dict.fromkeys(row.arrivals, number)
    taken: list[list[tuple[int, int]]] = []
    found: dict[str, int] = {}
    for name in sorted(last, key=lambda name: last[name] - first[name]):
        span = first[name], last[name]
        free = (
            n for n, spans in enumerate(taken) if all(span[1] < a or b < span[0] for a, b in spans)
        )
        lane = next(free, len(taken))
        if lane == len(taken):
            taken.append([])
        taken[lane].append(span)
        found[name] = lane
    return found, len(taken)


def in_tree_order(parents: Mapping[str, Sequence[str]]) -> list[str]:
    """Names so that each comes after its parents and, where that allows, right below one.

    Args:
        parents: of each name; those that are no names themselves are not waited for. Names that
            descend from each other come last.
    """
    waiting, placed = list(parents), list[str]()

    def ready(name: str) -> bool:
        return not {*parents[name]} & {*waiting}

    while waiting:
        free = [name for name in waiting if ready(name)]
        if not free:
            return placed + waiting
        depth = {
            name: max((placed.index(p) for p in parents[name] if p in placed), default=-1)
            for name in free
        }
        # children of what was placed last come first: a chain stays together
        name = max(free, key=lambda name: depth[name]) if placed else free[0]
        waiting.remove(name)
        placed.append(name)
    return placed

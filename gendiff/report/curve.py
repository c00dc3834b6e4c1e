"""Curve of sample quality against sampling cost."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gendiff.report.axes import FLOOR, FRONT, draw_legend, dress_distance, dress_nfe
from gendiff.report.families import families, is_own, looks
from gendiff.report.figures import (
    DISTANCES,
    Entry,
    by_reference,
    column,
    has,
    interval,
    main_distance,
    pareto_front,
)
from gendiff.storage import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHARES = ("precision", "recall", "class_accuracy")
_WIDTH, _MAIN, _SMALL = 8.5, 3.9, 1.35  # of the picture, of its upper and lower panels, in
_LINE: dict[str, Any] = {"markersize": 5, "capsize": 2.5, "elinewidth": 1.0, "zorder": 3}
_FINE = {"markersize": 4, "linewidth": 1.1, "capsize": 0, "elinewidth": 0.7}
_MANY = 7  # more families than that are drawn fine
# The same picture is the same file, and its text can be searched.
_SVG: Any = {"svg.hashsalt": "gendiff", "svg.fonttype": "none"}


def draw_curve(entries: list[Entry], path: Path, floor: Entry | None = None) -> None:
    """Draw quality against the number of function evaluations (NFE), and its Pareto front.

    The upper panel has the `main_distance`; below are precision, recall and class accuracy, where
    any entry has them. Bars are the intervals. `families` says what is joined by a line: of a
    chain of students, a bold line joins each at its own step count, and thin ones show a student
    at other step counts.

    Args:
        entries: with "model", "sampler", "steps", "nfe" (1 or more) and one of `DISTANCES`;
            optional are "role", "guidance", "reference", "precision", "recall" and
            "class_accuracy" in [0, 1], and half widths "<figure>_interval".
        path: the file to write atomically: ``.png`` of 150 dpi or ``.svg``.
        floor: figures that real samples reach, under the same names.

    Raises:
        ValueError: there are no entries, none has a distance, they are measured against different
            references, or the path ends otherwise.
        UserError: the file cannot be written.
    """
    if path.suffix not in (".png", ".svg"):
        raise ValueError(f"{path}: curves are drawn as .png or as .svg")
    figure = make_curve(entries, floor)
    write_atomic(path, lambda file: save_curve(figure, file, path.suffix[1:]))


def save_curve(figure: Figure, file: IO[bytes], kind: str) -> None:
    """Save a figure of `make_curve` to an open file, as ``png`` or ``svg``."""
    from matplotlib import rc_context

    with rc_context(_SVG):
        plain = {"Date": None} if kind == "svg" else None
        figure.savefig(file, dpi=150, format=kind, metadata=plain)


def make_curve(entries: list[Entry], floor: Entry | None = None) -> Figure:
    """The figure that `draw_curve` writes."""
    from matplotlib.figure import Figure  # without pyplot: no display, no global state
    from matplotlib.ticker import MaxNLocator

    if not entries:
        raise ValueError("there are no entries to draw")
    if len(by_reference(entries)) > 1:
        raise ValueError("entries against different references cannot be compared")
    main = main_distance(entries)
    if main is None:
        raise ValueError(f"no entry has one of {', '.join(DISTANCES)}")
    names = [main, *(name for name in _SHARES if any(has(entry, name) for entry in entries))]
    ratios = [_MAIN] + [_SMALL] * (len(names) - 1)
    figure = Figure(figsize=(_WIDTH, sum(ratios)), layout="constrained")
    grid = figure.subplots(len(names), sharex=True, squeeze=False, height_ratios=ratios)
    panels: dict[str, Axes] = dict(zip(names, grid[:, 0], strict=True))

    lines, shared = families(entries)
    fine = _FINE if len(lines) > _MANY else {}
    for (label, models), look in zip(lines.items(), looks(), strict=False):
        for name, panel in panels.items():
            _draw_family(panel, name, label, models, {**_LINE, **fine, **look})
    _draw_front(panels[main], pareto_front(entries, main), main)
    for name, panel in panels.items():
        _draw_floor(panel, name, floor or {})
        panel.set_ylabel(column(name).label)
        panel.grid(True, color="0.92", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], min_n_ticks=3))
    figure.align_ylabels()
    dress_distance(panels[main], [*entries, floor or {}], main)
    dress_nfe(panels[names[-1]], sorted({entry["nfe"] for entry in entries}))
    draw_legend(figure, panels, shared)
    return figure


def _draw_family(
    panel: Axes, name: str, label: str, lines: dict[str, list[Entry]], style: dict[str, Any]
) -> None:
    if len(lines) == 1:
        (entries,) = lines.values()
        _draw_line(panel, name, entries, label=label, **style)
        return
    own = [entry for entries in lines.values() for entry in entries if is_own(entry)]
    own.sort(key=lambda entry: entry["nfe"])
    _draw_line(panel, name, own, **{**style, "label": f"{label}, at k steps", "linewidth": 2.4})
    label = f"{label}, at other step counts"
    hollow = {"markersize": 4, "markerfacecolor": "white", "linewidth": 0.8, "zorder": 2}
    for entries in lines.values():
        # The line starts at the student's own point, which is drawn already, with its bar.
        shown = [entry for entry in entries if has(entry, name)]
        mark = [index for index, entry in enumerate(shown) if not is_own(entry)]
        if mark:
            _draw_line(panel, name, shown, label=label, markevery=mark, **{**style, **hollow})
            label = ""  # one legend entry for all


def _draw_line(panel: Axes, name: str, entries: list[Entry], **style: Any) -> None:
    entries = [entry for entry in entries if has(entry, name)]
    if not entries:
        return
    x = [entry["nfe"] for entry in entries]
    y = [entry[name] for entry in entries]
    halves = [interval(entry, name) or 0.0 for entry in entries]
    # A share ends at 0 and at 1, and so does its bar.
    down, up = (y, [1 - value for value in y]) if name in _SHARES else (halves, halves)
    bars = [[*map(min, halves, down)], [*map(min, halves, up)]]
    panel.errorbar(x, y, bars if any(halves) else None, **style)


def _draw_front(panel: Axes, front: list[Entry], name: str) -> None:
    """A step from point to point: what the next NFE brings is not had before it."""
    ring: dict[str, Any] = {
        "marker": "o",
        "markersize": 11,
        "markerfacecolor": "none",
        "markeredgewidth": 1.2,
    }
    x, y = [entry["nfe"] for entry in front], [entry[name] for entry in front]
    line: dict[str, Any] = {
        "color": "0.55",
        "linewidth": 1.6,
        "drawstyle": "steps-post",
        "zorder": 1.5,
    }
    panel.plot(x, y, label=FRONT, **line, **ring)


def _draw_floor(panel: Axes, name: str, floor: Entry) -> None:
    if not has(floor, name):
        return
    value, width = floor[name], interval(floor, name)
    style: dict[str, Any] = {"color": "0.35", "zorder": 1}
    panel.axhline(value, linestyle=(0, (6, 3)), linewidth=1.2, label=FLOOR, **style)
    if width:
        panel.axhspan(value - width, value + width, alpha=0.18, linewidth=0, **style)

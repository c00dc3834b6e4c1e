"""Trials as lines over parallel axes: a parameter an axis, the objective the last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gendiff.storage import write_atomic
from gendiff.sweep.parameters import Parameter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEIGHT, _AXIS = 4.2, 2.1  # of the picture, and the width an axis takes, in
_SPREAD = 20.0  # numbers further apart than so many times are on a logarithmic axis
_SHORT = 18  # characters of a word
_SVG: Any = {"svg.hashsalt": "gendiff", "svg.fonttype": "none"}


class Scale:
    """Where values are on an axis from 0 to 1, and its ticks.

    Numbers that an axis has a few of get a tick each; words are one above the other.
    """

    def __init__(self, values: Sequence[Any], logarithmic: bool = False, each: bool = True) -> None:
        plain = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        self.words = [] if len(plain) == len(values) else sorted({word(v) for v in values})
        if self.words:
            return
        low, high = min(plain), max(plain)
        self.log = low > 0 and (logarithmic or high / low >= _SPREAD)
        self.low, self.high = (math.log(v) if self.log else v for v in (low, high))
        self.distinct, self.each = sorted(set(plain)), each and len(set(plain)) <= 6

    def place(self, value: Any) -> float:
        """A value's height."""
        if self.words:
            return (self.words.index(word(value)) + 0.5) / len(self.words)
        value = math.log(value) if self.log else value
        return (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5

    def ticks(self) -> list[tuple[float, str]]:
        """Heights and what is written there."""
        if self.words:
            return [(self.place_of_word(n), name) for n, name in enumerate(self.words)]
        if self.each:
            return apart([(self.place(value), f"{value:.4g}") for value in self.distinct])
        from matplotlib.ticker import LogLocator, MaxNLocator

        bounds = self.distinct[0], self.distinct[-1]
        if self.log:
            wide = self.high - self.low > math.log(1000)
            found = LogLocator(subs=(1,) if wide else (1, 2, 5)).tick_values(*bounds)
        else:
            found = MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(*bounds)
        inside = [float(v) for v in found if bounds[0] <= v <= bounds[1]]
        if len(inside) < 2:
            inside = [*bounds]
        return apart([(self.place(value), f"{value:.4g}") for value in inside])

    def place_of_word(self, number: int) -> float:
        return (number + 0.5) / len(self.words)


def word(value: Any) -> str:
    """A value that is no number, as it is written beside an axis."""
    text = str(value)
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"


def apart(ticks: list[tuple[float, str]], least: float = 0.045) -> list[tuple[float, str]]:
    """Ticks without those that would be written over the one below."""
    kept: list[tuple[float, str]] = []
    for tick in ticks:
        if not kept or tick[0] - kept[-1][0] >= least:
            kept.append(tick)
    return kept


def draw_trials(
    rows: Sequence[Any], parameters: Sequence[Parameter], metric: str, sign: int, path: Path
) -> None:
    """Draw trials, coloured by their objective, the best one bold; others dashed and grey.

    Args:
        rows: best first, those without an objective last.
        parameters: those that vary.
        sign: 1 if a smaller objective is better, -1 if a larger one is.
        path: ``.png`` of 150 dpi or ``.svg``.

    Raises:
        UserError: the file cannot be written.
    """
    from matplotlib import colormaps, rc_context
    from matplotlib.figure import Figure

    ranked = [row for row in rows if row.objective is not None]
    scales = [Scale([r.values[p.name] for r in rows], p.logarithmic) for p in parameters]
    last = Scale([row.objective for row in ranked], each=False)
    colours = colormaps["viridis"]
    count = len(parameters) + 1
    figure = Figure(figsize=(max(5.5, _AXIS * count + 0.6), _HEIGHT), layout="constrained")
    panel = figure.subplots()
    for row in reversed(rows):
        heights = [s.place(row.values[p.name]) for s, p in zip(scales, parameters, strict=True)]
        style: dict[str, Any] = {"color": "0.7", "linewidth": 1, "linestyle": (0, (4, 3))}
        if row.objective is not None:
            heights.append(last.place(row.objective))
            worse = heights[-1] if sign > 0 else 1 - heights[-1]
            style = {"color": colours(0.92 * (1 - worse)), "linewidth": 1.5, "alpha": 0.9}
        if row is ranked[0]:
            style |= {"color": "#c8102e", "linewidth": 3.2, "alpha": 1, "zorder": 3}
        curve(panel, heights, style)
    names = [parameter.name for parameter in parameters]
    for place, (scale, name) in enumerate(zip([*scales, last], [*names, metric], strict=True)):
        axis(panel, place, scale, name, count)
    goal = "smaller" if sign > 0 else "larger"
    note = f"best in red: {metric} {ranked[0].objective:.4g} ({goal} is better)"
    if len(ranked) < len(rows):
        note += "; dashed: stopped or failed"
    panel.text(0.5, -0.075, note, transform=panel.transAxes, ha="center", va="top", fontsize=9)
    panel.set_xlim(-0.4, count - 1 + 0.45)
    panel.set_ylim(-0.03, 1.03)
    panel.axis("off")
    with rc_context(_SVG):
        plain = {"Date": None} if path.suffix == ".svg" else None
        kind = path.suffix[1:]
        write_atomic(path, lambda f: figure.savefig(f, dpi=150, format=kind, metadata=plain))


def curve(panel: Axes, heights: list[float], style: dict[str, Any]) -> None:
    """A line that leaves and reaches every axis level, so that it can be followed across."""
    x: list[float] = []
    y: list[float] = []
    for place, (left, right) in enumerate(pairwise(heights)):
        for share in (k / 24 for k in range(25)):
            x.append(place + share)
            y.append(left + (right - left) * share * share * (3 - 2 * share))
    panel.plot(x or [0], y or heights, solid_capstyle="round", **style)


def axis(panel: Axes, place: int, scale: Scale, name: str, count: int) -> None:
    """A vertical axis with its name above it and its ticks where there are fewer lines."""
    panel.plot([place, place], [0, 1], color="0.25", linewidth=1, zorder=4)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.65, "pad": 0.6}
    out = -1 if place == 0 else 1
    for height, text in scale.ticks():
        x = [place, place + 0.025 * out]
        panel.plot(x, [height] * 2, color="0.25", linewidth=1, zorder=4)
        put: dict[str, Any] = {"va": "center", "fontsize": 8, "zorder": 5, "bbox": box}
        panel.text(place + 0.04 * out, height, text, ha="right" if out < 0 else "left", **put)
    short = name.removeprefix("stages.").replace("/", "/\n") if place == count - 1 else folded(name)
    bold = "bold" if place == count - 1 else "normal"
    panel.text(place, 1.06, short, ha="center", va="bottom", fontsize=9, fontweight=bold)


def folded(name: str) -> str:
    """A key in two lines: the stage and what of it."""
    stage, _, rest = name.removeprefix("stages.").partition(".")
    return f"{stage}\n{rest}" if rest else stage

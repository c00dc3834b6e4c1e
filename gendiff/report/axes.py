"""What is round the curve: scales, ticks and the legend."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gendiff.report.figures import Entry, has, interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FRONT, FLOOR = "Pareto front", "floor: real samples"  # last in the legend
_TICKS: dict[float, tuple[float, ...]] = {
    3: (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8),
    10: (1, 1.5, 2, 3, 4, 5, 7),
    1000: (1, 2, 5),
    math.inf: (1,),
}
"""Ticks of a decade, by how far the axis reaches."""


def draw_legend(figure: Figure, panels: dict[str, Axes], shared: str) -> None:
    """Below the panels, which keep their size: the picture grows by what the legend needs."""
    width = figure.get_figwidth()
    found: dict[str, Any] = {}
    for panel in panels.values():
        handles, labels = panel.get_legend_handles_labels()
        found = dict(zip(labels, handles, strict=True)) | found
    labels = sorted(found, key=lambda label: label in (FRONT, FLOOR))
    columns = max(1, int(width / (0.8 + 0.07 * max(map(len, labels)))))
    legend = figure.legend(
        [found[label] for label in labels],
        labels,
        title=shared or None,
        loc="outside lower center",
        ncols=min(columns, len(labels)),
        frameon=False,
        fontsize=9,
        handlelength=3,
    )
    figure.draw_without_rendering()
    needed = legend.get_window_extent().height / figure.dpi
    figure.set_size_inches(width, figure.get_figheight() + needed)


def dress_distance(panel: Axes, entries: list[Entry], name: str) -> None:
    """A logarithmic scale that shows the entries, with plain numbers at its ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    values = [(e[name], interval(e, name) or 0.0) for e in entries if has(e, name)]
    if min(value for value, _ in values) <= 0:
        return  # no logarithm: the scale stays linear
    panel.set_yscale("log", nonpositive="clip")
    # A bar that comes near 0 would drag the limit down without end: it leaves the picture.
    low = min(max(value - half, value / 2) for value, half in values)
    high = max(value + half for value, half in values)
    margin = max(1.2, (high / low) ** 0.06)
    panel.set_ylim(low / margin, high * margin)
    subs = next(subs for ratio, subs in _TICKS.items() if high / low <= ratio)
    panel.yaxis.set_major_locator(LogLocator(subs=subs))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_locator(NullLocator())


def dress_nfe(panel: Axes, counts: list[float]) -> None:
    """A logarithmic scale with a tick at each count, and a number where there is room.

    Args:
        panel: the lowest one.
        counts: of function evaluations, ascending, 1 or more.
    """
    from matplotlib.ticker import NullFormatter

    panel.set_xlabel("function evaluations per sample (NFE)")
    panel.set_xscale("log", base=2)
    panel.set_xlim(counts[0] * 0.83, counts[-1] * 1.2)
    room = math.log(counts[-1] / counts[0] * 1.44) / 18
    shown: list[float] = []
    for count in sorted(counts, key=lambda count: not math.log2(count).is_integer()):
        if all(abs(math.log(count / other)) >= room for other in shown):
            shown.append(count)
    panel.set_xticks(sorted(shown), [f"{count:g}" for count in sorted(shown)])
    panel.set_xticks([count for count in counts if count not in shown], minor=True)
    panel.xaxis.set_minor_formatter(NullFormatter())

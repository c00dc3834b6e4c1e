"""Curve of sample quality against sampling cost."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from itertools import cycle, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = dict[str, Any]

# Okabe & Ito 2008, "Color Universal Design", without yellow, which is faint on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_DASHES = ("-", "--", ":")  # for more families than colours
_SAMPLERS = {"ddim": "DDIM", "ddpm": "DDPM"}
_PANELS = ("frechet_distance", "class_accuracy")


def draw_curve(points: list[Point], path: Path, floor: Point | None = None) -> None:
    """Draw the Fréchet distance against the number of function evaluations (NFE), as PNG.

    One line per model and sampler (and per role and guidance where these vary). Models named
    "<chain>-<steps>", such as "halve-8", are students of one chain when there are two of them or
    more: they share a colour, a bold line joins each at its own step count, and thin ones show
    a student at other step counts. A lower panel shows the class accuracy of points that have it.

    Args:
        points: measurements with "model", "sampler", "steps", "nfe" and "frechet_distance" (> 0);
            optional "frechet_distance_interval" (half-width of the error bar, same unit), "role",
            "guidance" and "class_accuracy" in [0, 1]; other keys are ignored.
        path: the file to write; its folder must exist.
        floor: what real samples reach: "frechet_distance" with, optionally, its interval and
            "class_accuracy".

    Raises:
        ValueError: there are no points.
    """
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    if not points:
        raise ValueError("there are no points to draw")
    with_accuracy = any("class_accuracy" in point for point in points)
    figure = Figure(figsize=(8.5, 6.6 if with_accuracy else 4.8), layout="constrained")
    panels = _PANELS if with_accuracy else _PANELS[:1]
    ratios = [3, 1.2] if with_accuracy else [1]
    grid = figure.subplots(len(panels), sharex=True, squeeze=False, height_ratios=ratios)
    axes = dict(zip(panels, grid[:, 0], strict=True))

    looks = cycle(product(_DASHES, zip(_COLOURS, _MARKERS, strict=True)))
    for label, lines in _families(points).items():
        dash, (colour, marker) = next(looks)
        style = {"color": colour, "marker": marker, "linestyle": dash}
        for key, panel in axes.items():
            _draw_family(panel, key, label, lines, style)
    if floor is not None:
        for key, panel in axes.items():
            _draw_floor(panel, key, floor)

    _dress_distance(axes["frechet_distance"], points, floor)
    if with_accuracy:
        axes["class_accuracy"].set_ylabel("class accuracy")
    _dress_nfe(grid[-1, 0], sorted({point["nfe"] for point in points}))
    for panel in axes.values():
        panel.grid(True, color="0.92", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    handles, labels = axes["frechet_distance"].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150, format="png")


def _families(points: list[Point]) -> dict[str, dict[str, list[Point]]]:
    """Lines that share a colour: label of the family to model to points in order of NFE."""
    varying = [key for key in ("role", "guidance") if len({p.get(key) for p in points}) > 1]
    samplers = {point["sampler"] for point in points}
    chains = {s: _chains({p["model"] for p in points if p["sampler"] == s}) for s in samplers}
    families: dict[str, dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for point in sorted(points, key=lambda point: point["nfe"]):
        model: str = point["model"]
        sampler: str = point["sampler"]
        chain = chains[sampler].get(model)
        words = [f"{chain}-k" if chain else model]
        if sampler != model:
            words.append(_SAMPLERS.get(sampler, sampler))
        words += [f"{key} {point[key]}" for key in varying if key in point]
        families[", ".join(words)][model].append(point)
    return families


def _chains(models: set[str]) -> dict[str, str]:
    """Model to the name of its chain, for chains of two models or more."""
    found = {model: match[1] for model in models if (match := re.fullmatch(r"(.+)-\d+", model))}
    names = list(found.values())
    return {model: name for model, name in found.items() if names.count(name) > 1}


def _draw_family(
    panel: Axes, key: str, label: str, lines: dict[str, list[Point]], style: dict[str, Any]
) -> None:
    main: dict[str, Any] = {**style, "markersize": 5, "zorder": 3}
    if len(lines) == 1:
        (points,) = lines.values()
        _draw_line(panel, key, points, label=label, **main)
        return
    own = [p for model, points in lines.items() for p in points if _is_own(model, p)]
    own.sort(key=lambda point: point["nfe"])
    _draw_line(panel, key, own, label=f"{label}, at k steps", linewidth=2.4, **main)
    label = f"{label}, at other step counts"
    hollow = {"markersize": 4, "markerfacecolor": "white", "linewidth": 0.8, "zorder": 2}
    for model, points in lines.items():
        # The line starts at the student's own point, which is drawn already, with its bar.
        mark = [index for index, point in enumerate(points) if not _is_own(model, point)]
        if mark:
            _draw_line(panel, key, points, label=label, markevery=mark, **{**style, **hollow})
            label = ""  # one legend entry for all


def _is_own(model: str, point: Point) -> bool:
    """Whether a student is measured at the step count it is named after."""
    return bool(model.endswith(f"-{point['steps']}"))


def _draw_line(panel: Axes, key: str, points: list[Point], **style: Any) -> None:
    points = [point for point in points if key in point]
    if not points:
        return
    x = [point["nfe"] for point in points]
    y = [point[key] for point in points]
    widths = [point.get(f"{key}_interval", 0.0) for point in points]
    panel.errorbar(x, y, widths if any(widths) else None, capsize=2.5, **style)


def _draw_floor(panel: Axes, key: str, floor: Point) -> None:
    if key not in floor:
        return
    value, width = floor[key], floor.get(f"{key}_interval", 0.0)
    style: dict[str, Any] = {"color": "0.35", "zorder": 1}
    panel.axhline(value, linestyle="--", linewidth=1.2, label="floor: real samples", **style)
    if width:
        panel.axhspan(value - width, value + width, alpha=0.18, linewidth=0, **style)


def _dress_distance(panel: Axes, points: list[Point], floor: Point | None) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    panel.set_ylabel("Fréchet distance")
    panel.set_yscale("log", nonpositive="clip")
    # Limits from the values: a bar that reaches 0 would drag them down without end.
    values = [p["frechet_distance"] for p in (points if floor is None else [*points, floor])]
    low, high = min(values) / 1.4, max(values) * 1.4
    panel.set_ylim(low, high)
    subs = (1, 2, 5) if high / low > 10 else (1, 1.5, 2, 3, 4, 5, 7)
    panel.yaxis.set_major_locator(LogLocator(subs=subs))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_locator(NullLocator())


def _dress_nfe(panel: Axes, counts: list[int]) -> None:
    from matplotlib.ticker import NullLocator

    panel.set_xlabel("function evaluations per sample (NFE)")
    panel.set_xscale("log", base=2)
    panel.set_xticks(counts, _tick_labels(counts))
    panel.xaxis.set_minor_locator(NullLocator())


def _tick_labels(counts: list[int]) -> list[str]:
    """A label for each count, empty where it would run into the one before."""
    room = math.log(counts[-1] / counts[0]) / 18
    labels, last = [], 0.0
    for count in counts:
        shown = last == 0 or math.log(count / last) >= room
        labels.append(f"{count:g}" if shown else "")
        last = count if shown else last
    return labels

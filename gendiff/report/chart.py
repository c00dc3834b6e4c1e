"""Small line charts of what was logged while a stage trained."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gendiff.report.svg import add, markup, picture, write
from gendiff.report.views import Curve

_WIDTH, _HEIGHT = 340, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 34  # of the axes, px
_LEGEND = 15  # height of a line of the legend, px
POINTS = 200
"""Most of a curve; of longer ones, means of neighbours."""
SPREAD = 4
"""How many times the least value the largest is on a logarithmic scale."""
COLOURS = 6
"""Of lines, classes ``line-0`` and so on of the page's style."""


def draw_chart(curves: Mapping[str, Curve], label: str, ordered: bool = False) -> str:
    """Lines over steps as SVG, on a logarithmic scale where values are positive and far apart.

    Args:
        curves: name -> (step, value), of which each has one or more, all finite.
        label: what the chart shows, for those who do not see it.
        ordered: colours go from light to dark, as the curves do from one to the next.
    """
    points = [point for curve in curves.values() for point in curve]
    legend = _LEGEND * math.ceil(len(curves) / 3) if len(curves) > 1 else 0
    top, bottom = _TOP + legend, _HEIGHT + legend - _BOTTOM
    root = picture(_WIDTH, _HEIGHT + legend, label)
    least, most = (pick(value for _, value in points) for pick in (min, max))
    log = least > 0 and most > SPREAD * least
    scale = math.log10 if log else float
    low, high = scale(least), scale(most)
    room = max(0.05 * (high - low), 0.02 if log else 0.02 * max(abs(low), abs(high), 1e-12))
    low, high = low - room, high + room
    start, end = (pick(step for step, _ in points) for pick in (min, max))
    start = min(start, 0.0)

    def across(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (step - start) / (end - start or 1)

    def down(value: float) -> float:
        return bottom - (bottom - top) * (scale(value) - low) / (high - low)

    for tick in log_ticks(low, high) if log else ticks(low, high, 4):
        y = down(tick)
        add(root, "path", d=f"M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}", kind="grid")
        write(root, _LEFT - 5, round(y + 4, 1), f"{tick:.4g}", text_anchor="end", kind="tick")
    for tick in ticks(start, end, 4):
        x = across(tick)
        write(root, round(x, 1), bottom + 15, f"{tick:g}", text_anchor="middle", kind="tick")
    write(root, (_LEFT + _WIDTH) / 2, bottom + 30, "steps", text_anchor="middle", kind="tick")
    for number, (name, curve) in enumerate(curves.items()):
        kind = f"line {'shade' if ordered else 'line'}-{number % COLOURS}"
        places = [f"{across(step):.1f} {down(value):.1f}" for step, value in thinned(curve)]
        if len(places) == 1:
            left, _, height = places[0].partition(" ")
            add(root, "circle", cx=left, cy=height, r=3, kind=f"dot {kind}")
        add(root, "path", d=f"M{'L'.join(places)}", kind=kind)
        if legend:
            x, y = _LEFT + number % 3 * 98, 11 + number // 3 * _LEGEND
            add(root, "path", d=f"M{x} {y - 4}h14", kind=kind)
            write(root, x + 18, y, name, 14, kind="tick")
    return markup(root)


def thinned(curve: Curve) -> Curve:
    """At most `POINTS` points: where there are more, each is the mean of neighbours."""
    size = math.ceil(len(curve) / POINTS)
    parts = [curve[first : first + size] for first in range(0, len(curve), size)]
    return [
        (sum(step for step, _ in part) / len(part), sum(value for _, value in part) / len(part))
        for part in parts
    ]


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers in a range, about as many as asked for."""
    span = high - low
    if not 0 < span < math.inf:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * k for k in (1, 2, 5, 10) if span / (power * k) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between two powers of ten, two to seven of them."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    for every in (1, 2, 3, 5, 10, 50):
        tens = [10.0**k for k in decades if k % every == 0 and low <= k <= high]
        if len(tens) <= 6:
            break
    for subs in ((1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        if len(tens) >= 3:
            return tens
        tens = [s * 10.0**k for k in decades for s in subs if low <= math.log10(s) + k <= high]
    return tens if len(tens) >= 2 else [10**x for x in (low, high)]

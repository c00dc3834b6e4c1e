"""A run folder as one page of HTML that needs nothing else: no network, no script.

All that a run folder says is text to it: the template escapes it, and pictures are made anew.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from gendiff.report.chart import draw_chart
from gendiff.report.figures import by_reference, column, main_distance, pareto_front
from gendiff.report.graph import draw_graph
from gendiff.report.inline import inline_curve
from gendiff.report.pictures import Thumbnail, thumbnails
from gendiff.report.svg import legal
from gendiff.report.table import PageTable, caption, page_tables
from gendiff.report.views import Curve, RunView, StageView

_LEVEL = re.compile(r"(?:[\w-]+/)?loss/level-\d+")
_PICTURE = re.compile(r"(.+?)-(\d{1,6})(?:-(.*))?")
MOST = 12
"""Lines of a chart."""
NAMED = 6
"""Stages that are said by name."""
_LONG = 20_000
"""Characters of a stage's config that are shown."""


class Quality(NamedTuple):
    """What was measured against one reference."""

    reference: str
    how: str
    curve: str
    front: str
    tables: list[PageTable]


class Chart(NamedTuple):
    """A stage's curves of one kind."""

    title: str
    drawing: str


class Sample(NamedTuple):
    """A stage's picture at a number of steps."""

    stage: str
    words: str
    image: Thumbnail


def render(run: RunView) -> str:
    """The page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    shelf = FileSystemLoader(Path(__file__).parent)
    settings: dict[str, Any] = {"undefined": StrictUndefined, "autoescape": True}
    settings["finalize"] = lambda v: type(v)(legal(v)) if isinstance(v, str) else v
    env = Environment(loader=shelf, trim_blocks=True, lstrip_blocks=True, **settings)
    words = {"number": number, "duration": duration, "cut": cut, "among": among}
    env.filters |= {**words, "drawn": Markup}
    samples, left_out = grids(run.stages)
    drawn = {stage.name: charts(stage) for stage in run.stages}
    return env.get_template("page.html").render(
        run=run,
        style=Markup((Path(__file__).parent / "page.css").read_text()),
        graph=draw_graph(run.stages),
        quality=qualities(run),
        samples=samples,
        left_out=left_out,
        charts={name: found for name, found in drawn.items() if found},
        long=_LONG,
    )


def qualities(run: RunView) -> list[Quality]:
    """Picture, front and tables a reference."""
    found = []
    for index, (reference, entries) in enumerate(by_reference(run.entries).items()):
        main, floor, curve, front = main_distance(entries), run.floors.get(reference), "", ""
        if main:
            label = f"{column(main).label} against function evaluations, {len(entries)} points."
            curve = inline_curve(entries, floor, f"quality-{index}", label)
            best = [f"{e['model']} at {e['nfe']:g}" for e in pareto_front(entries, main)]
            front = f"{column(main).label}: {', '.join(best)}"
        how = caption(entries, reference, floor)
        found.append(Quality(reference, how, curve, front, page_tables(entries, floor)))
    return found


def grids(stages: Sequence[StageView]) -> tuple[dict[int, list[Sample]], int]:
    """Pictures by number of steps, and how many are left out.

    Where not all fit, each stage's picture of fewest steps goes first.
    """
    ranked = [sorted(stage.pictures, key=lambda p: (steps_of(p), p.name)) for stage in stages]
    turns = zip_longest(*ranked)
    order = [(s, p) for turn in turns for s, p in zip(stages, turn, strict=True) if p]
    found: dict[int, list[Sample]] = {}
    made = thumbnails([path for _, path in order])
    for stage in stages:
        for (owner, path), image in zip(order, made, strict=True):
            if owner is stage and image:
                match = _PICTURE.fullmatch(path.stem)
                words = ", ".join(w for w in (match[1], match[3]) if w) if match else path.stem
                found.setdefault(steps_of(path), []).append(Sample(stage.name, words, image))
    return dict(sorted(found.items())), made.count(None)


def steps_of(picture: Path) -> int:
    """Of a file such as ``ddim-4.png``; 0 where its name does not say."""
    match = _PICTURE.fullmatch(picture.stem)
    return int(match[2]) if match else 0


def charts(stage: StageView) -> list[Chart]:
    """Losses, losses by noise level, and what was watched, as far as they were logged."""
    kinds: dict[str, dict[str, Curve]] = {"Loss": {}, "By noise level": {}, "Watched": {}}
    for name, curve in stage.curves.items():
        last = name.rpartition("/")[2]
        if _LEVEL.fullmatch(name):
            kinds["By noise level"][last] = curve
        elif name.startswith("watch/"):
            kinds["Watched"][last.replace("_", " ")] = curve
        elif last == "loss":
            kinds["Loss"][name] = curve
    found = []
    for title, curves in kinds.items():
        levels = title == "By noise level"
        shown = dict((sorted(curves.items()) if levels else [*curves.items()])[:MOST])
        if shown:
            drawing = draw_chart(shown, f"{stage.name}: {title}.", ordered=levels)
            found.append(Chart(title, drawing))
    return found


def number(value: float | None) -> str:
    """Three significant digits, thousands apart; a dash for none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """In words."""
    if seconds is None:
        return "not recorded"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def cut(text: str, most: int = 160) -> str:
    """A text's beginning."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def among(names: Sequence[str], stages: Sequence[StageView]) -> str:
    """Stages by name, or how many where they are all or too many to read."""
    if len(names) == len(stages) > 1:
        return "all stages"
    return ", ".join(names) if len(names) <= NAMED else f"{len(names)} stages, {names[0]} first"

"""Which measurements make a line of the curve, how the line is called, and how it looks."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from typing import Any

from gendiff.report.figures import Entry

# Okabe & Ito 2008, "Color Universal Design", without yellow, which is faint on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_DASHES = ("-", "--", ":", "-.")
_KEYS = ("model", "sampler", "role", "guidance")
_TELLING = ("model", "sampler")  # said even where all lines share it

Families = dict[str, dict[str, list[Entry]]]
"""Label to model to points in order of NFE. Lines of one label share a colour."""


def families(entries: list[Entry]) -> tuple[Families, str]:
    """Lines, and what all of them share, which no label repeats.

    One line per model and sampler, and per role and guidance where these vary. Models named
    "<chain>-<steps>", such as "halve-8", and measured at so many steps are students of one chain,
    "halve-k", when there are two of them or more.

    Returns:
        families in the order of their first entries, and the words in common, such as "ddim".
    """
    names = _names(entries)
    several = {key: len({e.get(key) for e in entries}) > 1 for key in _KEYS}
    several["model"] = len(set(names)) > 1
    found: Families = defaultdict(lambda: defaultdict(list))
    shared: dict[str, str] = {}
    for entry, name in zip(entries, names, strict=True):
        words = {k: word for k, word in _words(entry, name).items() if several[k] or k in _TELLING}
        same = {key: word for key, word in words.items() if not several[key]}
        own = [word for key, word in words.items() if several[key]]
        if own:
            shared |= same
        found[", ".join(own or same.values())][entry["model"]].append(entry)
    for line in (line for models in found.values() for line in models.values()):
        line.sort(key=lambda entry: entry["nfe"])
    return found, ", ".join(shared.values())


def looks() -> Iterator[dict[str, Any]]:
    """Styles of lines, 196 distinct; also their colour and marker differ 49 times."""
    for index in count():
        turn, place = divmod(index, len(_COLOURS))
        marker = _MARKERS[(place + turn) % len(_MARKERS)]
        dash = _DASHES[turn % len(_DASHES)]
        yield {"color": _COLOURS[place], "marker": marker, "linestyle": dash}


def is_own(entry: Entry) -> bool:
    """Whether a student is measured at the step count it is named after."""
    return bool(entry["model"].endswith(f"-{entry['steps']}"))


def _words(entry: Entry, name: str) -> dict[str, str]:
    words = {"model": name}
    if entry["sampler"] != entry["model"]:
        words["sampler"] = entry["sampler"]
    if "role" in entry:
        words["role"] = entry["role"]
    if "guidance" in entry:
        words["guidance"] = f"guidance {entry['guidance']:g}"
    return words


def _names(entries: list[Entry]) -> list[str]:
    """The model of each entry, or its chain where two students or more are drawn as one."""
    students: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    keys, own = [], {entry["model"] for entry in entries if is_own(entry)}
    for entry in entries:
        match = re.fullmatch(r"(.+)-\d+", entry["model"]) if entry["model"] in own else None
        chain = match[1] if match else None
        keys.append((chain, entry["sampler"], entry.get("role"), entry.get("guidance")))
        students[keys[-1]].add(entry["model"])
    pairs = zip(entries, keys, strict=True)
    return [f"{k[0]}-k" if k[0] and len(students[k]) > 1 else e["model"] for e, k in pairs]

"""The curve of quality against cost within a page: of its colours, its names no one else's."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

from gendiff.report.curve import make_curve, save_curve
from gendiff.report.figures import Entry
from gendiff.report.svg import legal, markup

_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_INKS = {
    "#000000": "var(--ink)",
    "#ffffff": "var(--paper)",
    "#ebebeb": "var(--grid)",
    "#8c8c8c": "var(--front)",
    "#595959": "var(--muted)",
    "#0072b2": "var(--blue)",
    "#009e73": "var(--green)",
}
"""Colours of the picture that change with the page's, as the page's style has them."""


def inline_curve(entries: list[Entry], floor: Entry | None, prefix: str, label: str) -> str:
    """The picture of `draw_curve` as an element of a page.

    Args:
        prefix: begins every id in it, so that several pictures share a page.
        label: what it shows, for those who do not see it.
    """
    file = io.BytesIO()
    words = ("model", "sampler", "role")
    named = [{k: plain(v) if k in words else v for k, v in entry.items()} for entry in entries]
    save_curve(make_curve(named, floor), file, "svg")
    root = ElementTree.fromstring(file.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{_SVG}metadata":
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        if _LINK in element.attrib:
            element.set("href", element.attrib.pop(_LINK))
        for key, value in element.attrib.items():
            if key == "id":
                value = f"{prefix}-{value}"
            value = re.sub(r"^#(?=\D)|(?<=url\(#)", lambda m: f"{m[0]}{prefix}-", value)
            if key in ("style", "fill", "stroke"):
                value = re.sub("#[0-9a-f]{6}", lambda m: _INKS.get(m[0], m[0]), value)
            element.set(key, value)
    root.attrib = {"viewBox": root.get("viewBox", ""), "role": "img", "aria-label": legal(label)}
    return markup(root)


def plain(name: str) -> str:
    """A name as it stands: matplotlib takes $ for mathematics and hides what begins with _."""
    text = legal(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text

"""SVG that goes into a page: made as a tree, so that no text in it can be markup."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring


def picture(width: float, height: float, label: str) -> Element:
    """An empty picture.

    Args:
        label: what it shows, for those who do not see it.
    """
    box = f"0 0 {width:g} {height:g}"
    size = {"viewBox": box, "width": f"{width:g}", "height": f"{height:g}"}
    return Element("svg", {**size, "role": "img", "aria-label": legal(label)})


def add(parent: Element, tag: str, **attributes: Any) -> Element:
    """A shape; ``kind`` is its class, floats are rounded, _ in names becomes -."""
    named = {("class" if k == "kind" else k).replace("_", "-"): v for k, v in attributes.items()}
    plain = {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in named.items()}
    return SubElement(parent, tag, plain)


def write(parent: Element, x: float, y: float, text: str, most: int = 0, **attributes: Any) -> None:
    """A line of text, cut after ``most`` characters if that is not 0; whole it is its title."""
    element = add(parent, "text", x=x, y=y, **attributes)
    whole = legal(text)
    element.text = whole
    if 0 < most < len(whole):
        element.text = f"{whole[: most - 1]}…"
        add(element, "title").text = whole


def legal(text: str) -> str:
    """Text without control characters, which markup cannot hold and readers may obey."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def markup(root: Element) -> str:
    """The tree as text."""
    return tostring(root, encoding="unicode")

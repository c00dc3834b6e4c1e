"""A page as its elements, and what any page must be."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "link", "img", "br", "hr", "input"}
FOREIGN = re.compile(r"\s*(?:https?:|//|javascript:|file:)", re.I)


class Page(HTMLParser):
    """Elements as (tag, attributes), the text within each tag, and what was left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.texts.setdefault(tag, []).append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in {*self.open}:
            self.texts[tag][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def parsed(text: str) -> Page:
    """The page, once it is seen to be whole, legible without sight, and alone."""
    page = Page(text)
    assert not page.open
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len({*ids})
    inside = [a["href"][1:] for _, a in page.elements if (a.get("href") or "").startswith("#")]
    assert {*inside} <= {*ids}
    assert all(a.get("alt") for a in page.all("img"))
    assert all(a.get("aria-label") for a in page.all("svg"))
    assert all(a.get("scope") for a in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert {"main", "nav", "header", "title"} <= {tag for tag, _ in page.elements}
    assert page.all("html") == [{"lang": "en"}]
    # nothing that runs, and nothing from elsewhere
    assert not {"script", "iframe", "object", "embed", "form", "base"} & {*page.texts}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        links = [attributes.get(name) or "" for name in ("href", "src", "xlink:href")]
        assert not any(FOREIGN.match(link) for link in links), links
    styles = [*page.texts["style"], *(a.get("style") or "" for _, a in page.elements)]
    assert not re.search(r"@import|url\((?!#)", "".join(styles))
    return page

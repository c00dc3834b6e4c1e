"""Pictures of samples as text in a page, together no larger than it may be."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

BUDGET = 3_500_000
"""Characters of all pictures of a page."""
SIDES = (360, 280, 200, 140, 96)
"""Longest sides that are tried, px, the largest first."""
MOST = 400
"""Pictures of a page; those beyond are left out before any is read."""
_PIXELS = 20_000_000  # of a picture that is opened at all


class Thumbnail(NamedTuple):
    """A picture as an ``img`` takes it."""

    uri: str
    width: int
    height: int


def thumbnails(paths: Sequence[Path], budget: int = BUDGET) -> list[Thumbnail | None]:
    """Pictures made anew from their pixels, small enough to share a budget.

    All are shrunk alike; where the smallest are still too large, the last are left out.

    Args:
        paths: of PNG files, the most telling first.
        budget: characters of all of them.

    Returns:
        one a path; None for what is no picture, or left out.
    """
    for side in SIDES:
        made = [thumbnail(path, side) for path in paths[:MOST]]
        if sum(len(one.uri) for one in made if one) <= budget:
            break
    left, kept = budget, list[Thumbnail | None]()
    for one in made:
        left -= len(one.uri) if one else 0
        kept.append(one if left >= 0 else None)
    return kept + [None] * (len(paths) - len(made))


def thumbnail(path: Path, side: int) -> Thumbnail | None:
    """A picture whose sides are no longer than asked; None if the file is none."""
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as found:
            if found.width * found.height > _PIXELS:
                return None
            image = found.convert("L" if found.mode in ("1", "L", "LA") else "RGB")
    except Exception:  # bytes of any kind end in errors of any kind
        return None
    image.thumbnail((side, side), reducing_gap=1.5)
    file = io.BytesIO()
    image.save(file, format="PNG")
    text = base64.b64encode(file.getvalue()).decode()
    return Thumbnail(f"data:image/png;base64,{text}", image.width, image.height)

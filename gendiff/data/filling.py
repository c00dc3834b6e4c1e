"""Filling a pair store, by as many processes as there are, however often they are killed.

Each shard is a function of its place alone and is written whole, with its digest beside it; the
stamp comes last. So a finished store shows neither how many processes made it nor what became of
them, and a shard that is found is made again unless its digest says that it is right.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gendiff.data.base import Batch
from gendiff.data.pairs import (
    STAMP,
    Layout,
    Records,
    read_stamp,
    shard_name,
    write_shard,
    write_stamp,
)
from gendiff.errors import UserError
from gendiff.ranks import here
from gendiff.storage import read_json, sha256, write_json

BATCH = 256
"""Most rows made at a time; part of what the rows are, by rounding."""

Make = Callable[[Tensor], Batch]


def write_store(
    folder: Path,
    layout: Layout,
    origin: Mapping[str, Any],
    make: Make,
    progress: Callable[[int], None],
) -> dict[str, str]:
    """Make the shards that are not there yet, then the stamp; every process of a group calls it.

    Args:
        origin: where the rows come from, as plain values.
        make: rows {x0, eps, label} from consecutive indices, a function of them alone.
        progress: told how many rows are there, so far as this process knows.

    Returns:
        SHA-256 by file name.

    Raises:
        UserError: the rows cannot be made or written.
    """
    ranks, store = here(), identity(layout, origin)

    def find() -> dict[str, str]:
        known, shards = stamped(folder, layout, origin), {}
        for shard in range(*ranks.share(layout.shards)):
            name = shard_name(shard)
            digest = known.get(name) or noted(folder, shard, store)
            if digest and (folder / name).is_file() and sha256(folder / name) == digest:
                shards[name] = digest
        return shards

    kept = merged(ranks.together(find))
    missing = [shard for shard in range(layout.shards) if shard_name(shard) not in kept]

    def fill() -> dict[str, str]:
        part, made = missing[slice(*ranks.share(len(missing)))], {}
        left = sum(len(layout.span(shard)) for shard in part)
        for shard in part:
            progress(max(0, layout.count - left * ranks.world))
            name = shard_name(shard)
            made[name] = write_shard(folder / name, records_of(layout, shard, make))
            write_json(beside(folder, shard), {"store": store, "sha256": made[name]})
            left -= len(layout.span(shard))
        progress(layout.count)
        return made

    digests = dict(sorted((kept | merged(ranks.together(fill))).items()))

    def finish() -> str:
        return seal(folder, layout, origin, digests) if ranks.first else ""

    return {**digests, STAMP: ranks.together(finish)[0]}


def seal(
    folder: Path, layout: Layout, origin: Mapping[str, Any], digests: Mapping[str, str]
) -> str:
    """Write the stamp, and leave nothing else beside the shards; returns the stamp's SHA-256."""
    digest = write_stamp(folder, layout, origin, digests)
    for path in folder.iterdir():
        if path.name != STAMP and path.name not in digests and path.is_file():
            path.unlink()
    return digest


def records_of(layout: Layout, shard: int, make: Make) -> Records:
    """A shard's rows, made a batch at a time."""
    span = layout.span(shard)
    records = np.empty(len(span), layout.descr)
    for first in range(0, len(span), BATCH):
        part = records[first : first + BATCH]
        rows = make(torch.arange(span[first], span[first] + len(part)))
        for name in ("x0", "eps", "label"):
            part[name] = rows[name].cpu().numpy()
    return records


def merged(parts: list[dict[str, str]]) -> dict[str, str]:
    return {name: digest for part in parts for name, digest in part.items()}


def identity(layout: Layout, origin: Mapping[str, Any]) -> str:
    """One digest for all that makes two stores the same."""
    text = json.dumps([layout.count, layout.shape, origin], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def beside(folder: Path, shard: int) -> Path:
    """Where a shard's digest waits for the stamp."""
    return (folder / shard_name(shard)).with_suffix(".json")


def noted(folder: Path, shard: int, store: str) -> str | None:
    """The digest beside a shard, if it is one of this store's."""
    try:
        note = read_json(beside(folder, shard))
    except UserError:
        return None
    return note.get("sha256") if isinstance(note, dict) and note.get("store") == store else None


def stamped(folder: Path, layout: Layout, origin: Mapping[str, Any]) -> dict[str, str]:
    """The digests of a stamp that this very store has: it was killed before its stage was done."""
    try:
        theirs, whence, digests = read_stamp(folder)
    except UserError:
        return {}
    return digests if identity(theirs, whence) == identity(layout, origin) else {}

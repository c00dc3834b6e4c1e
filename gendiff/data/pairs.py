"""The pair store: rows a product stage made, in shards that are each written whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from gendiff.data.base import Batch, Rows
from gendiff.storage import sha256
from gendiff.weights import read_tensors, save_tensors

SHARD = 1024
"""Rows a shard; a killed run loses at most one."""


def shard_name(product: str, number: int) -> str:
    return f"products/{product}/{number:05d}.safetensors"


def write_store(
    folder: Path,
    product: str,
    count: int,
    produce: Callable[[Tensor], Batch],
    progress: Callable[[int], None],
) -> dict[str, str]:
    """Make all shards that are not there yet; returns file name -> SHA-256.

    Rows are a function of their index, so what a killed run has left is right as it is.
    """
    digests = {}
    for number, first in enumerate(range(0, count, SHARD)):
        name, last = shard_name(product, number), min(count, first + SHARD)
        if (folder / name).exists():
            digests[name] = sha256(folder / name)
        else:
            rows = produce(torch.arange(first, last))
            digests[name] = save_tensors(rows, folder / name)
        progress(last)
    return digests


def read_store(paths: list[Path]) -> Rows:
    """The rows of a finished product, from its shards in order."""
    shards = [read_tensors(path) for path in paths]
    return Rows(**{name: torch.cat([shard[name] for shard in shards]) for name in shards[0]})

"""The pair store: rows {x0, eps, label} in shards that are mapped, never read whole, and a stamp.

A shard is a .npy file of records, so that a row lies in one place. The stamp, ``stamp.json``, says
where the rows come from and holds every shard's SHA-256; what it does not vouch for is not read.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch.utils.data import Dataset

from gendiff.data.base import Batch
from gendiff.errors import UserError
from gendiff.storage import read_json, sha256, write_atomic, write_json

SHARD_ROWS = 1024
"""Most rows of a shard; a killed process loses at most one shard."""
SHARD_BYTES = 2**25
"""Most bytes of a shard, unless a single row has more: what writing takes of memory."""
MAPPED = 128
"""Most shards mapped at a time: each holds a file open."""
STAMP = "stamp.json"
FORMAT = 1

Records = NDArray[Any]


@dataclass(frozen=True)
class Layout:
    """How many rows there are, of which shape, and so which shards.

    Attributes:
        count: of the rows.
        shape: of x0 and of eps, float32.
    """

    count: int
    shape: tuple[int, ...]

    @property
    def descr(self) -> list[Any]:
        """The record that is a row, as ``np.dtype`` reads it."""
        return [("x0", "<f4", self.shape), ("eps", "<f4", self.shape), ("label", "<i8")]

    @property
    def rows(self) -> int:
        """Of every shard but the last."""
        row = 2 * 4 * prod(self.shape) + 8
        return max(1, min(SHARD_ROWS, SHARD_BYTES // row))

    @property
    def shards(self) -> int:
        return -(-self.count // self.rows)

    def span(self, shard: int) -> range:
        """Indices of a shard's rows."""
        return range(shard * self.rows, min(self.count, (shard + 1) * self.rows))


def shard_name(shard: int) -> str:
    return f"{shard:05d}.npy"


def write_shard(path: Path, records: Records) -> str:
    """Write a shard; returns its SHA-256."""
    header = io.BytesIO()
    npy.write_array_header_1_0(header, npy.header_data_from_array_1_0(records))

    def write(file: Any) -> None:
        file.write(header.getvalue())
        file.write(records.view(np.uint8).data)

    return write_atomic(path, write)


def write_stamp(
    folder: Path, layout: Layout, origin: Mapping[str, Any], shards: Mapping[str, str]
) -> str:
    """Write what makes a folder of shards a store; returns the stamp's SHA-256.

    Args:
        origin: where the rows come from, as plain values.
        shards: SHA-256 of every shard, by name.
    """
    stamp = {
        "format": FORMAT,
        "origin": dict(origin),
        "count": layout.count,
        "shape": list(layout.shape),
        "dtype": "float32",
        "shards": dict(shards),
    }
    return write_json(folder / STAMP, stamp)


def read_stamp(folder: Path) -> tuple[Layout, dict[str, Any], dict[str, str]]:
    """A store's layout, its origin, and its shards' SHA-256 by name.

    Raises:
        UserError: there is none, or it is not what a store's stamp must be.
    """
    stamp = read_json(folder / STAMP)
    try:
        sizes, shards, origin = [stamp["count"], *stamp["shape"]], stamp["shards"], stamp["origin"]
        sound = stamp["format"] == FORMAT and stamp["dtype"] == "float32"
        sound = sound and isinstance(origin, dict) and isinstance(shards, dict)
        if sound and all(type(size) is int and size > 0 for size in sizes):
            layout = Layout(sizes[0], tuple(sizes[1:]))
            # compared by number first: a count that is not true must not make a list
            if len(shards) == layout.shards and {*shards} == {*map(shard_name, range(len(shards)))}:
                return layout, origin, shards
    except (KeyError, TypeError):
        pass
    raise UserError(f"{folder / STAMP}: damaged, or not the stamp of a pair store.")


def check_shard(path: Path, digest: str) -> None:
    """
    Raises:
        UserError: a shard is missing, or is not the one that was written.
    """
    if not path.is_file():
        raise UserError(f"{path}: missing; the store had written it.")
    if sha256(path) != digest:
        raise UserError(f"{path}: damaged or of another store: its digest is not the stamp's.")


class PairStore(Dataset[Batch]):
    """A finished store; a row is read from its mapped shard when it is asked for.

    Args:
        folder: where the stamp and the shards are, which are for the caller to `check_shard`, once.

    Attributes:
        layout, origin: how many rows of which shape, and where they come from.
        digests: SHA-256 of each shard, by name.

    Raises:
        UserError: there is no sound stamp.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.layout, self.origin, self.digests = read_stamp(folder)
        self._maps: dict[int, Records] = {}

    def __len__(self) -> int:
        return self.layout.count

    def __getitem__(self, index: int) -> Batch:
        return {name: rows[0] for name, rows in self.__getitems__([index]).items()}

    def __getitems__(self, indices: list[int]) -> Batch:
        """A whole batch at once, {x0, eps, label, index}: the loader's fast way.

        Raises:
            IndexError: there is no such row.
            UserError: a shard is gone since the store was opened.
        """
        picked = np.asarray(indices, dtype=np.int64)
        if ((picked < 0) | (picked >= len(self))).any():
            raise IndexError(f"{self.folder}: holds rows 0 to {len(self) - 1}")
        shards, places = picked // self.layout.rows, picked % self.layout.rows
        # mapped before memory is taken: a shard that holds such rows proves their size
        records = np.empty(len(picked), self._mapped(int(shards[0])).dtype)
        for shard in np.unique(shards).tolist():
            here = shards == shard
            records[here] = self._mapped(shard)[places[here]]
        columns = {name: records[name].copy() for name in ("x0", "eps", "label")}
        return {name: torch.from_numpy(values) for name, values in columns.items()} | {
            "index": torch.from_numpy(picked)
        }

    def _mapped(self, shard: int) -> Records:
        if shard not in self._maps:
            path = self.folder / shard_name(shard)
            try:
                records = npy.open_memmap(path, mode="r")
            except Exception as error:  # what NumPy raises at damaged headers is no short list
                why = " ".join(str(error).split())[:160]
                raise UserError(f"{path}: cannot be read ({why}).") from None
            fits = records.dtype.descr == self.layout.descr
            if not fits or records.shape != (len(self.layout.span(shard)),):
                raise UserError(f"{path}: does not hold the rows that {STAMP} says.")
            while len(self._maps) >= MAPPED:
                del self._maps[next(iter(self._maps))]
            self._maps[shard] = records
        return self._maps[shard]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}  # other processes map for themselves

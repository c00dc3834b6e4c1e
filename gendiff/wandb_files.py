"""W&B's own files of a run, read without W&B's server: what was logged, under which id.

W&B describes their records, and has shipped no reader of them since 0.31.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gendiff.errors import UserError

HEADER = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
"""Begins a file; records follow in LevelDB's log format, with zlib's checksums."""
BLOCK, CHUNK = 2**15, struct.Struct("<IHB")
"""A block's bytes; a chunk's header: checksum, bytes, and which part of a record it is."""
FULL, FIRST, MIDDLE, LAST = range(1, 5)
LIMIT = 2**26
"""Most bytes of a record."""
STEP = "step"
"""Column of a row that holds gendiff's own step; W&B's is ``_step``."""


@dataclass
class Logged:
    """What W&B was given of one run, by all processes that had it."""

    id: str
    group: str = ""
    name: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    """gendiff's step -> what was logged of it; what was logged again counts once."""
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name -> metadata."""


def files_in(folder: Path) -> list[Path]:
    """W&B's files anywhere in a folder, or the one that is named."""
    return sorted(folder.rglob("run-*.wandb")) if folder.is_dir() else [folder]


def read_runs(folder: Path) -> dict[str, Logged]:
    """All runs whose files lie in a folder, by id.

    Raises:
        UserError: a file is damaged, or none of W&B's. The torn end of one that a kill has left is
            no damage.
    """
    begun = []
    for path in files_in(folder):
        records = list(read_records(path))
        run = next((r.run for r in records if r.WhichOneof("record_type") == "run"), None)
        if run is not None:
            begun.append((run.start_time.seconds, run.start_time.nanos, str(path), run, records))
    runs: dict[str, Logged] = {}
    for *_, name, run, records in sorted(begun, key=lambda file: file[:3]):
        logged = runs.setdefault(run.run_id, Logged(run.run_id))
        logged.group, logged.name = run.run_group, run.display_name
        for record in records:
            try:
                take(record, logged)
            except (ValueError, TypeError, RecursionError, AttributeError):
                raise UserError(f"{name}: damaged, a record is not what W&B writes.") from None
    return runs


def take(record: Any, logged: Logged) -> None:
    """Add what a record says."""
    kind = record.WhichOneof("record_type")
    if kind == "run":
        logged.config |= values(record.run.config.update)
    elif kind == "config":
        logged.config |= values(record.config.update)
    elif kind == "summary":
        logged.summary |= values(record.summary.update)
    elif kind == "history":
        row = values(record.history.item)
        if type(row.get(STEP)) is int:
            logged.rows[row[STEP]] = row
    elif kind == "artifact":
        metadata = json.loads(record.artifact.metadata or "{}")
        logged.artifacts[record.artifact.name] = {**metadata}


def values(items: Any) -> dict[str, Any]:
    """Key, or keys joined by dots -> value."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def last_step(folder: Path) -> int:
    """gendiff's last step in W&B's files of a stage; 0 if there is none."""
    return max((step for run in read_runs(folder).values() for step in run.rows), default=0)


def read_records(path: Path) -> Iterator[Any]:
    """The records of a file, up to where a kill has torn it.

    Raises:
        UserError: none of W&B's files, or a damaged one.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # with W&B
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # built late

    for data in read_frames(path):
        record = Record()
        try:
            record.ParseFromString(data)
        except DecodeError:
            raise UserError(f"{path}: damaged, a record cannot be read.") from None
        yield record


def read_frames(path: Path) -> Iterator[bytes]:
    """The bytes of each whole record."""
    try:
        with path.open("rb") as file:
            begin, whole = file.read(len(HEADER)), b""
            if begin != HEADER[: len(begin)]:
                raise UserError(f"{path}: not a file of W&B's.")
            while True:
                room = BLOCK - file.tell() % BLOCK
                if room < CHUNK.size:
                    file.seek(room, 1)
                    room = BLOCK
                head = file.read(CHUNK.size)
                if len(head) < CHUNK.size or not any(head):
                    return
                checksum, size, kind = CHUNK.unpack(head)
                data, fits = file.read(size), size <= room - CHUNK.size
                if fits and len(data) < size:
                    return
                follows = kind in (MIDDLE, LAST)
                if (
                    not fits
                    or zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum
                    or not FULL <= kind <= LAST
                    or follows != bool(whole)
                    or len(whole) + size > LIMIT
                ):
                    raise UserError(f"{path}: damaged, byte {file.tell()} is not what was written.")
                whole += data
                if kind in (FULL, LAST):
                    yield whole
                    whole = b""
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None

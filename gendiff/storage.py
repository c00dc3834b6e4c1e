"""Files that are whole or absent: atomic writes, digests, and a lock per run folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from gendiff.errors import UserError

REFUSED = (
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
)


@contextmanager
def user_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses (full disk, no permission) into a `UserError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{path}: the disk is full. Free some space and run again.") from error
        if error.errno in REFUSED:
            raise UserError(f"{path}: cannot be written ({error.strerror}).") from error
        raise


def fsync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """``mkdir -p``, with a clear line when it cannot be."""
    with user_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


def write_atomic(path: Path, write: Callable[[IO[bytes]], Any]) -> str:
    """Write a file through a sibling temporary one; returns its SHA-256.

    ``write`` receives an open binary file. A reader, or a crash at any instant, sees either the
    old file or the whole new one: temp file, fsync, rename, fsync of the folder.
    """
    make_folder(path.parent)
    with user_errors(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            digest = sha256(Path(name))
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        fsync_folder(path.parent)
    return digest


def write_text(path: Path, text: str) -> str:
    """Atomic write of text; returns its SHA-256."""
    return write_atomic(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> str:
    """Atomic write of indented JSON; returns its SHA-256."""
    return write_text(path, json.dumps(value, indent=2, sort_keys=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        UserError: the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged, not valid JSON ({error}).") from None


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep_temporaries(folder: Path) -> None:
    """Remove what writes that were killed have left behind. Call it under the folder's lock."""
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def locked(folder: Path) -> bool:
    """Whether someone holds a folder's lock; leaves no trace."""
    try:
        with (folder / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none
        return False
    return False


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a folder against a second run; the operating system frees it when the process dies."""
    make_folder(folder)
    with user_errors(folder):
        guard = FileLock(folder / ".lock")
        try:
            guard.acquire(timeout=0)
        except Timeout:
            raise UserError(f"{folder}: another gendiff run is using this folder.") from None
    try:
        yield
    finally:
        guard.release()

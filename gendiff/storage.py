"""Files that are whole or absent: atomic writes, digests, and a lock per run folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from gendiff.errors import REFUSED, UserError

SEAL = "seal"
"""Key of a JSON mapping's digest of all the rest of it."""
SETTLED = 2.0
"""Seconds after which a file's time is sure to tell a later change of it."""


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
        name = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # less the umask
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            digest = sha256(name)
            os.replace(name, path)
        except BaseException:
            name.unlink(missing_ok=True)
            raise
        fsync_folder(path.parent)
    return digest


def write_text(path: Path, text: str) -> str:
    """Atomic write of text; returns its SHA-256."""
    return write_atomic(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> str:
    """Atomic write of indented JSON, a mapping with its `seal`; returns its SHA-256."""
    value = sealed(value) if isinstance(value, dict) else value
    return write_text(path, json.dumps(value, indent=2, sort_keys=False, allow_nan=False) + "\n")


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """A mapping with a digest of all else in it: what is changed in its file is then found."""
    rest = {key: value for key, value in record.items() if key != SEAL}
    plain = json.dumps(json.loads(json.dumps(rest)), sort_keys=True)
    return {**rest, SEAL: hashlib.sha256(plain.encode()).hexdigest()}


def unsealed(record: dict[str, Any]) -> dict[str, Any] | None:
    """A mapping without its seal, which one by another hand may lack; None if it is broken."""
    rest = {key: value for key, value in record.items() if key != SEAL}
    return rest if SEAL not in record or sealed(rest) == record else None


def read_json(path: Path) -> Any:
    """Read JSON, a mapping without its seal.

    Raises:
        UserError: the file is missing, not JSON, or was changed since it was written.
    """
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged, not valid JSON ({error}).") from None
    if not isinstance(value, dict):
        return value
    if (record := unsealed(value)) is None:
        raise UserError(f"{path}: damaged, or changed since it was written.")
    return record


def sha256(path: Path) -> str:
    """Hex digest of a file's content.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None


_known: dict[tuple[Any, ...], str] = {}


def known_sha256(path: Path) -> str:
    """`sha256`, computed once by this process for a file that nobody has written to since.

    For plans alone: whoever reads a file's content computes it anew. A file is known by its inode,
    size and times; one so young that a change might leave its times as they are is not.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    times = found.st_mtime_ns, found.st_ctime_ns
    if time.time() - max(times) / 1e9 < SETTLED:
        return sha256(path)
    mark = (str(path.absolute()), found.st_dev, found.st_ino, found.st_size, *times)
    if mark not in _known:
        _known[mark] = sha256(path)
    return _known[mark]


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


class Busy(UserError):
    """Another process holds the lock."""


def lock_of(folder: Path) -> Path:
    """The folder whose lock guards a stage's folder, by whatever link that is reached."""
    real = Path(os.path.realpath(folder))  # of a loop of links too
    return real.parent / ".locks" / real.name


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a folder against a second run; the operating system frees it when the process dies.

    Raises:
        Busy: another process holds it.
    """
    make_folder(folder)
    with user_errors(folder):
        guard = FileLock(folder / ".lock")
        try:
            guard.acquire(timeout=0.5)  # a look at the lock holds it for an instant
        except Timeout:
            raise Busy(f"{folder}: another gendiff run is using this folder.") from None
    try:
        yield
    finally:
        guard.release()

"""The one error a user is meant to see, and what helps to say it."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

REFUSED = (
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EBUSY,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.EFBIG,
    errno.EIO,
    errno.ELOOP,
    errno.ENAMETOOLONG,
)
"""What the operating system says where the path, or who asks, is at fault."""


class UserError(Exception):
    """A mistake of the user's, told in a line or two: what, where, and what would be right.

    The command line prints it without a traceback and exits with code 2.
    """

    shared = False
    """Whether all processes of the run have raised it: then one says it."""


class Interrupted(BaseException):
    """A signal asked the run to stop; everything needed to go on is saved (exit code 75).

    No library's ``except Exception`` may swallow it.
    """

    shared = False
    """As of `UserError`."""


class Lost(Exception):
    """Another process of the run is gone or silent; told in a line (exit code 1)."""


def check_count(key: str, count: int, least: int, most: int) -> None:
    """Refuse a number while a config loads, one so large as well that nothing would ever begin.

    Raises:
        ValueError: the message begins with the key.
    """
    if count < least:
        raise ValueError(f"{key}: {count} must be at least {least}")
    if count > most:
        raise ValueError(f"{key}: {count} must be at most {most}")


def other_rows(where: str, was: int, now: int, way: str = "or choose another --dir") -> UserError:
    """Data have changed: what is held out and the order of rows are functions of their number."""
    text = f"{was} rows to train on before, but {now} now; put them back, {way}"
    return UserError(f"{where}: {text}.")


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """``' Did you mean 'x'?'`` for a near miss, else the list of what is allowed."""
    allowed = sorted(map(str, allowed))
    near = difflib.get_close_matches(str(word), allowed, n=1)  # YAML has numbers for keys too
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Allowed: {', '.join(allowed)}." if allowed else ""


def printable(text: str) -> str:
    """Text whose control characters, which a terminal might obey, are written out."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)

"""Standard output and error that end no command: what nobody can take is lost, and told."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import Any

UNHEARD = (errno.EPIPE, errno.EIO)
"""The reader, e.g. ``head``, has seen enough; the terminal is gone."""


class Stream(io.FileIO):
    """A file descriptor that takes all that is written; ``lost`` is why some of it is not there."""

    lost: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            while (taken := super().write(data)) is None:  # another program has set it so
                select.select([], [self], [])
            return taken
        except OSError as error:
            self.lost = self.lost or error
            return memoryview(data).nbytes


def take_streams() -> Stream:
    """Put such streams in the place of the standard ones; returns that of the output.

    A standard stream that is closed is the null device from here on: files that are opened later
    would take its number, and with it what libraries say.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free
    out, err = Stream(1, "w", closefd=False), Stream(2, "w", closefd=False)
    sys.stdout, sys.stderr = text(out, sys.stdout), text(err, sys.stderr)
    return out


def text(stream: Stream, old: Any) -> io.TextIOWrapper:
    """A stream of words; those that its encoding does not have are written out."""
    words = getattr(old, "encoding", None) or "utf-8"
    at_once = getattr(old, "write_through", False)  # PYTHONUNBUFFERED
    lines = at_once or stream.isatty() or stream.fileno() == 2
    buffer = io.BufferedWriter(stream)
    return io.TextIOWrapper(buffer, words, "backslashreplace", line_buffering=lines)


def why_lost(stream: Stream) -> str:
    """Why not all that was said has been written; empty if it was, or if nobody was to read it."""
    sys.stdout.flush()
    error = stream.lost
    return "" if error is None or error.errno in UNHEARD else str(error.strerror)

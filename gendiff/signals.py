"""Signals that ask a run to stop: remembered, and acted on between two steps."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from gendiff.errors import Interrupted

FOLLOW = "GENDIFF_FOLLOW"
"""Environment variable of a process that is to stop when the one that started it dies."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stop:
    """Set by a signal; a training loop reads ``asked`` after each step.

    While ``patient`` is False (nothing is half done: evaluation, sampling) the signal raises at
    once instead.
    """

    def __init__(self) -> None:
        self.asked, self.patient, self.listens = False, False, False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        hurry = self.asked and number == signal.SIGINT  # a launcher may repeat the others
        self.asked = True
        if hurry or not self.patient:
            raise Interrupted(signal.Signals(number).name)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals for as long as the block runs."""
        old = {number: signal.getsignal(number) for number in SIGNALS}
        self.listens = True
        self.take_back()
        try:
            yield
        finally:
            self.listens = False
            for number, handler in old.items():
                signal.signal(number, handler)

    def take_back(self) -> None:
        """Take the signals from a library that has begun to answer them too, if we listen."""
        if self.listens:
            for number in SIGNALS:
                signal.signal(number, self._handle)

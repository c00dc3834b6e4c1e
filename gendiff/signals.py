"""Signals that ask a run to stop: remembered, and acted on between two steps."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from gendiff.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stop:
    """Set by a signal; a training loop reads ``asked`` after each step.

    While ``patient`` is False (nothing is half done: evaluation, sampling) the signal raises at
    once instead.
    """

    def __init__(self) -> None:
        self.asked, self.patient = False, False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        if again and number != signal.SIGINT:
            return  # a launcher repeats what a terminal has told its processes already
        if again or not self.patient:
            raise Interrupted(signal.Signals(number).name)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals for as long as the block runs."""
        old = {number: signal.signal(number, self._handle) for number in SIGNALS}
        try:
            yield
        finally:
            outer = getattr(old[signal.SIGTERM], "__self__", None)
            if isinstance(outer, Stop):  # which hears of what was heard within
                outer.asked |= self.asked
            for number, handler in old.items():
                signal.signal(number, handler)

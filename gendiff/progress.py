"""What a person sees while a pipeline runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PLAIN_SECONDS = 15.0
"""Between two plain lines."""


def clock(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


class Task:
    """Progress of one stage: step, loss, images per second, time left."""

    def __init__(
        self, reporter: Reporter, title: str, total: int, done: int | None, verb: str
    ) -> None:
        self.reporter, self.verb, self.total = reporter, verb, total
        self.loss: float | None = None
        self.first, self.begun, self.told = done, time.monotonic(), time.monotonic()
        self.bar = reporter.bars.add_task(title, total=total, completed=done or 0, note="")

    def update(self, done: int, samples: int = 0, loss: float | None = None) -> None:
        """After ``done`` of ``total`` steps of ``samples`` each."""
        now = time.monotonic()
        if self.first is None:
            self.first, self.begun = done, now
        seconds = max(now - self.begun, 1e-9)
        speed = (done - self.first) / seconds
        left = (self.total - done) / speed if speed else 0.0
        notes = [] if loss is None else [f"loss {loss:.4g}"]
        if samples:
            notes.append(f"{speed * samples:,.0f} samples/s")
        whole = []
        if self.verb == "step" and self.reporter.ahead:
            whole = [f"all stages: about {clock(left + self.reporter.ahead / speed)}"]
        self.reporter.bars.update(self.bar, completed=done, note="  ".join(notes + whole))
        if not self.reporter.live and (now - self.told > PLAIN_SECONDS or done == self.total):
            self.told = now
            words = [f"  {self.verb} {done}/{self.total}", *notes]
            words += [f"{clock(left)} left"] if speed else []
            self.reporter.say("  ".join(words + whole))


class Reporter:
    """Says what is going on; ``quiet`` says nothing (ranks other than zero, tests)."""

    def __init__(self, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.ahead = 0
        """Batches of the stages after this one; how long they take is guessed by its speed."""
        plain = None if sys.stdout.isatty() else 110  # a pipe says no width: tables need some
        self.console = Console(quiet=quiet, width=plain, soft_wrap=True, highlight=False)
        self.live = self.console.is_terminal and not quiet
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.live,
            transient=True,
        )

    def say(self, text: str, **style: Any) -> None:
        """A line that stays."""
        self.console.print(text, markup=False, **style)
        sys.stdout.flush()

    def warn(self, text: str) -> None:
        """A line on standard error."""
        print(text, file=sys.stderr, flush=True)

    @contextmanager
    def task(
        self, title: str, total: int, done: int | None = 0, verb: str = "step"
    ) -> Iterator[Task]:
        """A bar for as long as the block runs.

        Args:
            done: before it, which counts for no speed; None if the first update says so.
            verb: begins the plain lines.
        """
        with self.bars:
            task = Task(self, title, total, done, verb)
            try:
                yield task
            finally:
                self.bars.remove_task(task.bar)

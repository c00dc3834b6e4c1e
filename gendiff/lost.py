"""When a process has gone silent: one line that names it, instead of a wait or a traceback."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch.distributed as dist

from gendiff.errors import Interrupted, Lost

SECONDS = 3.0
"""For the others to notice as well."""


@contextmanager
def losing(store: Any, rank: int, world: int, what: str) -> Iterator[None]:
    """Tell who is missing when a message between processes fails.

    Args:
        store: where all ranks can write; None if it was never found.
        what: is being done, which begins the message.

    Raises:
        Lost: another rank has gone, or has been silent for too long.
    """
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise Lost(f"{what}: rank {rank} of {world} {silence(store, rank, world)}") from None


def silence(store: Any, rank: int, world: int) -> str:
    """What this rank knows of those that do not answer.

    Ranks that are alive notice too, and write so into the store.
    """
    gone: list[int] | None = None
    answered = threading.Event()  # a thread's own join is not to be trusted after a signal

    def ask() -> None:
        nonlocal gone
        with suppress(RuntimeError, AttributeError):  # dist.DistError, or no store
            store.set(f"lost/{rank}", "")
            time.sleep(SECONDS)
            gone = [r for r in range(world) if r != rank and not store.check([f"lost/{r}"])]
        answered.set()

    threading.Thread(target=ask, daemon=True).start()  # over a dead link it would never return
    try:
        answered.wait(SECONDS + 5)
    except Interrupted:  # a launcher ends all when one has gone
        answered.wait(SECONDS + 5)
    if gone is None:
        return "cannot reach the others: the network, or the node of rank 0, is gone."
    if not gone:
        return "has lost its connections; all ranks are alive."
    return f"hears nothing from rank {', '.join(map(str, gone))}."

"""A W&B run whose failure ends no training: it is said in a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gendiff.errors import UserError
from gendiff.wandb_files import last_step
from gendiff.yaml_files import one_line


class Guarded:
    """What trackers share that have a W&B run.

    Args:
        run: None where nothing is logged.
        say: prints a line.
    """

    def __init__(self, run: Any, say: Callable[[str], None]) -> None:
        self.run, self.say = run, say

    def send(self, call: Callable[[Any], Any]) -> bool:
        """Call something of the run's; whether it worked. After a failure nothing more is sent."""
        if self.run is None:
            return False
        try:
            call(self.run)
        except Exception as error:  # W&B's and its libraries', of any kind
            self.say(f"  W&B: {cut(error)}: nothing more is logged there")
            self.run = None
            return False
        return True

    def held_of(self, folder: Path) -> int:
        """The last step that W&B has of the run; offline its files in the folder know."""
        if self.run is None:
            return 0
        if not self.run.offline:
            return int(self.run.starting_step) - 1
        try:  # W&B counts from 0 in every process
            return last_step(folder)
        except UserError as error:
            self.say(f"  W&B: {error} All rows are logged again.")
            return 0


def cut(error: Exception) -> str:
    """An error in a few words."""
    return one_line(error)[:160] or type(error).__name__

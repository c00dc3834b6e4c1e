"""Checkpoints for resume: two generations, each with its digest, none ever half-written.

Lightning's own writes are not atomic across filesystems and carry no digest; its restart logic
counts optimizer steps. All that is needed is the method's state, the optimizers and one integer.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from gendiff.errors import UserError
from gendiff.ranks import Ranks
from gendiff.storage import read_json, sha256, write_atomic, write_json

KEEP = 2


class Checkpoints:
    """The ``checkpoints/`` folder of a stage.

    ``manifest.json`` lists the generations, newest first, as {file, sha256, batches_done}; a
    file that it does not list is no checkpoint.
    """

    def __init__(self, stage_folder: Path) -> None:
        self.folder = stage_folder / "checkpoints"
        self.manifest = self.folder / "manifest.json"

    def listed(self) -> list[dict[str, Any]]:
        """The manifest's generations, newest first; empty when nothing was ever saved."""
        if not self.manifest.exists():
            return []
        entries = read_json(self.manifest)
        keys = {"file", "sha256", "batches_done"}
        if not isinstance(entries, list) or any(
            not isinstance(e, dict) or not keys <= set(e) for e in entries
        ):
            raise UserError(f"{self.manifest}: damaged, not a list of checkpoints.")
        return entries

    def newest(self) -> int | None:
        """Batches done at the newest generation that is whole, without loading it."""
        for entry in self.listed():
            if self._whole(entry):
                return int(entry["batches_done"])
        return None

    def save(self, state: dict[str, Any], batches_done: int) -> None:
        """Write a generation, list it, then drop those beyond the last two."""
        name = f"step-{batches_done:09d}.ckpt"
        buffer = io.BytesIO()  # torch.save hides an OSError of a file it writes to
        torch.save(state, buffer)
        digest = write_atomic(self.folder / name, lambda file: file.write(buffer.getbuffer()))
        entry = {"file": name, "sha256": digest, "batches_done": batches_done}
        others = [e for e in self.listed() if e["file"] != name]
        entries = [entry, *(e for e in others if (self.folder / e["file"]).is_file())][:KEEP]
        write_json(self.manifest, entries)
        for path in self.folder.glob("*.ckpt"):
            if path.name not in {e["file"] for e in entries}:
                path.unlink(missing_ok=True)

    def load(self, warn: Any, ranks: Ranks | None = None) -> dict[str, Any] | None:
        """The state of the newest whole generation, on all ranks; None if no listed one is.

        A damaged one is named, kept aside and never used.

        Args:
            warn: called with a line about each damaged file.
        """
        path = (ranks or Ranks()).decide(lambda: self._find(warn))
        if path is None:
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
            raise UserError(f"{path}: cannot be read ({error}).") from None

    def _find(self, warn: Any) -> Path | None:
        """The newest whole generation's file."""
        for entry in self.listed():
            path = self.folder / entry["file"]
            if self._whole(entry):
                return path
            if path.exists():
                path.replace(path.with_suffix(".damaged"))
                warn(f"{path}: damaged, kept aside as {path.stem}.damaged; trying an older one.")
        return None

    def _whole(self, entry: dict[str, Any]) -> bool:
        path = self.folder / entry["file"]
        return path.is_file() and sha256(path) == entry["sha256"]

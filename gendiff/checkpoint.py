"""Checkpoints for resume: two generations, each with its digest, none ever half-written.

Lightning's own writes are not atomic across filesystems and carry no digest; its restart logic
counts optimizer steps. All that is needed is the method's state, the optimizers and one integer.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gendiff.errors import UserError
from gendiff.ranks import Ranks
from gendiff.storage import read_json, sha256, write_atomic, write_json
from gendiff.weights import read_saved

KEEP = 2


def file_name(batches_done: int) -> str:
    return f"step-{batches_done:09d}.ckpt"


def owner_of(record: Mapping[str, Any]) -> str:
    """Whose checkpoints they are, in a word or two, from what ``stage.json`` says."""
    return f"{record['stage']} {record['fingerprint']}"


class Checkpoints:
    """The ``checkpoints/`` folder of a stage.

    ``manifest.json`` lists the generations, newest first, as {file, sha256, batches_done, of}; a
    file that it does not list is no checkpoint.

    Args:
        owner: the stage and its fingerprint: those of another, copied here, are none of its own.
    """

    def __init__(self, stage_folder: Path, owner: str = "") -> None:
        self.folder, self.owner = stage_folder / "checkpoints", owner
        self.manifest = self.folder / "manifest.json"

    def listed(self) -> list[dict[str, Any]]:
        """Its own generations, newest first; all of them without an owner."""
        if not self.manifest.exists():
            return []
        entries = read_json(self.manifest)
        keys = {"file", "sha256", "batches_done"}
        if not isinstance(entries, list) or any(
            not isinstance(e, dict)
            or not keys <= set(e)
            or type(e["batches_done"]) is not int
            or e["file"] != file_name(e["batches_done"])
            for e in entries
        ):
            raise UserError(f"{self.manifest}: damaged, not a list of checkpoints.")
        return [e for e in entries if not self.owner or e.get("of", self.owner) == self.owner]

    def newest(self) -> int | None:
        """Batches done at the newest generation that is whole, without loading it."""
        for entry in self.listed():
            if self._whole(entry):
                return int(entry["batches_done"])
        return None

    def save(self, state: dict[str, Any], batches_done: int) -> None:
        """Write a generation, list it, then drop those beyond the last two."""
        name = file_name(batches_done)
        buffer = io.BytesIO()  # torch.save hides an OSError of a file it writes to
        torch.save(state, buffer)
        digest = write_atomic(self.folder / name, lambda file: file.write(buffer.getbuffer()))
        entry = {"file": name, "sha256": digest, "batches_done": batches_done, "of": self.owner}
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
        entry = (ranks or Ranks()).decide(lambda: self._find(warn))
        if entry is None:
            return None
        return read_checkpoint(self.folder / entry["file"], int(entry["batches_done"]))

    def _find(self, warn: Any) -> dict[str, Any] | None:
        """The newest whole generation."""
        for entry in self.listed():
            path = self.folder / entry["file"]
            if self._whole(entry):
                return entry
            if path.exists():
                path.replace(path.with_suffix(".damaged"))
                warn(f"{path}: damaged, kept aside as {path.stem}.damaged; trying an older one.")
        return None

    def _whole(self, entry: dict[str, Any]) -> bool:
        path = self.folder / entry["file"]
        return path.is_file() and sha256(path) == entry["sha256"]


def read_checkpoint(path: Path, batches_done: int) -> dict[str, Any]:
    """A checkpoint's state: tensors and plain values; no code is run.

    Raises:
        UserError: it cannot be read, or is none of that step.
    """
    try:
        state = read_saved(path)
    except Exception as error:  # bytes of any kind end in errors of any kind
        why = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"{path}: cannot be read ({why}).") from None
    if not isinstance(state, dict) or state.get("batches_done") != batches_done:
        raise UserError(f"{path}: is no checkpoint of step {batches_done}.")
    return state

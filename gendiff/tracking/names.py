"""What W&B calls a stage: the id of its run, the name of its weights, their versions."""

from __future__ import annotations

import os
import re
from pathlib import Path

from gendiff.errors import UserError
from gendiff.lineage import short
from gendiff.storage import write_text


def stable_id(folder: Path) -> str:
    """A run id that survives a kill: kept in the stage folder.

    Raises:
        UserError: the file that keeps it is damaged.
    """
    path = folder / "wandb" / "id"
    if not path.is_file():
        write_text(path, os.urandom(4).hex())
    kept = path.read_text(errors="replace")
    if not re.fullmatch(r"[0-9a-f]{8}", kept):
        raise UserError(f"{path}: damaged, not the id of a W&B run. Remove it to begin a new one.")
    return kept


def artifact_name(folder: Path) -> str:
    """What W&B calls the weights of a stage."""
    folder = folder.resolve()
    return re.sub(r"[^\w.-]", "-", f"{folder.parent.name}-{folder.name}", flags=re.A)[:128]


def alias_of(role: str, digest: str | None) -> str:
    """The version of them that holds a role's weights of this digest."""
    return f"{role}-{short(digest)}"

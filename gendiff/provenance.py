"""What is recorded of a training and never compared: where, by what, and how long."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from gendiff.ranks import Ranks


def provenance() -> dict[str, Any]:
    """Recorded, never compared: versions, host, commit."""
    packages = ("gendiff", "torch", "lightning")
    return {
        "host": platform.node(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "threads": torch.get_num_threads(),
        "commit": _commit(),
    }


def _commit() -> str | None:
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None


def cost_of(seconds: float | None, ranks: Ranks, device: torch.device) -> dict[str, Any]:
    """Recorded, never compared: what the training took, and of what.

    Args:
        seconds: of the steps that led to the weights, over all resumes; None if unknown.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    rounded = None if seconds is None else round(seconds, 3)
    return {"seconds": rounded, "processes": ranks.world, "device": name}

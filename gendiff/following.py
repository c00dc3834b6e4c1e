"""Which processes end when those that started them die, killed perhaps."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

FOLLOW = "GENDIFF_FOLLOW"
"""Environment variable of a process that is to stop when the one that started it dies: the id of
that one, or nothing where others may stand between, as in a sweep's command."""
AGENT = "WANDB_SWEEP_PARAM_PATH"
"""Set by W&B's agent alone, for the trials that it starts."""
SECONDS = 0.5
"""Between two looks at whether the launcher lives."""


def launched() -> bool:
    """Whether torchrun or ``srun`` has started this process among others."""
    return "RANK" in os.environ or int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1


def restarted() -> bool:
    """Whether torchrun or SLURM starts this run anew: what is asked for once has been done."""
    counts = (os.environ.get(f"{who}_RESTART_COUNT", "0") for who in ("TORCHELASTIC", "SLURM"))
    return any(count != "0" for count in counts)


def follow() -> None:
    """Stop as SIGTERM would when the launcher of this process dies, killed perhaps; or has died
    while this one imported.

    torchrun outlives a sweep that has started it. So its first rank on a node looks, where
    ``/proc`` tells, for the sweep too, and has torchrun stop all of them together.
    """
    env = os.environ
    launcher = int(env.get(FOLLOW) or os.getppid())
    swept = "TORCHELASTIC_RUN_ID" in env and (env.get(FOLLOW) == "" or AGENT in env)
    sweep = parent_of(launcher) if swept and env.get("LOCAL_RANK") == "0" else None

    def watch() -> None:
        asked = sweep is None
        while os.getppid() == launcher:
            if not asked and parent_of(launcher) != sweep:
                asked = True  # twice, and torchrun would not wait for its ranks
                with suppress(ProcessLookupError):
                    os.kill(launcher, signal.SIGTERM)
            time.sleep(SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def parent_of(process: int) -> int | None:
    """The id of a process's parent; None where ``/proc`` does not tell."""
    try:
        # "pid (name) state parent ...": the name may hold anything
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None

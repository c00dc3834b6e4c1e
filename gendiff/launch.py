"""Several processes on this node for one command, by torchrun's elastic launcher."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from gendiff.errors import Lost
from gendiff.pipeline.trial import AGENT
from gendiff.signals import FOLLOW

STOPPED = 75
"""Exit code of what a signal has stopped."""
TOLD = (2, STOPPED)
"""Exit codes of a rank that has said why."""
SECONDS = 0.5
"""Between two looks at whether the launcher lives."""


def launched() -> bool:
    """Whether torchrun or ``srun`` has started this process among others."""
    return "RANK" in os.environ or int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1


def follow() -> None:
    """Stop as SIGTERM would when the launcher of this process dies, killed perhaps.

    torchrun outlives a sweep that has started it. So its first rank on a node looks, where
    ``/proc`` tells, for the sweep too, and has torchrun stop all of them together.
    """
    launcher, env = os.getppid(), os.environ
    swept = "TORCHELASTIC_RUN_ID" in env and bool({FOLLOW, AGENT} & set(env))
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


def launch(words: Sequence[str], processes: int) -> int:
    """Run ``gendiff WORDS`` in so many processes; returns their exit code.

    Stopped by a signal they have all ended, and the first has said where.

    Raises:
        Lost: one has died.
    """
    for name in list(logging.root.manager.loggerDict):  # each has a level of its own
        if name.startswith(("torch.distributed.elastic", "torch.distributed.launcher")):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "600")  # s, to end a step and save
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    os.environ.pop(FOLLOW, None)  # this process follows the sweep, and its ranks this process
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        signals_to_handle="SIGTERM,SIGINT,SIGUSR1",
        max_restarts=0,
        monitor_interval=0.1,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "gendiff.cli", *words)
    except SignalException:
        return STOPPED
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        # those that the launcher had to end are none of them
        killed = {r: code for r, code in codes.items() if code < 0 and code != -signal.SIGTERM}
        told = [code for code in codes.values() if code in TOLD]
        if told and not killed:
            return told[0]
        rank, code = next(iter({**killed, **codes}.items()))
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"left with {code}"
        raise Lost(f"rank {rank} of {processes} {how}; run again to go on.") from None
    return 0

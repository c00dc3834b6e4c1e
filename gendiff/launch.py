"""Several processes on this node for one command, by torchrun's elastic launcher."""

from __future__ import annotations

import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from gendiff.errors import Lost
from gendiff.following import FOLLOW

STOPPED = 75
"""Exit code of what a signal has stopped."""
TOLD = (2, STOPPED)
"""Exit codes of a rank that has said why."""


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
    os.environ[FOLLOW] = str(os.getpid())  # this process may follow a sweep; its ranks follow it
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
        raise Lost(f"rank {rank} of {processes} {how}.") from None
    return 0

"""Real processes of a small pipeline, to be killed or stopped: forks of one that has imported all.

So a hundred kills take minutes. With several processes one of them is killed and the others have
to notice. `tools/kills.py` and `stopserver.py` are what runs it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

# imported before the first fork, so that no try pays for them
import gendiff.pipeline.runner
import gendiff.pipeline.stages
from gendiff import cli, lost, ranks
from gendiff.methods import consistency, denoising_gan, diffusion, pairs, reflow
from gendiff.networks import mlp
from gendiff.signals import Stop

LOADED = (gendiff.pipeline.runner, gendiff.pipeline.stages, mlp)
LOADED += (consistency, denoising_gan, diffusion, pairs, reflow)
PIPELINE = Path(__file__).with_name("pipeline.yaml")
TRACKERS = {"wandb", "tensorboard"}
"""A plain run imports none of them: this is a process that can tell, as it runs nothing else."""

HUNG = -99
lost.SECONDS, ranks.START = 0.2, timedelta(seconds=5)


def attempt(
    folder: Path, world: int, strike: dict[int, Callable[[], None]], words: Sequence[str] = ()
) -> list[int]:
    """Fork processes that run the pipeline together; returns their ids, by rank.

    Args:
        strike: rank -> what that process does to itself before it begins.
        words: overrides.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    processes = []
    for rank in range(world):
        pid = os.fork()
        if pid:
            processes.append(pid)
            continue
        torch.set_num_threads(1)
        sys.stdout = sys.stderr = open(folder.parent / f"{folder.name}.log", "a", 1)  # noqa: SIM115
        if world > 1:
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world}
            place |= {"LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            os.environ.update({name: str(value) for name, value in place.items()})
        strike.get(rank, lambda: None)()
        with Stop().listening():  # as the command itself does
            code = cli.main(["run", str(PIPELINE), "--dir", str(folder), *words])
        trackers = TRACKERS & set(sys.modules)
        if trackers:
            print("imported, though not asked for:", *trackers)
        os._exit(code or len(trackers))
    pids_of(folder).write_text(json.dumps(processes))
    return processes


def pids_of(folder: Path) -> Path:
    """The file that has the ids of a run's processes, by rank."""
    return folder.parent / f"{folder.name}.pids"


def ended(pid: int, seconds: float) -> int | None:
    """The exit status of a process that ends within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def wait(processes: list[int], victim: int = 0, seconds: float = 300) -> list[int]:
    """Kill the victim after so many seconds, unless it ends before; all exit statuses.

    The others have to end by themselves; one that has not in 20 seconds is killed and counts as
    `HUNG`.
    """
    code = ended(processes[victim], seconds)
    if code is None:
        os.kill(processes[victim], signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(processes[victim], 0)[1])
    codes = [code]
    for pid in processes[:victim] + processes[victim + 1 :]:
        other = ended(pid, 20)
        if other is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        codes.append(HUNG if other is None else other)
    return codes


def digests(folder: Path) -> dict[str, Any]:
    """Digests of all weights and products, by stage."""
    return {
        path.parent.name: json.loads(path.read_text())["digests"]
        for path in sorted(folder.glob("*/done.json"))
    }

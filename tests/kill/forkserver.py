"""Kill a real pipeline process again and again, resume it, and print what its weights became.

Imports once and forks a fresh process a try, so that a hundred kills take seconds, not minutes.

    python tests/kill/forkserver.py FOLDER KILLS SEED

Prints one JSON object: the digests of an undisturbed run, those of every killed run, the kills
at random instants and at boundaries of a write, and the exit code of each final try.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

# imported before the first fork, so that no try pays for them
import gendiff.pipeline.runner
import gendiff.pipeline.stages
from gendiff import cli, storage
from gendiff.methods import (
    classifier,
    denoising_gan,
    diffusion,
    pairs,
    progressive,
    reflow,
    truncated,
)
from gendiff.networks import mlp

LOADED = (gendiff.pipeline.runner, classifier, denoising_gan, diffusion, pairs, progressive)
LOADED += (reflow, truncated, mlp, gendiff.pipeline.stages)
PIPELINE = Path(__file__).with_name("pipeline.yaml")
TRACKERS = {"wandb", "tensorboard"}
"""A plain run imports none of them: this is a process that can tell, as it runs nothing else."""


def attempt(folder: Path, before: Callable[[], None] | None = None) -> int:
    """Fork a process that runs the pipeline; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    torch.set_num_threads(1)
    sys.stdout = sys.stderr = open(folder.parent / f"{folder.name}.log", "a")  # noqa: SIM115
    if before:
        before()
    code = cli.main(["run", str(PIPELINE), "--dir", str(folder)])
    trackers = TRACKERS & set(sys.modules)
    if trackers:
        print("imported, though not asked for:", *trackers, flush=True)
    os._exit(code or len(trackers))


def die_at_boundary(number: int) -> Callable[[], None]:
    """SIGKILL this process just before or just after its number-th fsync or rename."""

    def install() -> None:
        count = [0]

        def counted(call: Any) -> Any:
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                count[0] += 1
                if count[0] == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                result = call(*args, **kwargs)
                count[0] += 1
                if count[0] == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            return wrapper

        storage.os.fsync = counted(os.fsync)  # type: ignore[attr-defined]
        storage.os.replace = counted(os.replace)  # type: ignore[attr-defined]

    return install


def wait(pid: int, seconds: float | None = None) -> int:
    """Kill the process after so many seconds, unless it ends before; its exit status."""
    deadline = time.monotonic() + (seconds if seconds is not None else 300)
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def digests(folder: Path) -> dict[str, Any]:
    """Digests of all weights and products, by stage."""
    return {
        path.parent.name: json.loads(path.read_text())["digests"]
        for path in sorted(folder.glob("*/done.json"))
    }


def main(root: Path, kills: int, seed: int) -> dict[str, Any]:
    root.mkdir(parents=True, exist_ok=True)
    choose = random.Random(seed)
    begun = time.monotonic()
    undisturbed = wait(attempt(root / "undisturbed"))
    length = time.monotonic() - begun
    report: dict[str, Any] = {
        "undisturbed": digests(root / "undisturbed"),
        "codes": [undisturbed],
        "killed": [],
        "instants": 0,
        "boundaries": 0,
        "seconds": length,
    }
    left, number = kills, 0
    while left > 0:
        folder, code = root / f"killed-{number}", -9
        number += 1
        for _ in range(12):  # kills on the way of one pipeline, then it may end
            if left <= 0:
                break
            if choose.random() < 0.5:
                code = wait(attempt(folder), choose.uniform(0.1, 0.6 * length))
                report["instants"] += code == -9
            else:
                code = wait(attempt(folder, die_at_boundary(choose.randint(1, 60))))
                report["boundaries"] += code == -9
            left -= code == -9
            if code != -9:
                break
        if code == -9:
            code = wait(attempt(folder))
        report["codes"].append(code)
        report["killed"].append(digests(folder))
    return report


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))

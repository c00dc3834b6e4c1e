"""Run the tracked pipeline in forked processes, all but the last of them killed on their way.

    python tests/tracking/killserver.py FOLDER

The last one is a sweep's, whose trial has a run of its own. Exits with 0 if all ended as they
should.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.font_manager  # finds its cache before HOME is another
import torch
import torch.utils.tensorboard
import wandb
import wandb.proto.wandb_internal_pb2

# imported before the first fork, so that no try pays for them
import gendiff.pipeline.runner
import gendiff.report.curve
from gendiff import cli
from gendiff.checkpoint import Checkpoints
from gendiff.methods import flow, pairs, reflow
from gendiff.networks import mlp
from gendiff.pipeline import trial
from gendiff.signals import Stop
from gendiff.tracking import wandb_stage
from gendiff.tracking.wandb_run import settings
from gendiff.wandb_files import last_step

LOADED = (gendiff.pipeline.runner, gendiff.report.curve, matplotlib.font_manager)
LOADED += (flow, pairs, reflow, mlp)
PIPELINE = Path(__file__).resolve().with_name("tracked.yaml")
REMOTE = f"https://{os.environ.get('HUB_TOKEN')}:x-oauth-basic@localhost/code.git"


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_training(folder: Path) -> None:
    """Half-way of the teacher's training, with rows logged beyond the checkpoint of step 5."""
    save = Checkpoints.save

    def save_or_die(self: Checkpoints, state: dict[str, Any], batches_done: int) -> None:
        if batches_done == 10:
            logged = folder / "run" / "teacher" / "wandb"
            while last_step(logged) < 10:  # W&B writes the rows a moment later
                time.sleep(0.1)
            die()
        save(self, state, batches_done)

    Checkpoints.save = save_or_die  # type: ignore[method-assign]


def die_handing(folder: Path) -> None:
    """When W&B has been given the student's weights, and that has not been noted yet."""
    write = wandb_stage.write_json

    def write_or_die(path: Path, value: Any) -> str:
        return die() if "reflow" in str(path) else write(path, value)  # type: ignore[return-value]

    wandb_stage.write_json = write_or_die


def sweep(folder: Path) -> None:
    """A trial's run is open beside those of its stages."""
    told = folder / "sweep-config.yaml"
    told.write_text("lr:\n  value: 0.5\n")
    os.environ.update(WANDB_SWEEP_ID="sweep123", WANDB_RUN_ID="trial123")
    os.environ["WANDB_SWEEP_PARAM_PATH"] = str(told)
    (folder / "trial" / "wandb").mkdir(parents=True)
    asked = wandb.Settings(**settings(20.0))
    run = wandb.init(mode="offline", dir=folder / "trial", settings=asked)
    assert (run.id, run.sweep_id) == ("trial123", "sweep123")
    trial.this_trial = lambda: None  # it goes on in the folder of the others


def attempt(folder: Path, strike: Callable[[Path], None]) -> int:
    """The exit status of a process that runs the pipeline."""
    pid = os.fork()
    if not pid:
        torch.set_num_threads(1)
        sys.stdout = sys.stderr = open(folder / "log", "a", 1)  # noqa: SIM115
        for name in [name for name in os.environ if name.startswith("WANDB")]:
            del os.environ[name]
        os.environ["HOME"] = str(folder / "home")
        strike(folder)
        with Stop().listening():
            code = cli.main(["run", str(PIPELINE), "--dir", str(folder / "run")])
        if code == 0 and strike is sweep:
            assert wandb.run is not None
            wandb.run.log({"objective": 1.0})
            wandb.run.finish()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    place = Path(sys.argv[1]).resolve()
    for words in (["init", "-q", "."], ["remote", "add", "origin", REMOTE]):
        (place / "code").mkdir(exist_ok=True)
        subprocess.run(["git", *words], cwd=place / "code", check=True)
    os.chdir(place / "code")
    codes = [attempt(place, strike) for strike in (die_training, die_handing, sweep)]
    sys.exit(0 if codes == [-signal.SIGKILL, -signal.SIGKILL, 0] else str(codes))

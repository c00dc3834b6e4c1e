"""Runs by processes that share the network out: killed, resumed by others, and read by anyone."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import socket
import sys

import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file

import gendiff.evaluation.stage
import gendiff.pipeline.runner
import gendiff.pipeline.stages
from gendiff import load, lost
from gendiff.checkpoint import Checkpoints
from gendiff.cli import main
from gendiff.methods import diffusion
from gendiff.networks import mlp
from gendiff.pipeline.stages import load_pipeline
from gendiff.sharding import mine

CONFIG = """
data: {name: mixture, batch_size: 32, samples: 200, held_out: 61}
networks:
  student: {name: mlp, width: 8, depth: 1}
method: {name: flow}
optim: {lr: 1.0e-2, clip_norm: 0.5}
trainer: {max_steps: 6, checkpoint_steps: 1}
evaluation: {steps: []}
"""
LOOK = ["evaluation.steps=[1]", "evaluation.batch_size=30", "evaluation.draws=1"]
LOOK += ["evaluation.watch_times=1"]
"""Samples that neither split evenly over two processes, nor into batches as many."""
LOADED = (gendiff.evaluation.stage, gendiff.pipeline.runner, gendiff.pipeline.stages, mlp)
"""Before the first fork, so that no process pays for it."""


def work(rank, world, port, folder, words, killed, spoilt):
    """One of the processes of a run; after so many steps the last one dies, or spoils its share."""
    torch.set_num_threads(1)
    sys.stdout = sys.stderr = (folder.parent / f"{folder.name}.log").open("a", 1)
    if world > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world}
        place |= {"LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in place.items()})
    lost.SECONDS, plain = 0.2, diffusion.Diffusion.training_step

    def step(method, *batch):
        if rank == world - 1 and method.batches_done == killed:
            os.kill(os.getpid(), signal.SIGKILL)
        plain(method, *batch)
        if rank == world - 1 and method.batches_done == spoilt:
            mine(method.student.network.output.weight.detach()).fill_(torch.nan)

    diffusion.Diffusion.training_step = step
    os._exit(main(["run", str(folder.parent / "small.yaml"), "--dir", str(folder), *words]))


def run(folder, world, strategy="ddp", *words, killed=None, spoilt=None):
    """Run, or go on, in so many processes, to the end or to the step where one is killed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [f"hardware.strategy={strategy}", "hardware.timeout_minutes=0.5", *words]
    rest = (world, port, folder, words, killed, spoilt)
    group = mp.start_processes(work, rest, world, join=False, start_method="fork")
    for process in group.processes:
        process.join()
    codes = [process.exitcode for process in group.processes]
    log = (folder.parent / f"{folder.name}.log").read_text()
    if spoilt:
        return codes, log
    assert codes == ([0] * world if killed is None else [1] * (world - 1) + [-9]), log
    assert Checkpoints(folder / "small").newest() == (6 if killed is None else killed)


def state_of(folder):
    """The newest checkpoint, but for how long it took."""
    state = Checkpoints(folder / "small").load(pytest.fail)
    return {key: value for key, value in state.items() if key != "seconds"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """``alone`` by one process; ``shares``, by two that share the network out from step 2 on;
    ``killed``, the same, but for one that dies at step 4.
    """
    root = tmp_path_factory.mktemp("runs")
    (root / "small.yaml").write_text(CONFIG)
    run(root / "alone", 1, "fsdp")
    run(root / "shares", 2, "ddp", killed=2)
    shutil.copytree(root / "shares", root / "killed")
    run(root / "shares", 2, "fsdp", *LOOK)
    run(root / "killed", 2, "fsdp", killed=4)
    return root


def test_files_are_those_of_any_run(runs):
    wanted, found = (state_of(runs / name) for name in ("alone", "shares"))
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)
    assert [*found["state"]] == [*wanted["state"]]
    for role in ("student", "ema"):
        one, other = (
            load_file(runs / name / f"small/weights/{role}.safetensors")
            for name in ("alone", "shares")
        )
        torch.testing.assert_close(other, one, rtol=0, atol=2e-5)
    points = [load(runs / name / "small").sample(4, 2) for name in ("alone", "shares")]
    torch.testing.assert_close(*points, rtol=0, atol=1e-4)


def test_samples_are_watched_by_all(runs):
    """A network that is shared out can only be called by all."""
    with (runs / "shares/small/metrics.csv").open(newline="") as file:
        watched = [row for row in csv.DictReader(file) if row["watch/copying"]]
    assert [row["step"] for row in watched] == ["6"]
    assert (runs / "shares/small/evaluation.json").is_file()


@pytest.mark.parametrize(
    "others",
    [[(2, "fsdp", None)], [(1, "ddp", 5), (2, "fsdp", None)], [(2, "ddp", None)]],
    ids=["the same", "one, then the same", "whole networks"],
)
def test_a_killed_run_goes_on(runs, tmp_path, others):
    shutil.copytree(runs / "killed", tmp_path / "run")
    shutil.copy(runs / "small.yaml", tmp_path)
    for world, strategy, killed in others:
        run(tmp_path / "run", world, strategy, killed=killed)
    found, exact = state_of(tmp_path / "run"), others[0][1] == "fsdp"
    wanted = state_of(runs / ("shares" if exact else "alone"))
    torch.testing.assert_close(found, wanted, rtol=0, atol=0 if exact else 2e-5)


def test_a_share_that_is_not_finite_is_told(runs, tmp_path):
    shutil.copytree(runs / "killed", tmp_path / "run")
    shutil.copy(runs / "small.yaml", tmp_path)
    codes, log = run(tmp_path / "run", 2, "fsdp", spoilt=5)
    assert codes == [2, 2], log
    assert "student.output.weight is not finite at step 5; the last checkpoint is untouched" in log
    assert Checkpoints(tmp_path / "run/small").newest() == 4


def test_what_cannot_be_shared_out_is_refused(capsys):
    assert main(["run", "mixture_denoising_gan", "hardware.strategy=fsdp", "--dry-run"]) == 2
    told = "hardware.strategy: fsdp is for diffusion, flow, online_reflow, reflow; denoising_gan"
    assert told in capsys.readouterr().err


def test_evaluators_beside_it_are_not_shared_out():
    stages = load_pipeline("digits_diffusion", ["hardware.strategy=fsdp"]).stages
    kinds = {name: stage.run.hardware.strategy for name, stage in stages.items()}
    assert kinds == {"digits_classifier": "ddp", "digits_diffusion": "fsdp"}

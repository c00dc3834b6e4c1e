"""Runs by processes that share the network out: killed, resumed by others, and read by anyone."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys

import pytest
import torch
import torch._dynamo  # by fully_shard: before the first fork, so that no process pays for it
import torch.multiprocessing as mp
from safetensors.torch import load_file

from gendiff import load, lost
from gendiff.checkpoint import Checkpoints
from gendiff.cli import main
from gendiff.methods.base import Method

CONFIG = """
data: {name: digits, batch_size: 16}
networks:
  student: {name: unet, channels: 8, multipliers: [1], conditions: {label: 10}}
method: {name: diffusion}
optim: {lr: 1.0e-2, clip_norm: 0.5}
trainer: {max_steps: 6, checkpoint_steps: 2}
evaluation: {steps: []}
"""
LOOK = ["evaluation.steps=[1]", "evaluation.samples=61", "evaluation.batch_size=30"]
LOOK += ["evaluation.draws=1", "evaluation.watch_times=1"]
"""Samples that neither split evenly over two processes, nor into batches as many."""
KILLED = 5


def work(rank, world, port, folder, words, killed):
    """One of the processes of a run; the last one dies in the middle of it, if it is to."""
    torch.set_num_threads(1)
    sys.stdout = sys.stderr = (folder.parent / f"{folder.name}.log").open("a", 1)
    if world > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world}
        place |= {"LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in place.items()})
    lost.SECONDS, plain = 0.2, Method.training_step

    def step(method, *batch):
        if killed and rank == world - 1 and method.batches_done == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        plain(method, *batch)

    Method.training_step = step
    os._exit(main(["run", str(folder.parent / "small.yaml"), "--dir", str(folder), *words]))


def run(folder, world, strategy, *words, killed=False):
    """The exit codes of a run by so many processes."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [f"hardware.strategy={strategy}", *words]
    rest = (world, port, folder, words, killed)
    group = mp.start_processes(work, rest, world, join=False, start_method="fork")
    for process in group.processes:
        process.join()
    return [process.exitcode for process in group.processes]


def state_of(folder):
    return Checkpoints(folder / "small").load(pytest.fail)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Where runs are: by one process, undisturbed on shares, and killed ones of each kind."""
    root = tmp_path_factory.mktemp("runs")
    (root / "small.yaml").write_text(CONFIG)
    assert run(root / "alone", 1, "fsdp") == [0]
    assert run(root / "shares", 2, "fsdp", *LOOK) == [0, 0], (root / "shares.log").read_text()
    for name, world, strategy in (("fsdp", 2, "fsdp"), ("ddp", 2, "ddp"), ("one", 1, "ddp")):
        codes = run(root / name, world, strategy, killed=True)
        assert codes == [1] * (world - 1) + [-9]
        assert Checkpoints(root / name / "small").newest() == KILLED - 1
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
    images = [load(runs / name / "small").sample(4, 2) for name in ("alone", "shares")]
    torch.testing.assert_close(*images, rtol=0, atol=1e-3)
    assert "watch/copying" in (runs / "shares/small/metrics.csv").read_text()
    assert (runs / "shares/small/evaluation.json").is_file()


@pytest.mark.parametrize(
    ("begun", "world", "strategy"),
    [
        ("fsdp", 2, "fsdp"),
        ("fsdp", 1, "ddp"),
        ("fsdp", 2, "ddp"),
        ("ddp", 2, "fsdp"),
        ("one", 2, "fsdp"),
    ],
)
def test_a_killed_run_goes_on(runs, tmp_path, begun, world, strategy):
    shutil.copytree(runs / begun, tmp_path / "run")
    shutil.copy(runs / "small.yaml", tmp_path)
    assert run(tmp_path / "run", world, strategy) == [0] * world
    found, wanted = state_of(tmp_path / "run"), state_of(runs / "alone")
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)
    if begun == strategy:  # as if nothing had happened
        undisturbed = state_of(runs / "shares")
        torch.testing.assert_close(found, undisturbed, rtol=0, atol=0)


def test_what_cannot_be_shared_out_is_refused(capsys):
    assert main(["run", "mixture_denoising_gan", "hardware.strategy=fsdp", "--dry-run"]) == 2
    told = "hardware.strategy: fsdp is for diffusion, flow, online_reflow, reflow; denoising_gan"
    assert told in capsys.readouterr().err

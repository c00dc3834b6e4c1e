"""The loader's workers: the same batches, errors in a line, and no ear for signals."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import subprocess
import time
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from gendiff.cli import main
from gendiff.data import base
from gendiff.data.base import DataModule
from gendiff.data.images import Images, ImagesConfig
from gendiff.errors import UserError


@pytest.fixture
def path(tmp_path):
    """A .zip of 14 images of 9 x 9 random pixels."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(14):
            with archive.open(f"{i:02}.png", "w") as file:
                image = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
                image.save(file, "PNG")
    return tmp_path / "x.zip"


def loader(path, workers, first=0, last=9, size=9):
    train = Images(ImagesConfig(path=str(path), size=size, held_out=2, flip=True)).train
    if size == 9:
        train[0]  # the .zip is open when the workers are forked
    module = DataModule(train, 6, workers)
    method = SimpleNamespace(batches_done=first, max_steps=last, seed=3, stage="a")
    module.trainer = SimpleNamespace(lightning_module=method, global_rank=0, world_size=1)
    return module.train_dataloader()


@pytest.mark.parametrize("first", [0, 5])
def test_workers_do_not_change_the_batches(path, first):
    alone = list(loader(path, 0))
    assert len({tuple(batch["index"].tolist()) for batch in alone}) == 9
    shared = list(loader(path, 2, first))
    assert len(shared) == 9 - first
    for mine, theirs in zip(shared, alone[first:], strict=True):
        assert mine.keys() == theirs.keys()
        assert all(mine[name].equal(theirs[name]) for name in mine)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_workers_error_is_the_users_line(path, workers):
    with pytest.raises(
        UserError, match=r"x\.zip/\d\d\.png: cannot be used \(9 x 9 pix.*10\)\.$"
    ) as e:
        list(loader(path, workers, size=10))
    assert "\n" not in str(e.value)
    assert str(e.value).startswith(str(path))


def test_signals_to_all_processes_leave_the_workers_at_work(path):
    others = {*multiprocessing.active_children()}  # of loaders that are not collected yet
    batches = iter(loader(path, 2, last=40))
    next(batches), next(batches)  # both workers have begun
    children = {*multiprocessing.active_children()} - others
    assert len(children) == 2
    for number in ("INT", "USR1", "TERM"):
        subprocess.run(["kill", f"-{number}", *(str(child.pid) for child in children)], check=True)
    assert len(list(batches)) == 38


def test_a_process_ends_with_workers_that_are_still_in_use(path):
    """Where multiprocessing would wait for ever for workers that ignore its signal."""
    leaving = os.fork()
    if not leaving:
        batches = iter(loader(path, 1, last=40))
        next(batches)
        atexit._run_exitfuncs()
        os._exit(0)
    for _ in range(200):
        if os.waitpid(leaving, os.WNOHANG) == (leaving, 0):
            break
        time.sleep(0.1)
    else:
        os.kill(leaving, signal.SIGKILL)
        pytest.fail("still there after 20 s")


def test_a_stage_is_the_same_with_any_number_of_workers(tmp_path, monkeypatch):
    """Its weights, and its identity: asked for again with more workers, it is up to date."""
    monkeypatch.chdir(tmp_path)
    words = ["run", "mixture_diffusion", "trainer.max_steps=4", "data.samples=64"]
    words += ["data.batch_size=32", "evaluation.steps=[]"]
    for workers in (0, 2):
        assert main([*words, f"hardware.workers={workers}", "--dir", str(workers)]) in (0, None)
    files = [*tmp_path.glob("*/*/weights/ema.safetensors")]
    assert len(files) == 2
    assert files[0].read_bytes() == files[1].read_bytes()
    before = files[0].stat().st_mtime_ns
    folder = files[0].parent.parent.parent.name
    assert main([*words, "hardware.workers=1", "--dir", folder]) in (0, None)
    assert files[0].stat().st_mtime_ns == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGBUS])
def test_a_worker_that_is_killed_is_told(tmp_path, monkeypatch, capfd, number):
    """Where memory is short, say. No traceback, and the same command goes on."""
    words = ["run", "mixture_diffusion", "trainer.max_steps=6", "data.samples=64"]
    words += ["data.batch_size=32", "evaluation.steps=[]", "--dir", str(tmp_path)]
    here, whole, done = os.getpid(), base.collate, []

    def collate(rows):
        done.append(rows)
        if os.getpid() != here and len(done) == 3:
            os.kill(os.getpid(), number)
        return whole(rows)

    monkeypatch.setattr(base, "collate", collate)
    assert main([*words, "hardware.workers=1"]) == 1
    told = capfd.readouterr().err
    assert told.count("gendiff: mixture_diffusion: DataLoader worker (pid") == 1
    assert told.endswith("; run again to go on.\n")
    assert "Traceback" not in told
    assert main(words) == 0

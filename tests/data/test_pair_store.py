"""The pair store: what goes in comes out, whoever wrote it, and however often it was stopped."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import signal
import time
from datetime import timedelta

import numpy as np
import pytest
import torch
import torch.distributed as dist
from stores import FORK, LAYOUT, ORIGIN, flip, make, write

from gendiff import storage
from gendiff.data import pairs
from gendiff.data.pairs import STAMP, Layout, PairStore
from gendiff.errors import Interrupted, UserError
from gendiff.storage import sha256

pytestmark = pytest.mark.usefixtures("small_shards")


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapped", [1, 128])
def test_rows_come_back_by_index(whole, monkeypatch, mapped):
    monkeypatch.setattr(pairs, "MAPPED", mapped)
    truth, store = make(torch.arange(11)), PairStore(whole)
    assert len(store) == 11
    for indices in ([0], [10, 0, 5, 5, 3, 4], list(range(11)), [7] * 40):
        for copy in (store, pickle.loads(pickle.dumps(store))):
            batch = copy.__getitems__(indices)
            assert batch.keys() == {"x0", "eps", "label", "index"}
            assert batch["index"].tolist() == indices
            for name, values in truth.items():
                assert batch[name].dtype == values.dtype
                assert batch[name].equal(values[indices])
                batch[name].zero_()  # a batch is its owner's
            assert len(copy._maps) <= mapped
    assert store[6]["eps"].equal(truth["eps"][6])
    assert store[6]["index"].shape == ()
    for index in (-1, 11):
        with pytest.raises(IndexError):
            store[index]


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8])
def test_every_row_lies_in_one_shard(tmp_path, count):
    layout = Layout(count, (2, 3))
    assert [i for shard in range(layout.shards) for i in layout.span(shard)] == list(range(count))
    digests = write(tmp_path, layout=layout)
    assert digests == {name: sha256(tmp_path / name) for name in content(tmp_path)}
    short, long = PairStore(tmp_path), make(torch.arange(11))
    assert short.__getitems__([*range(count)])["x0"].equal(long["x0"][:count])


def test_shards_are_of_few_bytes(monkeypatch):
    monkeypatch.undo()
    for shape in ((2,), (3, 32, 32), (3, 256, 256), (3, 4096, 4096)):
        layout = Layout(10**9, shape)
        nbytes = layout.rows * np.dtype(layout.descr).itemsize
        assert layout.rows <= 1024
        assert nbytes <= 2**25 or layout.rows == 1


# ---- killed and resumed --------------------------------------------------------------------------


def resumed(folder):
    """Finish a store; returns the rows that had to be made."""
    rows = []

    def counting(indices):
        rows.extend(indices.tolist())
        return make(indices)

    write(folder, counting)
    return rows


def test_killed_at_every_boundary_of_a_write(whole, tmp_path, monkeypatch):
    """Copies of the folder at each boundary are what a kill there would leave."""
    folder, left = tmp_path / "written", []

    def copied(call):
        def wrapper(*args, **kwargs):
            for now in (lambda: call(*args, **kwargs), lambda: None):
                left.append(shutil.copytree(folder, tmp_path / f"left-{len(left)}"))
                now()

        return wrapper

    with monkeypatch.context() as patch:
        for name in ("fsync", "replace", "unlink"):
            patch.setattr(storage.os, name, copied(getattr(os, name)))
        write(folder)
    # 7 files, a write of 3 calls each, then 3 removed; before and after each call
    assert len(left) == (7 * 3 + 3) * 2
    made = []
    for copy in left:
        names = {path.name for path in copy.iterdir()}
        kept = [shard for shard in range(3) if {STAMP, f"0000{shard}.json"} & names]
        made.append(resumed(copy))
        assert made[-1] == [
            i for shard in range(3) if shard not in kept for i in LAYOUT.span(shard)
        ]
        assert content(copy) == content(whole)
    assert [len(rows) for rows in made] == sorted([len(rows) for rows in made], reverse=True)
    assert {len(rows) for rows in made} == {11, 7, 3, 0}


def test_killed_at_any_moment(whole, tmp_path):
    def slowly(indices):
        time.sleep(0.05)
        return make(indices)

    choose, codes = random.Random(0), []
    while 0 not in codes:
        process = FORK.Process(target=write, args=(tmp_path / "killed", slowly))
        process.start()
        process.join(choose.uniform(0.05, 0.2))  # five batches take longer
        process.kill()
        process.join()
        codes.append(process.exitcode)
    assert codes[0] == -signal.SIGKILL
    assert content(tmp_path / "killed") == content(whole)


def test_a_signal_leaves_what_is_whole(whole, tmp_path):
    def stopped(indices):
        if indices[0] >= 7:
            raise Interrupted("SIGTERM")
        return make(indices)

    with pytest.raises(Interrupted):
        write(tmp_path / "stopped", stopped)
    assert resumed(tmp_path / "stopped") == [*range(4, 11)]
    assert content(tmp_path / "stopped") == content(whole)
    assert resumed(tmp_path / "stopped") == []


def other_notes(folder):
    """As if another store had left its shard and its digest here."""
    (folder / "other").mkdir()
    with pytest.raises(Interrupted):
        half_made(folder / "other", {**ORIGIN, "classes": 4})
    for path in (folder / "other").glob("00000.*"):
        path.replace(folder / path.name)
    shutil.rmtree(folder / "other")


def half_made(folder, origin=ORIGIN):
    def stopped(indices):
        if indices[0] >= 8:
            raise Interrupted("SIGTERM")
        return make(indices)

    write(folder, stopped, origin=origin)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / "00000.npy"),
        lambda folder: flip(folder / "00000.npy", 20),
        lambda folder: (folder / "00000.npy").write_bytes(b""),
        lambda folder: (folder / "00000.npy").unlink(),
        lambda folder: (folder / "00000.json").unlink(),
        lambda folder: (folder / "00000.json").write_text("{"),
        lambda folder: (folder / "00000.json").write_text("[]"),
        other_notes,
    ],
)
def test_what_is_not_whole_is_made_again(whole, tmp_path, damage):
    folder = tmp_path / "half"
    with pytest.raises(Interrupted):
        half_made(folder)
    damage(folder)
    (folder / "00007.npy").write_text("of a longer store")
    assert resumed(folder) == [*range(4), *range(8, 11)]
    assert content(folder) == content(whole)


def test_a_stamp_of_another_store_keeps_nothing(whole, tmp_path):
    folder = tmp_path / "other"
    write(folder, origin={**ORIGIN, "seed": 1})
    assert resumed(folder) == [*range(11)]
    assert content(folder) == content(whole)


# ---- several processes ---------------------------------------------------------------------------


def in_two(folder, make):
    """Write a store on two processes; what each raised, or None."""
    told = FORK.Queue()

    def work(rank):
        torch.set_num_threads(1)
        place = f"file://{folder.with_suffix('.meet')}"
        wait = timedelta(seconds=60)
        dist.init_process_group("gloo", init_method=place, rank=rank, world_size=2, timeout=wait)
        try:
            write(folder, make)
            told.put(None)
        except UserError as error:
            told.put(str(error))
        finally:
            dist.destroy_process_group()

    processes = [FORK.Process(target=work, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    answers = [told.get(timeout=90) for _ in processes]
    for process in processes:
        process.join()
    folder.with_suffix(".meet").unlink(missing_ok=True)
    return answers


def test_two_processes_write_what_one_does(whole, tmp_path):
    makers = tmp_path / "makers"
    makers.mkdir()

    def told(indices):
        (makers / str(int(indices[0]))).write_text(str(dist.get_rank()))
        return make(indices)

    def failing(indices):
        if indices[0] >= 8:
            raise UserError("the disk is full.")
        return told(indices)

    folder = tmp_path / "two"
    # what fails on one fails on all, and none waits for ever
    assert in_two(folder, failing) == ["the disk is full."] * 2
    assert in_two(folder, told) == [None, None]
    assert content(folder) == content(whole)
    # the first of three shards was one rank's, and was kept; the others were shared
    assert {path.name: path.read_text() for path in makers.iterdir()} == {
        **{"0": "0", "3": "0"},
        **{"4": "1", "7": "1"},
        **{"8": "1"},
    }

"""The pair store: what goes in comes out, whoever wrote it, or one line says why not."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import random
import resource
import shutil
import signal
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from gendiff import storage
from gendiff.data import filling, pairs
from gendiff.data.filling import write_store
from gendiff.data.pairs import STAMP, Layout, PairStore, write_shard, write_stamp
from gendiff.errors import Interrupted, UserError
from gendiff.products import open_product
from gendiff.seeding import Draws
from gendiff.storage import sha256, write_json

FORK = multiprocessing.get_context("fork")  # a fresh process would import PyTorch again
LAYOUT, ORIGIN = Layout(11, (2, 3)), {"direction": "noise to data", "classes": 3}


def make(indices):
    """Rows that depend on nothing but their index."""
    first, n = int(indices[0]), len(indices)
    x0, eps = (Draws((name,), first, n, 1).normal(2, 3) for name in ("x0", "eps"))
    return {"x0": x0, "eps": eps, "label": indices % 3}


def write(folder, make=make, layout=LAYOUT, origin=ORIGIN):
    return write_store(folder, layout, origin, make, lambda done: None)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Shards of 4 rows, made 3 at a time; no plug is pulled, so no disk need be waited for."""
    monkeypatch.setattr(storage.os, "fsync", lambda handle: None)
    monkeypatch.setattr(pairs, "SHARD_ROWS", 4)
    monkeypatch.setattr(filling, "BATCH", 3)


@pytest.fixture
def whole(tmp_path):
    """A store that nothing disturbed."""
    write(tmp_path / "whole")
    return tmp_path / "whole"


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


def flip(path, place=-1):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


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


# ---- damaged -------------------------------------------------------------------------------------


@dataclass
class Data:
    name: str = "mixture"
    shape: tuple[int, ...] = (2, 3)
    classes: int = 3


@dataclass
class Run:
    data: Any


@pytest.fixture
def stage(tmp_path):
    """A finished stage of pairs, and beside it another whose pairs are others."""
    for number, name in enumerate(("couples", "others")):
        inside = tmp_path / name / "products/pairs"
        digests = write(inside, origin={**ORIGIN, "seed": number})
        digests = {f"products/pairs/{file}": digest for file, digest in digests.items()}
        write_json(tmp_path / name / "done.json", {"digests": digests})
    flip(tmp_path / "others/products/pairs/00001.npy")
    return tmp_path / "couples"


def swap(folder):
    (folder / "00001.npy").rename(folder / "spare")
    (folder / "00000.npy").rename(folder / "00001.npy")
    (folder / "spare").rename(folder / "00000.npy")


def foreign(name):
    def damage(folder):
        shutil.copy(folder.parents[2] / "others/products/pairs" / name, folder)

    return damage


@pytest.mark.parametrize(
    ("damage", "file", "word"),
    [
        (lambda f: flip(f / "00001.npy"), "00001.npy", "damaged"),
        (lambda f: flip(f / "00002.npy", 20), "00002.npy", "damaged"),
        (lambda f: os.truncate(f / "00001.npy", 200), "00001.npy", "damaged"),
        (lambda f: (f / "00000.npy").write_bytes(b""), "00000.npy", "damaged"),
        (lambda f: (f / "00001.npy").unlink(), "00001.npy", "missing"),
        (foreign("00001.npy"), "00001.npy", "of another store"),
        (swap, "00000.npy", "of another store"),
        (foreign(STAMP), STAMP, "damaged"),
        (lambda f: flip(f / STAMP, 30), STAMP, "damaged"),
        (lambda f: (f / STAMP).unlink(), STAMP, "missing"),
        (lambda f: shutil.rmtree(f), STAMP, "missing"),
    ],
)
def test_damage_is_named_with_the_way_out(stage, damage, file, word):
    assert len(open_product(stage, "pairs", Run(Data()))) == 11
    damage(stage / "products/pairs")
    with pytest.raises(UserError) as told:
        open_product(stage, "pairs", Run(Data()))
    assert str(stage / "products/pairs" / file) in str(told.value)
    assert word in str(told.value)
    assert "--rerun couples" in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Data(shape=(3, 2)), r"shape \(2, 3\), but mixture has \(3, 2\)"),
        (Data(classes=0), "classes 3, but mixture has 0"),
    ],
)
def test_pairs_for_other_data_are_refused(stage, data, message):
    with pytest.raises(UserError, match=message):
        open_product(stage, "pairs", Run(data))


@pytest.mark.parametrize(
    "lie",
    [
        {"count": 10**18},
        {"count": 12.0},
        {"count": True},
        {"count": -1},
        {"count": 13},
        {"shape": [0]},
        {"shape": 2},
        {"shape": [10**6, 10**6]},
        {"dtype": "object"},
        {"format": 2},
        {"origin": []},
        {"shards": {}},
        {"shards": ["00000.npy", "00001.npy", "00002.npy"]},
        {"shards": {"../0.npy": "", "00001.npy": "", "00002.npy": ""}},
    ],
    ids=str,
)
def test_a_stamp_that_lies_is_not_believed(whole, lie):
    stamp = json.loads((whole / STAMP).read_text())
    write_json(whole / STAMP, {**stamp, **lie})
    with pytest.raises(UserError, match=r"stamp.json: damaged"):
        PairStore(whole)


def test_a_shard_that_lies_takes_no_memory(whole):
    """Its digest is right, but its header speaks of rows that are not there."""
    store = PairStore(whole)
    data = (whole / "00001.npy").read_bytes()
    assert b"'shape': (4,), }           " in data
    for size in (b"9" * 10, b"3" + b" " * 9):
        lie = data.replace(b"(4,), }" + b" " * 9, b"(" + size + b",), }", 1)
        assert len(lie) == len(data)
        (whole / "00001.npy").write_bytes(lie)
        with pytest.raises(UserError, match=r"00001\.npy"):
            store[4]
    write_shard(whole / "00001.npy", np.zeros(4, Layout(1, (10**4,)).descr))
    with pytest.raises(UserError, match=r"00001.npy: does not hold the rows"):
        store[4]
    assert store[3]["x0"].isfinite().all()
    write_stamp(whole, Layout(1, (10**8,)), ORIGIN, {"00000.npy": ""})
    with pytest.raises(UserError, match=r"00000.npy: does not hold the rows"):
        PairStore(whole)[0]


# ---- memory --------------------------------------------------------------------------------------


def within(more, work):
    """Run in a process that may have so many bytes more than it has; its exit code."""

    def limited():
        status = Path("/proc/self/status").read_text()
        used = next(int(row.split()[1]) for row in status.splitlines() if "VmData" in row) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (used + more, used + more))
        try:
            work()
        except (MemoryError, RuntimeError):
            os._exit(7)

    process = FORK.Process(target=limited)
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measured as Linux does")
def test_a_store_larger_than_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "SHARD_ROWS", 256)
    monkeypatch.setattr(filling, "BATCH", 64)
    layout = Layout(2000, (3, 32, 32))  # 49 MB, 6 MB a shard

    def flat(indices):
        x0 = indices[:, None, None, None].float().expand(-1, *layout.shape)
        return {"x0": x0, "eps": -x0, "label": indices}

    def read():
        store = PairStore(tmp_path)
        for name, digest in store.digests.items():
            pairs.check_shard(tmp_path / name, digest)
        for first in range(0, 2000, 40):
            picked = [(first + i * 53) % 2000 for i in range(40)]
            batch = store.__getitems__(picked)
            assert batch["x0"].mean((1, 2, 3)).tolist() == picked
            assert batch["eps"].equal(-batch["x0"])

    def read_whole():
        shards = [np.fromfile(path) for path in tmp_path.glob("*.npy")]
        os._exit(len(shards))

    assert within(2**24, lambda: write(tmp_path, flat, layout)) == 0
    assert within(2**24, read) == 0
    assert within(2**24, read_whole) == 7  # the limit is one

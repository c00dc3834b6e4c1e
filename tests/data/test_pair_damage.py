"""The pair store when it is damaged, or lies: one line says so, and memory is not taken."""

from __future__ import annotations

import json
import os
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stores import FORK, ORIGIN, flip, write

from gendiff.data import filling, pairs
from gendiff.data.pairs import STAMP, Layout, PairStore, write_shard, write_stamp
from gendiff.errors import UserError
from gendiff.products import open_product
from gendiff.storage import write_json

pytestmark = pytest.mark.usefixtures("small_shards")


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
        shards = [np.fromfile(path) for path in tmp_path.glob("*.npy") for _ in range(40)]
        os._exit(len(shards))

    assert within(2**24, lambda: write(tmp_path, flat, layout)) == 0
    assert within(2**24, read) == 0
    assert within(2**24, read_whole) == 7  # the limit is one

"""CIFAR-10 from its binary files, whole or damaged."""

from __future__ import annotations

import pytest
import torch

from gendiff.data import cifar
from gendiff.data.cifar import CIFAR10, HELD_OUT, TRAIN, CIFAR10Config
from gendiff.errors import UserError

ROWS = 20
FILES = (*TRAIN, *HELD_OUT)


@pytest.fixture
def values(tmp_path, monkeypatch):
    """Rows of six files of 20 rows each, (6, 20, 3073), that are written to the test's folder."""
    monkeypatch.setattr(cifar, "ROWS", ROWS)
    values = torch.randint(256, (6, ROWS, 3073)).to(torch.uint8)
    values[..., 0] = torch.arange(ROWS) % 10
    values[:, 0, 1:3] = torch.tensor([0, 255])
    for name, rows in zip(FILES, values, strict=True):
        (tmp_path / name).write_bytes(rows.numpy().tobytes())
    return values


def opened(folder, **settings):
    return CIFAR10(CIFAR10Config(folder=str(folder), **settings))


def test_the_published_sizes():
    assert cifar.ROWS * cifar.ROW == 30_730_000
    assert (CIFAR10Config().shape, CIFAR10Config().classes) == ((3, 32, 32), 10)


def test_rows_are_those_of_the_files_in_order(tmp_path, values):
    data = opened(tmp_path)
    for half, wanted in ((data.train, values[:5].flatten(0, 1)), (data.held_out, values[5])):
        assert len(half) == len(wanted)
        rows = half.__getitems__([*range(len(half))])
        assert rows["x0"].dtype == torch.float32
        assert (rows["x0"].min(), rows["x0"].max()) == (-1, 1)
        torch.testing.assert_close(
            (rows["x0"] + 1) * 127.5, wanted[:, 1:].view(-1, 3, 32, 32) * 1.0
        )
        assert rows["label"].equal(wanted[:, 0].long())
    # red before green before blue, and rows of pixels before columns
    assert data.held_out[3]["x0"][1, 2, 7] == values[5, 3, 1 + 1024 + 2 * 32 + 7] / 127.5 - 1


def test_mirrored_rows_follow_the_others(tmp_path, values):
    data = opened(tmp_path, flip=True)
    assert (len(data.train), len(data.held_out)) == (200, 20)
    mixed = [100, 3, 199, 0, 103]
    rows, plain = data.train.__getitems__(mixed), opened(tmp_path).train
    for place, index in enumerate(mixed):
        x0 = plain[index % 100]["x0"]
        assert rows["x0"][place].equal(x0.flip(-1) if index >= 100 else x0)
        assert not x0.equal(x0.flip(-1))
    assert rows["label"].tolist() == [0, 3, 9, 0, 3]
    assert rows["index"].tolist() == mixed  # each has noise of its own
    assert plain[3]["x0"].equal(data.train[3]["x0"])  # mirroring has left the rows themselves alone


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path, values, name):
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=f"{name}: missing; data.folder must hold") as error:
        opened(tmp_path)
    assert "\n" not in str(error.value)


def test_the_pickled_version_is_refused(tmp_path, values):
    (tmp_path / TRAIN[1]).rename(tmp_path / "data_batch_2")
    with pytest.raises(UserError, match=r"data_batch_2: of CIFAR-10's Python .*batch_2\.bin"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d[:-1], "damaged; expected 20 x 3073 bytes, found 61459"),
        (lambda d: d + b"x", "found 61461"),
        (lambda d: b"", "found 0"),
        (lambda d: d[:3073] + b"\x0a" + d[3074:], "expected classes 0 to 9, found 10"),
    ],
)
@pytest.mark.parametrize("name", [TRAIN[4], HELD_OUT[0]])
def test_a_damaged_file_is_named(tmp_path, values, name, change, message):
    path = tmp_path / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=f"{name}: .*{message}"):
        opened(tmp_path)


def test_a_folder_must_be_named():
    with pytest.raises(ValueError, match=r"^folder: "):
        CIFAR10Config().check()

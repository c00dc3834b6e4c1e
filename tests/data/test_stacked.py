"""Stacked digits: rows, modes and halves; and MNIST from its files, whole or damaged."""

from __future__ import annotations

import gzip
import struct
import tracemalloc

import pytest
import torch
from torch.utils.data import DataLoader

from gendiff.data.base import GlobalBatches, collate
from gendiff.data.digits import Digits, DigitsConfig
from gendiff.data.idx import read_idx
from gendiff.data.stacked import (
    Stacked,
    StackedDigits,
    StackedDigitsConfig,
    StackedMNIST,
    StackedMNISTConfig,
    Stacks,
)
from gendiff.errors import UserError


def rows_of(half, count=None):
    return half.__getitems__([*range(count or len(half))])


@pytest.fixture(scope="module")
def stacked():
    return StackedDigits(StackedDigitsConfig())


# ---- stacks --------------------------------------------------------------------------------------


def test_sizes_and_ranges(stacked):
    assert (len(stacked.train), len(stacked.held_out)) == (50000, 26000)
    config, x0 = StackedDigitsConfig(), rows_of(stacked.train, 2000)["x0"]
    assert (config.classes, config.shape, x0.dtype) == (0, x0.shape[1:], torch.float32)
    assert (x0.min(), x0.max()) == (-1, 1)
    assert stacked.mode_weights.sum().item() == pytest.approx(1, rel=1e-12)
    assert stacked.mode_weights.unique(return_counts=True)[1].tolist() == [1000]


@pytest.mark.parametrize("split", [0, 3])
@pytest.mark.parametrize("half", ["train", "held_out"])
def test_channels_are_digits_of_the_same_half(half, split):
    stacks = StackedDigits(StackedDigitsConfig(samples=3000, held_out=3000, split=split))
    digits = getattr(Digits(DigitsConfig(split=split)), half).columns
    class_of = {
        image.numpy().tobytes(): label
        for image, label in zip(digits["x0"], digits["label"].tolist(), strict=True)
    }
    rows = rows_of(getattr(stacks, half))
    found = [[class_of[c.numpy().tobytes()] for c in x] for x in rows["x0"]]  # no other digit
    assert rows["label"].tolist() == [100 * a + 10 * b + c for a, b, c in found]


def test_modes_are_even_and_channels_independent(stacked):
    counts = torch.bincount(stacked.train.label, minlength=1000).double()
    # chi-squared over 999 degrees of freedom: 999 with a standard deviation of 45
    assert ((counts - 50).square() / 50).sum().item() == pytest.approx(999, abs=150)
    assert stacked.train.label.unique().tolist() == [*range(1000)]


def test_images_of_a_class_are_even():
    # one image of class 0 and many of class 1 come as often each as their class allows
    classes = torch.tensor([1, 0, *range(1, 10), 1, 1])
    images = torch.arange(13.0).view(13, 1, 1, 1)
    stacks = Stacks(images, classes, 20000, 0)
    shares = torch.bincount(stacks.picks.flatten(), minlength=13) / 60000
    expected = torch.where(classes == 1, 1 / 40, 1 / 10)
    torch.testing.assert_close(shares, expected, rtol=0, atol=0.006)
    assert rows_of(stacks)["x0"].shape == (20000, 3, 1, 1)


def test_rows_depend_on_split_half_and_index_alone(stacked):
    torch.manual_seed(1)
    few = StackedDigits(StackedDigitsConfig(samples=700, held_out=20, batch_size=7))
    for half in ("train", "held_out"):
        mine, theirs = getattr(few, half), getattr(stacked, half)
        assert rows_of(mine)["x0"].equal(rows_of(theirs, len(mine))["x0"])
        assert mine.label.equal(theirs.label[: len(mine)])
    other = StackedDigits(StackedDigitsConfig(samples=700, held_out=20, split=1))
    assert not other.train.label.equal(few.train.label)
    assert not few.train.label[:20].equal(few.held_out.label)
    # these rows are part of the data
    assert few.train.label[:8].tolist() == [290, 235, 868, 842, 976, 696, 647, 383]


def test_rows_come_through_the_loader(stacked):
    sampler = GlobalBatches(len(stacked.train), 8, 0, 2, 0, "a")
    batches = list(DataLoader(stacked.train, batch_sampler=sampler, collate_fn=collate))
    assert [batch["index"].tolist() for batch in batches] == list(sampler)
    alone = collate([stacked.train[i] for i in batches[1]["index"].tolist()])
    assert alone.keys() == batches[1].keys() == {"x0", "label", "index"}
    assert all(alone[name].equal(batches[1][name]) for name in alone)


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (StackedDigitsConfig(samples=0), "samples"),
        (StackedDigitsConfig(held_out=-1), "held_out"),
        (StackedMNISTConfig(), "folder"),
        (StackedMNISTConfig(folder="x", samples=0), "samples"),
    ],
)
def test_impossible_sets_are_refused(config, key):
    with pytest.raises(ValueError, match=f"^{key}: "):
        config.check()


# ---- MNIST's files -------------------------------------------------------------------------------


def idx(values, *sizes):
    """The bytes of an IDX file of bytes, whose header may claim other sizes."""
    values = torch.as_tensor(values, dtype=torch.uint8)
    sizes = sizes or values.shape
    return struct.pack(f">4B{len(sizes)}I", 0, 0, 8, len(sizes), *sizes) + values.numpy().tobytes()


def write(path, data):
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return path


IMAGES = torch.randint(256, (2, 20, 28, 28), generator=torch.Generator().manual_seed(0))
IMAGES[0, 0, 0, :2] = torch.tensor([0, 255])
LABELS = torch.arange(20) % 10
FILES = {
    "train-images-idx3-ubyte": idx(IMAGES[0]),
    "train-labels-idx1-ubyte": idx(LABELS),
    "t10k-images-idx3-ubyte": idx(IMAGES[1]),
    "t10k-labels-idx1-ubyte": idx(LABELS.flip(0)),
}


@pytest.fixture
def mnist(tmp_path):
    """A folder with MNIST's files, two of them compressed, and 20 images each."""
    for i, (name, data) in enumerate(FILES.items()):
        write(tmp_path / (f"{name}.gz" if i % 3 else name), data)
    return tmp_path


def open_mnist(folder):
    return StackedMNIST(StackedMNISTConfig(folder=str(folder), samples=300, held_out=200))


def test_mnist_is_padded_and_scaled(mnist):
    data = open_mnist(mnist)
    assert isinstance(data, Stacked)
    assert StackedMNISTConfig().shape == (3, 32, 32)
    for half, images, classes in (
        (data.train, IMAGES[0], LABELS),
        (data.held_out, IMAGES[1], LABELS.flip(0)),
    ):
        rows = rows_of(half)
        inside = rows["x0"][:, :, 2:30, 2:30]
        torch.testing.assert_close((inside + 1) * 127.5, images[half.picks].float())
        inside.fill_(-1)
        assert (rows["x0"] == -1).all()
        assert rows["label"].equal(classes[half.picks] @ torch.tensor([100, 10, 1]))
    assert (data.train.images.min(), data.train.images.max()) == (-1, 1)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(mnist, name):
    (path,) = mnist.glob(f"{name}*")
    path.unlink()
    with pytest.raises(UserError, match=rf"{name}: missing; data.folder must hold it"):
        open_mnist(mnist)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("train-images-idx3-ubyte", idx(IMAGES[0, :, 1:]), "28 x 28 pixels, found 27 x 28"),
        ("train-images-idx3-ubyte", FILES["train-labels-idx1-ubyte"], "3 axes"),
        ("t10k-labels-idx1-ubyte", idx(LABELS[:19]), "20 labels, .* found 19, from 0 to 9"),
        ("t10k-labels-idx1-ubyte", idx(LABELS + 1), "found 20, from 1 to 10"),
        ("t10k-labels-idx1-ubyte", idx(LABELS.clamp(max=8)), "found 20, from 0 to 8"),
    ],
    ids=["size", "kind", "count", "classes", "missing class"],
)
def test_files_of_other_things_are_refused(mnist, name, data, message):
    for path in mnist.glob(f"{name}*"):
        path.unlink()
    write(mnist / name, data)
    with pytest.raises(UserError, match=f"{name}: .*{message}") as error:
        open_mnist(mnist)
    assert "\n" not in str(error.value)


# ---- IDX -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("sizes", [(1,), (7,), (2, 3, 5), (3, 600, 800)])
def test_idx_is_read_back(tmp_path, sizes, suffix):
    values = torch.randint(256, sizes).to(torch.uint8)
    path = write(tmp_path / f"a{suffix}", idx(values))
    assert read_idx(path, len(sizes)).equal(values)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "begins with 00 00 08 02 and its sizes, not nothing"),
        (b"\x00\x00\x08", "not 00 00 08"),
        (idx([[1, 2]])[:11], "2 axes"),
        (b"\x00\x00\x0d\x02" + idx([[1, 2]])[4:], "not 00 00 0d 02"),
        (idx([1, 2]), "not 00 00 08 01"),
        (idx([[1, 2, 3]], 2, 2), "expected 2 x 2 bytes after its header, .* found 3"),
        (idx([[1, 2, 3]], 1, 2), "found more than 2"),
        (idx([[1, 2, 3]], 0, 3), "found more than 0"),
        (idx([], 0, 3), "at least 1, found 0"),
        (idx([[1, 2, 3]], 2**32 - 1, 2**32 - 1), "claims 18446744065119617025 bytes"),
    ],
    ids=range(10),
)
def test_damaged_idx_is_refused(tmp_path, data, message, suffix):
    path = write(tmp_path / f"a{suffix}", data)
    with pytest.raises(UserError, match=message) as error:
        read_idx(path, 2)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [lambda d: d[:-9], lambda d: b"x" + d, lambda d: d[:25] + d[27:]],
    ids=["end", "magic", "middle"],
)
def test_damaged_compression_is_refused(tmp_path, change):
    path = tmp_path / "a.gz"
    path.write_bytes(change(gzip.compress(FILES["train-images-idx3-ubyte"])))
    with pytest.raises(UserError, match=r"a\.gz: expected an IDX file, which cannot be read"):
        read_idx(path, 3)


@pytest.mark.parametrize(("suffix", "claimed"), [("", 2**31), (".gz", 2**31), (".gz", 2)])
def test_memory_is_taken_only_for_what_is_there(tmp_path, suffix, claimed):
    # 16 MB of zeros, 16 kB when compressed, and a header that claims more or less
    path = write(tmp_path / f"a{suffix}", idx(torch.zeros(2**24), claimed))
    tracemalloc.start()
    with pytest.raises(UserError, match="damaged"):
        read_idx(path, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23

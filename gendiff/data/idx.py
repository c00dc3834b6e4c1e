"""MNIST from its four files, in the IDX format.

LeCun, Cortes & Burges, "The MNIST database of handwritten digits". A file holds two zero bytes, the
type of its values (8: unsigned bytes), the number of axes, the sizes (big-endian, 32 bits each),
and the values.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from io import BufferedIOBase
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from gendiff.errors import UserError

CLASSES = 10
SIDE, PADDING = 28, 2
_CHUNK = 2**20
_MOST = 2**28
"""Bytes, five times what MNIST has."""


def read_mnist(folder: Path, half: str) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 32, 32) in [-1, 1] and classes (N,) of ``train`` or ``t10k``.

    Raises:
        UserError: a file is missing or damaged, or does not hold MNIST's images or labels.
    """
    paths = [find(folder, f"{half}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")]
    images, classes = read_idx(paths[0], 3), read_idx(paths[1], 1).long()
    if images.shape[1:] != (SIDE, SIDE):
        raise UserError(
            f"{paths[0]}: expected images of {SIDE} x {SIDE} pixels, found "
            f"{images.shape[1]} x {images.shape[2]}."
        )
    if len(classes) != len(images) or classes.unique().tolist() != [*range(CLASSES)]:
        raise UserError(
            f"{paths[1]}: expected {len(images)} labels, one an image, with all of 0 to 9 and no "
            f"other; found {len(classes)}, from {classes.min()} to {classes.max()}."
        )
    return F.pad(images[:, None] / 127.5 - 1, [PADDING] * 4, value=-1.0), classes


def find(folder: Path, name: str) -> Path:
    """A file of MNIST's, plain or else as .gz.

    Raises:
        UserError: it is neither.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise UserError(f"{folder / name}: missing; data.folder must hold it, plain or as .gz.")


def read_idx(path: Path, axes: int) -> Tensor:
    """The values of a file, uint8, as plain bytes or, where its name ends in .gz, compressed.

    Memory for them is taken only once as many bytes have been counted as the header claims.

    Raises:
        UserError: the file is missing, damaged or of another kind; it says what is expected.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _read(file, path, axes)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: expected an IDX file, which cannot be read ({error}).") from None


def _read(file: BufferedIOBase, path: Path, axes: int) -> Tensor:
    kind = bytes([0, 0, 8, axes])
    head = file.read(len(kind) + 4 * axes)
    if len(head) < len(kind) + 4 * axes or head[: len(kind)] != kind:
        raise UserError(
            f"{path}: expected an IDX file of bytes with {axes} axes, which begins with "
            f"{kind.hex(' ')} and its sizes, not {head[: len(kind)].hex(' ') or 'nothing'}."
        )
    sizes = struct.unpack(f">{axes}I", head[len(kind) :])
    wanted, there = math.prod(sizes), 0
    if wanted > _MOST:
        raise UserError(f"{path}: damaged; claims {wanted} bytes, {_MOST} are the most of MNIST.")
    while there <= wanted and (chunk := file.read(_CHUNK)):
        there += len(chunk)
    if there != wanted or not wanted:
        found = f"more than {wanted}" if there > wanted else f"{there}"
        raise UserError(
            f"{path}: damaged; expected {' x '.join(map(str, sizes))} bytes after its header, at "
            f"least 1, found {found}."
        )
    file.seek(len(head))
    values = bytearray(wanted)
    view = memoryview(values)
    for start in range(0, wanted, _CHUNK):
        view[start : start + _CHUNK] = file.read(min(_CHUNK, wanted - start))
    return torch.frombuffer(values, dtype=torch.uint8).view(sizes)

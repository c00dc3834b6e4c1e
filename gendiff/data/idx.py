"""IDX files of bytes, the format that MNIST comes in.

LeCun, Cortes & Burges, "The MNIST database of handwritten digits": two zero bytes, the type of the
values (8: unsigned bytes), the number of axes, the sizes (big-endian, 32 bits each), the values.
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

from gendiff.errors import UserError

_CHUNK = 2**20


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

"""CIFAR-10 from the six files of its binary version.

Krizhevsky 2009, "Learning multiple layers of features from tiny images". A file holds 10,000 rows
of 3073 bytes: the class, and 32 x 32 pixels of red, then of green, then of blue.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gendiff.data.base import DataConfig
from gendiff.data.pictures import Pictures
from gendiff.errors import UserError
from gendiff.papers import Paper, cites

CLASSES = 10
SHAPE = (3, 32, 32)
ROWS = 10000
"""Of each file."""
ROW = 3073
"""Bytes."""
TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
HELD_OUT = ("test_batch.bin",)


@dataclass(frozen=True)
class CIFAR10Config(DataConfig):
    name: str = "cifar10"
    folder: str = ""
    """Where the binary version's six files are, ``cifar-10-batches-bin`` as it is published."""
    flip: bool = False
    """Train on every image and on its mirror image, 100,000 rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        return SHAPE

    @property
    def classes(self) -> int:
        return CLASSES

    def check(self) -> None:
        """
        Raises:
            ValueError: a value is impossible; the message begins with the key.
        """
        if not self.folder:
            raise ValueError("folder: must be where the binary version's six files are")


class Images(Pictures):
    """Rows of files in memory, a byte a value."""

    def __init__(self, rows: Tensor, flip: bool) -> None:
        super().__init__(rows[:, 0].long(), flip)
        self.images = rows[:, 1:].unflatten(1, SHAPE)

    def pixels(self, rows: list[int]) -> Tensor:
        return self.images[rows]


TINY_IMAGES = Paper(
    "Alex Krizhevsky",
    "Learning Multiple Layers of Features from Tiny Images",
    "University of Toronto",
    2009,
)


@cites(TINY_IMAGES)
class CIFAR10:
    """CIFAR-10, (3, 32, 32) in [-1, 1], 10 classes; 50,000 to train on, 10,000 held out.

    Raises:
        UserError: a file is missing or damaged, or is one of the Python version.
    """

    Config = CIFAR10Config

    def __init__(self, config: CIFAR10Config) -> None:
        folder = Path(config.folder)
        train, held_out = (
            torch.cat([read_rows(folder, name) for name in names]) for names in (TRAIN, HELD_OUT)
        )
        self.train, self.held_out = Images(train, config.flip), Images(held_out, False)


def read_rows(folder: Path, name: str) -> Tensor:
    """A file's rows, (10000, 3073) uint8, the class first.

    Raises:
        UserError: the file is missing or damaged, or there is only its Python version.
    """
    path = folder / name
    try:
        if not path.is_file() and (folder / path.stem).is_file():
            raise UserError(
                f"{folder / path.stem}: of CIFAR-10's Python version, a pickle, which is never "
                f"read; data.folder must hold {name} and the rest of the binary version."
            )
        if not path.is_file():
            raise UserError(
                f"{path}: missing; data.folder must hold the files of CIFAR-10's binary version."
            )
        if (size := path.stat().st_size) != ROWS * ROW:
            raise UserError(f"{path}: damaged; expected {ROWS} x {ROW} bytes, found {size}.")
        rows = torch.from_numpy(np.fromfile(path, np.uint8).reshape(ROWS, ROW))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    if (largest := int(rows[:, 0].max())) >= CLASSES:
        raise UserError(f"{path}: damaged; expected classes 0 to 9, found {largest}.")
    return rows

"""Images of any kind and size, of a folder or a .zip, made square and of one size.

A picture is cropped to the largest square at its centre, and then resized by Pillow with Lanczos'
filter, which is antialiased. Nothing is enlarged. Files are opened when their row is asked for, so
that a set need not fit into memory. LSUN's database itself is not read: export its images with its
authors' tool.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from gendiff.data.base import DataConfig
from gendiff.data.files import Files
from gendiff.data.pictures import Pictures
from gendiff.errors import UserError
from gendiff.seeding import key

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".tif", ".tiff")
"""Of files that are images; all other files are passed over."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF")
"""What a file's content may be; Pillow would start other programs for some others."""
MODES = {1: "L", 3: "RGB"}
"""Pillow's name for a number of channels."""
LIMIT = 2**29
"""Bytes of a file: more than any image takes that is within Pillow's limit of pixels."""


@dataclass(frozen=True)
class ImagesConfig(DataConfig):
    name: str = "images"
    path: str = ""
    """Folder or .zip of images, at any depth."""
    size: int = 256
    """Pixels of a side."""
    channels: int = 3
    """3 for colours, 1 for shades of grey."""
    classes: int = 0
    """Number of sub-folders, one a class, in the order of their names; 0 for unlabelled images."""
    flip: bool = False
    """Train on every image and on its mirror image, twice as many rows."""
    held_out: int = 1000
    """Images to measure against, a random choice that is part of the data."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.size, self.size)

    def check(self) -> None:
        """
        Raises:
            ValueError: a value is impossible; the message begins with the key.
        """
        if not self.path:
            raise ValueError("path: must be a folder or a .zip of images")
        if self.channels not in MODES:
            raise ValueError(f"channels: {self.channels} must be 1 or 3")
        for name, least in (("size", 1), ("classes", 0), ("held_out", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least {least}")


class Decoded(Pictures):
    """Files that are decoded as they are asked for.

    Args:
        names: of the images among the files.
        label: of the images, (N,).
        shape: (C, H, W) of a row.
        flip: whether there are mirrored rows.
    """

    def __init__(
        self, files: Files, names: list[str], label: Tensor, shape: tuple[int, ...], flip: bool
    ) -> None:
        super().__init__(label, flip)
        self.files, self.names, self.shape = files, names, shape

    def pixels(self, rows: list[int]) -> Tensor:
        """
        Raises:
            UserError: a file is damaged, no image, or too small.
        """
        pixels = torch.empty((len(rows), *self.shape), dtype=torch.uint8)
        for place, row in enumerate(rows):
            pixels[place] = decode(self.files, self.names[row], self.shape)
        return pixels


class Images:
    """Images of a folder or a .zip, (C, size, size) in [-1, 1], some of them held out.

    Raises:
        UserError: there are too few images, or they do not lie in as many sub-folders as classes.
    """

    Config = ImagesConfig

    def __init__(self, config: ImagesConfig) -> None:
        files = Files(Path(config.path), SUFFIXES)
        count = len(files.names)
        if count <= config.held_out:
            raise UserError(
                f"{config.path}: {count} images ({' '.join(SUFFIXES)}), of which data.held_out "
                f"takes {config.held_out}; none is left to train on."
            )
        label = labels_of(files, config.classes)
        # which images are held out is part of the data, not of the run: its seed does not move them
        generator = torch.Generator().manual_seed(key("images", "held_out", count))
        order = torch.randperm(count, generator=generator)
        halves = order[config.held_out :].sort().values, order[: config.held_out].sort().values
        self.train, self.held_out = (
            Decoded(files, [files.names[i] for i in half.tolist()], label[half], config.shape, flip)
            for half, flip in zip(halves, (config.flip, False), strict=True)
        )


def labels_of(files: Files, classes: int) -> Tensor:
    """The place of each image's first folder among all of them by name, (N,); 0 without classes.

    Raises:
        UserError: there are not as many folders as classes, or an image lies in none.
    """
    if not classes:
        return torch.zeros(len(files.names), dtype=torch.int64)
    for name in files.names:
        if "/" not in name:
            raise UserError(
                f"{files.where(name)}: lies in no sub-folder; with data.classes above 0 there is "
                f"one for each class."
            )
    folders = [name.split("/")[0] for name in files.names]
    places = {folder: place for place, folder in enumerate(sorted({*folders}))}
    if len(places) != classes:
        raise UserError(
            f"{files.path}: {len(places)} sub-folders with images, but data.classes is {classes}."
        )
    return torch.tensor([places[folder] for folder in folders])


def decode(files: Files, name: str, shape: tuple[int, ...]) -> Tensor:
    """An image cropped to its centre and resized, (C, H, W) uint8; transparency is dropped.

    Raises:
        UserError: the file is damaged, no image, one of more than 8 bits a value, smaller than the
            shape, or larger than Pillow's limit of pixels.
    """
    data = files.read(name, LIMIT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd but readable files
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            pixels = _square(io.BytesIO(data), shape[0], shape[1])
    except UnidentifiedImageError:
        raise UserError(f"{files.where(name)}: damaged, or none of {', '.join(FORMATS)}.") from None
    except Exception as error:  # what decoders raise at damaged files is no short list
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{files.where(name)}: cannot be used ({why.rstrip('.')}).") from None
    return torch.from_numpy(pixels).view(shape[1], shape[2], -1).permute(2, 0, 1)


def _square(file: io.BytesIO, channels: int, side: int) -> np.ndarray[Any, Any]:
    """(side, side) or (side, side, 3) uint8."""
    with Image.open(file, formats=FORMATS) as image:
        width, height = image.size
        least = min(width, height)
        if least < side:
            raise ValueError(f"{width} x {height} pixels, but data.size is {side}")
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"more than 8 bits a value: Pillow's mode {image.mode}")
        left, top = (width - least) // 2, (height - least) // 2
        square = image.crop((left, top, left + least, top + least)).convert(MODES[channels])
        return np.array(square.resize((side, side), Image.Resampling.LANCZOS))

"""Images kept as bytes and scaled as they are asked for, mirrored copies among them if wished."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gendiff.data.base import Batch


class Pictures(Dataset[Batch], ABC):
    """Rows {x0, label, index} of labelled images, x0 being float32 in [-1, 1].

    With ``flip`` there are twice as many rows: row N + i is row i mirrored left to right. Others
    toss a coin for each image of each batch; here an epoch holds every image both ways, and a batch
    is a function of its rows alone.

    Args:
        label: (N,) int64.
        flip: whether there are mirrored rows.
    """

    def __init__(self, label: Tensor, flip: bool) -> None:
        self.label, self.flip = label, flip

    @abstractmethod
    def pixels(self, rows: list[int]) -> Tensor:
        """Images of these rows among the N, (B, C, H, W) uint8, in memory of their own."""

    def __len__(self) -> int:
        return len(self.label) * (2 if self.flip else 1)

    def __getitem__(self, index: int) -> Batch:
        return {name: rows[0] for name, rows in self.__getitems__([index]).items()}

    def __getitems__(self, indices: list[int]) -> Batch:
        """A whole batch at once: the loader's fast way."""
        picked = torch.tensor(indices)
        rows, mirrored = picked % len(self.label), picked >= len(self.label)
        pixels = self.pixels(rows.tolist())
        pixels[mirrored] = pixels[mirrored].flip(-1)
        return {"x0": pixels / 127.5 - 1, "label": self.label[rows], "index": picked}

"""Scikit-learn's handwritten digits: 1,797 real 8x8 images, shipped with the library.

Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gendiff.data.base import DataConfig, Rows
from gendiff.papers import Paper, cites
from gendiff.seeding import key


@dataclass(frozen=True)
class DigitsConfig(DataConfig):
    name: str = "digits"
    split: int = 0
    """Which random halves: one to train on, one held out."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, 8, 8)

    @property
    def classes(self) -> int:
        return 10


UCI_DIGITS = Paper(
    "Ethem Alpaydin, Cenk Kaynak",
    "Optical Recognition of Handwritten Digits",
    "UCI Machine Learning Repository",
    1998,
)


@cites(UCI_DIGITS)
class Digits:
    """Handwritten digits, (1, 8, 8) in [-1, 1], 10 classes; half to train on, half held out."""

    Config = DigitsConfig

    def __init__(self, config: DigitsConfig) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        x0 = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
        label = torch.tensor(digits.target, dtype=torch.int64)
        # the halves are part of the data, not of the run: its seed does not move them
        generator = torch.Generator().manual_seed(key("digits", "halves", config.split))
        order = torch.randperm(len(x0), generator=generator)
        train, held_out = order[: len(x0) // 2], order[len(x0) // 2 :]
        self.train = Rows(x0=x0[train], label=label[train])
        self.held_out = Rows(x0=x0[held_out], label=label[held_out])

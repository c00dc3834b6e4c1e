"""Stacks of three digits, one a channel: 1000 modes, to count those that a model has lost.

Metz et al. 2017, "Unrolled generative adversarial networks"; Srivastava et al. 2017, "VEEGAN"; Lin
et al. 2018, "PacGAN": all with MNIST, unconditional, and counted on 26,000 samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gendiff.data.base import MOST_ROWS, Batch, DataConfig
from gendiff.data.digits import Digits, DigitsConfig
from gendiff.data.idx import CLASSES, PADDING, SIDE, read_mnist
from gendiff.errors import check_count
from gendiff.papers import PACGAN, UNROLLED, VEEGAN, cites
from gendiff.seeding import key

_CHANNELS = 3


@dataclass(frozen=True)
class StackedConfig(DataConfig):
    """What every set of stacks can be asked for.

    ``classes`` is 0: no model is asked for a mode, and labels only say which mode a row is of.
    """

    samples: int = 50000
    """Stacks to train on."""
    held_out: int = 26000
    """Stacks to measure against, as many as the papers count modes on."""

    def check(self) -> None:
        """
        Raises:
            ValueError: a value is impossible; the message begins with the key.
        """
        for name in ("samples", "held_out"):
            check_count(name, getattr(self, name), 1, MOST_ROWS)


class Stacks(Dataset[Batch]):
    """Random triples of images, put together as they are asked for.

    Each channel's class is uniform, and its image uniform among those of the class: the papers
    draw images whatever their class, so that their modes are even only nearly. Row i depends on
    (seed, i) alone, not on how many there are. ``label`` is 100 a + 10 b + c for channels of
    classes a, b and c.

    Args:
        images: (N, 1, H, W) in [-1, 1].
        classes: of the images, (N,) in 0..9, every one of them at least once.
        count: of the stacks.
        seed: of the random triples.
    """

    def __init__(self, images: Tensor, classes: Tensor, count: int, seed: int) -> None:
        self.images = images[:, 0]
        sizes = classes.bincount(minlength=CLASSES)
        generator = torch.Generator().manual_seed(seed)
        # so far above any count that remainders are even
        draws = torch.randint(2**62, (count, _CHANNELS, 2), generator=generator)
        drawn = draws[..., 0] % CLASSES
        place = draws[..., 1] % sizes[drawn]
        self.picks = classes.argsort(stable=True)[sizes.cumsum(0)[drawn] - sizes[drawn] + place]
        """Images of each stack, (count, 3)."""
        self.label = drawn @ torch.tensor([100, 10, 1])

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, index: int) -> Batch:
        return {name: rows[0] for name, rows in self.__getitems__([index]).items()}

    def __getitems__(self, indices: list[int]) -> Batch:
        """A whole batch at once: the loader's fast way."""
        picked = torch.tensor(indices)
        x0 = self.images[self.picks[picked]]
        return {"x0": x0, "label": self.label[picked], "index": picked}


@cites(UNROLLED, VEEGAN, PACGAN)
class Stacked:
    """Two halves of stacks, and the true shares of their modes as ``mode_weights``, (1000,).

    Args:
        config: the settings.
        train: images (N, 1, H, W) and classes (N,) that rows to train on are made of.
        held_out: those that held-out rows are made of.
        seed: of the random triples.
    """

    mode_weights = torch.full((CLASSES**_CHANNELS,), 1 / CLASSES**_CHANNELS, dtype=torch.float64)

    def __init__(
        self,
        config: StackedConfig,
        train: tuple[Tensor, Tensor],
        held_out: tuple[Tensor, Tensor],
        *seed: Any,
    ) -> None:
        self.train = Stacks(*train, config.samples, key(config.name, "train", *seed))
        self.held_out = Stacks(*held_out, config.held_out, key(config.name, "held_out", *seed))


@dataclass(frozen=True)
class StackedDigitsConfig(StackedConfig):
    name: str = "stackeddigits"
    split: int = 0
    """Which random halves of the digits, as in ``digits``: one for each half of the stacks."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (_CHANNELS, 8, 8)


class StackedDigits(Stacked):
    """Stacks of three of scikit-learn's digits, (3, 8, 8) in [-1, 1], 1000 modes."""

    Config = StackedDigitsConfig

    def __init__(self, config: StackedDigitsConfig) -> None:
        digits = Digits(DigitsConfig(split=config.split))
        train, held_out = (
            (half.columns["x0"], half.columns["label"]) for half in (digits.train, digits.held_out)
        )
        super().__init__(config, train, held_out, config.split)


@dataclass(frozen=True)
class StackedMNISTConfig(StackedConfig):
    name: str = "stackedmnist"
    folder: str = ""
    """Where MNIST's four files are, plain or as .gz."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (_CHANNELS, SIDE + 2 * PADDING, SIDE + 2 * PADDING)

    def check(self) -> None:
        """
        Raises:
            ValueError: a value is impossible; the message begins with the key.
        """
        super().check()
        if not self.folder:
            raise ValueError("folder: must be where MNIST's four files are")


class StackedMNIST(Stacked):
    """Stacks of three of MNIST's digits, padded to (3, 32, 32), in [-1, 1], 1000 modes.

    Raises:
        UserError: a file is missing or damaged, or does not hold MNIST's images or labels.
    """

    Config = StackedMNISTConfig

    def __init__(self, config: StackedMNISTConfig) -> None:
        folder = Path(config.folder)
        super().__init__(config, read_mnist(folder, "train"), read_mnist(folder, "t10k"))

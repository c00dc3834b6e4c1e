"""Toy data sets in the plane, and mixtures of any dimension, as the command line names them.

The points are part of the data, not of the run: its seed does not move them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gendiff.data.base import MOST_ROWS, DataConfig, Rows
from gendiff.data.toy.mixture import GaussianMixture
from gendiff.errors import check_count
from gendiff.papers import VEEGAN, cites
from gendiff.seeding import key


@dataclass(frozen=True)
class ToyConfig(DataConfig):
    """What every toy set can be asked for."""

    samples: int = 10000
    """Points to train on."""
    held_out: int = 2000
    """Points to measure against."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)

    def check(self) -> None:
        """
        Raises:
            ValueError: a value is impossible; the message begins with the key.
        """
        for name in ("samples", "held_out"):
            check_count(name, getattr(self, name), 1, MOST_ROWS)


@dataclass(frozen=True)
class NoisyConfig(ToyConfig):
    noise: float = 0.0
    """Standard deviation of the Gaussian noise, in units of scikit-learn's curve."""

    def check(self) -> None:
        """
        Raises:
            ValueError: a value is impossible; the message begins with the key.
        """
        super().check()
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"noise: {self.noise} must be at least 0 and finite")


def _halves(
    config: ToyConfig, draw: Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
) -> tuple[Rows, Rows]:
    """Points to train on and to measure against, from one draw of (points, labels)."""
    generator = torch.Generator().manual_seed(key(config.name))
    x0, label = draw(config.samples + config.held_out, generator)
    x0, n = x0.float(), config.samples
    return Rows(x0=x0[:n], label=label[:n]), Rows(x0=x0[n:], label=label[n:])


def _uniform(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator, dtype=torch.float64)


def _jitter(x: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    return x + noise * torch.randn(x.shape, generator=generator, dtype=x.dtype)


@dataclass(frozen=True)
class MixtureConfig(ToyConfig):
    name: str = "mixture"
    weights: list[float] = field(default_factory=lambda: [0.4, 0.35, 0.25])
    means: list[list[float]] = field(
        default_factory=lambda: [[-0.7, -0.4], [0.6, -0.5], [0.1, 0.8]]
    )
    stds: list[float] = field(default_factory=lambda: [0.15, 0.25, 0.10])

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.means[0]) if self.means else 0,)

    @property
    def classes(self) -> int:
        return len(self.weights)

    def check(self) -> None:
        """
        Raises:
            ValueError: the sizes do not agree; the message says which.
        """
        super().check()
        if len({len(mean) for mean in self.means}) != 1:
            raise ValueError("means: must be one or more points of one dimension")
        try:
            GaussianMixture(self.weights, self.means, self.stds)
        except ValueError as error:
            raise ValueError(f"weights: {error}") from None


class Mixture:
    """Points of a Gaussian mixture, labelled by component; its density is known."""

    Config = MixtureConfig

    def __init__(self, config: MixtureConfig) -> None:
        self.mixture = GaussianMixture(config.weights, config.means, config.stds)
        self.train, self.held_out = _halves(config, self.mixture.sample)


@dataclass(frozen=True)
class Gaussians25Config(ToyConfig):
    name: str = "gaussians25"
    scale: float = 0.25
    """Of the grid: the papers' means -4 to 4 become -1 to 1, their standard deviation 0.0125."""

    @property
    def classes(self) -> int:
        return 25

    def check(self) -> None:
        """
        Raises:
            ValueError: a value is impossible; the message begins with the key.
        """
        super().check()
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale: {self.scale} must be positive and finite")


@cites(VEEGAN)
class Gaussians25:
    """A 5 by 5 grid of narrow Gaussians, labelled by component; its density is known.

    The grid of Srivastava et al. 2017 (VEEGAN) and Lin et al. 2018 (PacGAN): means (i, j) with i
    and j of -4, -2, 0, 2, 4 and standard deviation 0.05, all times ``scale``. Component 5 r + c has
    the r-th i and the c-th j.
    """

    Config = Gaussians25Config

    def __init__(self, config: Gaussians25Config) -> None:
        line = config.scale * torch.linspace(-4, 4, 5, dtype=torch.float64)
        ones = torch.ones(25, dtype=torch.float64)
        means = torch.cartesian_prod(line, line)
        self.mixture = GaussianMixture(ones, means, 0.05 * config.scale * ones)
        self.train, self.held_out = _halves(config, self.mixture.sample)


@dataclass(frozen=True)
class MoonsConfig(NoisyConfig):
    name: str = "moons"
    noise: float = 0.05

    @property
    def classes(self) -> int:
        return 2


class Moons:
    """Two interleaved half circles of radius 1, labelled; in about [-1.5, 1.5] x [-0.75, 0.75].

    Scikit-learn's ``make_moons``, centred, at random angles rather than at even ones, so that
    points are independent draws.
    """

    Config = MoonsConfig

    def __init__(self, config: MoonsConfig) -> None:
        def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            label = torch.randint(2, (n,), generator=generator)
            angle = math.pi * _uniform(n, generator)
            # the lower moon is the upper one turned about the centre by half a circle
            upper = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], 1)
            return _jitter((1 - 2 * label[:, None]) * upper, config.noise, generator), label

        self.train, self.held_out = _halves(config, draw)


@dataclass(frozen=True)
class SwissRollConfig(NoisyConfig):
    name: str = "swiss_roll"
    noise: float = 0.5


class SwissRoll:
    """A spiral of one and a half turns, denser inside; in about [-1, 1]^2, no labels.

    Scikit-learn's ``make_swiss_roll`` seen from the end, as in Sohl-Dickstein et al. 2015, Figure
    1, with its largest radius, 4.5 pi, as the unit.
    """

    Config = SwissRollConfig

    def __init__(self, config: SwissRollConfig) -> None:
        def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            angle = 1.5 * math.pi * (1 + 2 * _uniform(n, generator))
            x = angle[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
            return _jitter(x, config.noise, generator) / (4.5 * math.pi), torch.zeros(n).long()

        self.train, self.held_out = _halves(config, draw)


@dataclass(frozen=True)
class CheckerboardConfig(ToyConfig):
    name: str = "checkerboard"


class Checkerboard:
    """Uniform on the dark squares of a 4 by 4 board, [-1, 1]^2, no labels.

    The board of Grathwohl et al. 2019 (FFJORD), Figure 2, at a quarter of its size: a square is
    dark where its row and column numbers add up to an even one.
    """

    Config = CheckerboardConfig

    def __init__(self, config: CheckerboardConfig) -> None:
        def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            column = torch.randint(4, (n,), generator=generator)
            row = 2 * torch.randint(2, (n,), generator=generator) + column % 2
            inside = torch.stack([_uniform(n, generator), _uniform(n, generator)], 1)
            return (torch.stack([column, row], 1) + inside) / 2 - 1, torch.zeros(n).long()

        self.train, self.held_out = _halves(config, draw)

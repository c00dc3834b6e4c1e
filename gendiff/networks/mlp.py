"""Residual multilayer perceptron, for points of the plane and as a small discriminator."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gendiff.errors import check_count
from gendiff.networks import MOST_LAYERS
from gendiff.networks.embeddings import TIME_SCALE, Conditioning, check_conditions
from gendiff.papers import Paper, cites

WAVES = 128
"""Number of Fourier features."""


@dataclass(frozen=True)
class MLPConfig:
    """Settings of the multilayer perceptron."""

    name: str = "mlp"
    """Registry key."""
    width: int = 128
    """Hidden units of each layer."""
    depth: int = 3
    """Residual blocks, of two layers each."""
    frequency: float = 0.0
    """Standard deviation of the random frequencies, in cycles a unit of x, of Fourier features that
    the network reads beside x; 0 for none. For data with detail much finer than their range."""
    conditions: dict[str, int] = field(default_factory=dict)
    """Conditions the network takes: name -> size."""
    time_scale: float = TIME_SCALE
    """Factor before the sinusoids of times; small, about 1 to 30, where a method differentiates
    the network in time."""


def fourier_features(inputs: int, frequency: float) -> nn.Linear:
    """Angles of the waves, (B, inputs) -> (B, WAVES); they start at random and learn.

    Source: Tancik et al. 2020, "Fourier features let networks learn high frequency functions in low
    dimensional domains", Eq. 5, with a random phase in place of pairs of sine and cosine.
    """
    waves = nn.Linear(inputs, WAVES)
    nn.init.normal_(waves.weight, std=2 * math.pi * frequency)
    nn.init.uniform_(waves.bias, -math.pi, math.pi)
    return waves


FOURIER_FEATURES = Paper(
    "Matthew Tancik, Pratul P. Srinivasan, Ben Mildenhall, Sara Fridovich-Keil, Nithin Raghavan, "
    "Utkarsh Singhal, Ravi Ramamoorthi, Jonathan T. Barron, Ren Ng",
    "Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains",
    "NeurIPS",
    2020,
)


@cites(FOURIER_FEATURES)
class MLP(nn.Module):
    """Residual SiLU blocks, h + W2 silu(W1 silu(h) + P embedding), all with default init.

    The output does not start at zero, unlike the U-Net's: this network also serves as generator
    and as critic of adversarial methods, that a constant output would stall.

    Args:
        config: the settings.
        shape: (d,), shape of one input.
        out_channels: size of one output.

    Raises:
        ValueError: from `check`.
    """

    Config = MLPConfig

    def __init__(self, config: MLPConfig, shape: tuple[int, ...], out_channels: int):
        super().__init__()
        self.check(config, shape)
        width = config.width
        self.depth = config.depth
        self.conditioning = Conditioning(width, config.conditions, config.time_scale)
        self.shifts = nn.Linear(width, config.depth * width)  # P of all blocks at once
        self.waves = fourier_features(shape[0], config.frequency) if config.frequency else None
        self.input = nn.Linear(shape[0] + (WAVES if self.waves else 0), width)
        # The shifts carry the bias of the first layer.
        self.first = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(config.depth))
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(config.depth))
        self.output = nn.Linear(width, out_channels)

    @staticmethod
    def check(config: MLPConfig, shape: tuple[int, ...]) -> None:
        """Check the settings against the shape of one input, without building anything.

        Raises:
            ValueError: one line naming the key that is wrong.
        """
        if len(shape) != 1:
            raise ValueError(f"name: mlp takes vectors of shape (d,), not {tuple(shape)}")
        if config.width < 1:
            raise ValueError(f"width: must be at least 1, not {config.width}")
        check_count("depth", config.depth, 1, MOST_LAYERS)
        if not 0 <= config.frequency < math.inf:
            raise ValueError(f"frequency: must be at least 0 and finite, not {config.frequency}")
        check_conditions(config.conditions, config.time_scale)

    def forward(self, x: Tensor, noise_level: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """Map (B, d) to (B, out_channels).

        Args:
            x: (B, d) inputs.
            noise_level: (B,) in [0, 1]; 0 is data, 1 is pure noise.
            cond: the conditions, see `Conditioning`.

        Raises:
            ValueError: a condition other than the label is missing.
        """
        embedding = self.conditioning(noise_level, cond)
        shifts = self.shifts(F.silu(embedding)).chunk(self.depth, dim=-1)
        h = self.input(x if self.waves is None else torch.cat([x, self.waves(x).sin()], 1))
        for first, second, shift in zip(self.first, self.second, shifts, strict=True):
            h = h + second(F.silu(first(F.silu(h)) + shift))
        output: Tensor = self.output(F.silu(h))
        return output

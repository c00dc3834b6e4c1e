"""Ensemble of small convolutional classifiers, trained at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gendiff.errors import check_count
from gendiff.networks import MOST_LAYERS
from gendiff.papers import Paper, cites


@dataclass(frozen=True)
class ClassifierConfig:
    """Settings of the ensemble of classifiers."""

    name: str = "classifier"
    """Registry key."""
    members: int = 4
    """Independent classifiers in the ensemble."""
    channels: int = 24
    """Width of the first convolution of a member; the later ones have twice as many."""
    features: int = 64
    """Units of the penultimate layer of a member."""
    classes: int = 10
    """Number of classes."""
    dropout: float = 0.1
    """Probability that a feature is dropped before the last layer."""


ENSEMBLES = Paper(
    "Balaji Lakshminarayanan, Alexander Pritzel, Charles Blundell",
    "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles",
    "NeurIPS",
    2017,
)


@cites(ENSEMBLES)
class Classifier(nn.Module):
    """Ensemble of independently initialised CNNs, run as one with grouped convolutions.

    Every parameter stacks the members along its first axis, so that chunk i of `members` equal
    chunks of each parameter is member i. No layer mixes the members.

    Args:
        config: the settings.
        shape: (C, H, W) of one input, with H and W from 8 to 32 pixels.
        out_channels: not used, as `config.classes` sets the outputs; it is there so that all
            networks are built alike.

    Raises:
        ValueError: from `check`.

    Source: Lakshminarayanan et al. 2017, "Simple and scalable predictive uncertainty estimation
    using deep ensembles".
    """

    Config = ClassifierConfig

    def __init__(
        self, config: ClassifierConfig, shape: tuple[int, ...], out_channels: int | None = None
    ):
        super().__init__()
        self.check(config, shape)
        self.members = members = config.members
        narrow, wide = config.channels * members, 2 * config.channels * members
        channels, height, width = shape
        # The members share the input, so that the first convolution needs no groups.
        self.convs = nn.ModuleList([nn.Conv2d(channels, narrow, 3, padding=1)])
        while max(height, width) > 4:
            inputs = narrow if len(self.convs) == 1 else wide
            self.convs.append(nn.Conv2d(inputs, wide, 3, padding=1, groups=members))
            height, width = (height + 1) // 2, (width + 1) // 2
        self.norms = nn.ModuleList(
            nn.GroupNorm(members, narrow if i == 0 else wide) for i in range(len(self.convs))
        )
        outputs = config.features * members
        self.hidden = nn.Conv2d(wide, outputs, (height, width), groups=members)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Conv2d(outputs, config.classes * members, 1, groups=members)
        self.to(memory_format=torch.channels_last)

    @staticmethod
    def check(config: ClassifierConfig, shape: tuple[int, ...]) -> None:
        """Check the settings against the shape of one input, without building anything.

        Raises:
            ValueError: one line naming the key that is wrong.
        """
        if len(shape) != 3 or not all(8 <= side <= 32 for side in shape[1:]):
            raise ValueError(
                f"name: classifier takes images of 8 to 32 pixels, not shape {tuple(shape)}"
            )
        check_count("members", config.members, 1, MOST_LAYERS)
        for key in ("channels", "features", "classes"):
            if getattr(config, key) < 1:
                raise ValueError(f"{key}: must be at least 1, not {getattr(config, key)}")
        if not 0 <= config.dropout < 1:
            raise ValueError(f"dropout: must be in [0, 1), not {config.dropout}")

    def features(self, x: Tensor) -> Tensor:
        """Penultimate activations, smooth in x: (B, C, H, W) in [-1, 1] -> (B, members, features).

        SiLU makes them, so no feature is ever dead.
        """
        return self._hidden(x).view(len(x), self.members, -1)

    def forward(
        self,
        x: Tensor,
        noise_level: Tensor | None = None,
        cond: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Logits of all members, (B, C, H, W) in [-1, 1] -> (B, members, classes).

        The noise level and the conditions are not used: the classifiers are for data.
        """
        logits: Tensor = self.output(self.dropout(self._hidden(x)))
        return logits.view(len(x), self.members, -1)

    def _hidden(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, members * features, 1, 1)."""
        h = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            if i > 0:  # before the convolution, which then costs a quarter
                h = F.avg_pool2d(h, 2, ceil_mode=True)
            h = F.silu(norm(conv(h)))
        return F.silu(self.hidden(h))

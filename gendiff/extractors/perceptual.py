"""Distance of images in the features of any network of timm, with a gradient."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gendiff.errors import UserError
from gendiff.extractors import TIMM, keys_of
from gendiff.extractors.vision import Vision


class Perceptual(nn.Module):
    """Mean squared difference of feature maps of unit length, over all maps that timm tells of.

    Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
    Eq. 1, every channel weighing the same.

    Args:
        name: ``timm/NAME``.
        weights: a file as timm publishes them.
        size: height and width that the network sees, px.

    Raises:
        UserError: the file is damaged, holds more than tensors or does not fit, or the network
            does not tell its feature maps; the message begins with the key.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, weights: str, size: int) -> None:
        super().__init__()
        with keys_of("method.perceptual"):
            vision = Vision(name.removeprefix(TIMM), Path(weights), size)
        self.features, self.size = vision.network, size
        if not hasattr(self.features, "forward_intermediates"):
            raise UserError(f"method.perceptual.extractor: {name} does not tell its feature maps.")
        self.register_buffer("mean", vision.mean)
        self.register_buffer("std", vision.std)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Feature maps (B, C, h, w) of images (B, 1 or 3, H, W) in [-1, 1]."""
        pixels = F.interpolate((x + 1) / 2, (self.size, self.size), mode="bicubic", antialias=True)
        seen = (pixels - self.mean) / self.std
        maps: list[Tensor] = self.features.forward_intermediates(seen, intermediates_only=True)
        return maps

    def forward(self, made: Tensor, goal: Tensor) -> Tensor:
        """Distances, (B,), with a gradient in ``made`` alone."""
        with torch.no_grad():
            wanted = self.maps(goal)
        pairs = zip(self.maps(made), wanted, strict=True)
        apart = [F.normalize(a, dim=1) - F.normalize(b, dim=1) for a, b in pairs]
        return torch.stack([d.square().sum(1).flatten(1).mean(1) for d in apart]).mean(0)

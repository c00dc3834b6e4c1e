"""What every extractor offers, and how images become what a picture file would hold."""

from __future__ import annotations

from typing import Protocol, Self

import torch
from torch import Tensor


class Extractor(Protocol):
    """Turns samples into features, without gradients, in float32."""

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (B, M, F) and logits (B, M, C), or None, of samples (B, *shape).

        Images are in [-1, 1]. The batch is seen at once, on its own device.
        """
        ...

    def to(self, device: torch.device | str) -> Self:
        """The same extractor, moved to a device."""
        ...


def to_uint8(x: Tensor) -> Tensor:
    """Quantise images as saved pictures are: RGB, uint8, 0 to 255.

    Args:
        x: (B, C, H, W) with C of 1 (greyscale, repeated) or 3 (RGB), in [-1, 1]; values outside
            are clipped and NaN is black.

    Raises:
        ValueError: another shape.
    """
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"expected images (B, 1 or 3, H, W), got {tuple(x.shape)}")
    pixels = x.float().nan_to_num(nan=-1).clamp(-1, 1)
    return ((pixels + 1) * 127.5).round().to(torch.uint8).expand(-1, 3, -1, -1)

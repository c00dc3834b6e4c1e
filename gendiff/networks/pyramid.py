"""The image pyramid of StyleGAN2: sides from 4 pixels up, their widths, and its blur filter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gendiff.errors import check_count
from gendiff.networks import MOST_LAYERS


def sides(side: int) -> list[int]:
    """Sides of all levels of a square image, smallest first: 4, 8, ..., `side`."""
    return [4 << level for level in range((side // 4).bit_length())]


def widths(config: Any, side: int) -> list[int]:
    """Channels of each of the `sides`: min(channel_base / side, max_channels).

    Source: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", app. B.
    """
    return [min(config.channel_base // s, config.max_channels) for s in sides(side)]


def check_pyramid(config: Any, shape: tuple[int, ...]) -> None:
    """Check the shape of the image, and the settings that `widths` reads.

    Raises:
        ValueError: one line naming the key that is wrong.
    """
    if len(shape) != 3 or shape[1] != shape[2] or shape[1] not in (8, 16, 32, 64, 128, 256):
        raise ValueError(
            f"name: {config.name} takes square images of 8, 16, 32, 64, 128 or 256 pixels, "
            f"not shape {tuple(shape)}"
        )
    if config.channel_base < shape[1]:
        raise ValueError(
            f"channel_base: {config.channel_base} leaves no channel at {shape[1]} pixels"
        )
    if config.max_channels < 1:
        raise ValueError(f"max_channels: must be at least 1, not {config.max_channels}")


def check_mapping(config: Any, known: tuple[str, ...]) -> None:
    """Check the mapping network's depth, and that all conditions are among those `known`.

    Raises:
        ValueError: one line naming the key that is wrong.
    """
    check_count("mapping_layers", config.mapping_layers, 1, MOST_LAYERS)
    for name, size in config.conditions.items():
        if name not in known:
            raise ValueError(f"conditions: {config.name} takes {' and '.join(known)}, not {name}")
        if size < 1:
            raise ValueError(f"conditions: the size of {name} must be at least 1, not {size}")


def filter_for(x: Tensor, gain: float) -> Tensor:
    """(C, 1, 4, 4) outer product of [1, 3, 3, 1] with itself, of sum `gain`, for each channel.

    Rebuilt at each call, so that no buffer can be rounded or lost; exact in bfloat16.
    """
    taps = (2 - (torch.arange(4, device=x.device, dtype=x.dtype) - 1.5).abs()) / 4
    return (gain * taps[:, None] * taps).expand(x.shape[1], 1, 4, 4)


def blur(x: Tensor, padding: int, stride: int = 1, gain: float = 1.0) -> Tensor:
    """Blur (B, C, H, W) with [1, 3, 3, 1], zeros around it; side H becomes H + 2 padding - 3.

    Padding 1 and stride 2 halve the image.

    Source: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", app. B.
    """
    kernel = filter_for(x, gain)
    return F.conv2d(x, kernel, stride=stride, padding=padding, groups=x.shape[1])


def upsample(x: Tensor) -> Tensor:
    """Double (B, C, H, W) through [1, 3, 3, 1]: bilinear, with zeros around the image."""
    kernel = filter_for(x, 4.0)  # of each 4 pixels of the large image, 3 start at zero
    return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])

"""U-Net for images of 8 to 256 pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gendiff.errors import check_count
from gendiff.networks import MOST_LAYERS
from gendiff.networks.attention import differentiable
from gendiff.networks.embeddings import TIME_SCALE, Conditioning, check_conditions
from gendiff.papers import DDPM, Paper, cites


@dataclass(frozen=True)
class UNetConfig:
    """Settings of the U-Net."""

    name: str = "unet"
    """Registry key."""
    channels: int = 64
    """Width of the first level."""
    multipliers: list[int] = field(default_factory=lambda: [1, 2])
    """Width of each level in units of `channels`; each further level halves the image."""
    blocks: int = 1
    """Residual blocks per level, on the way down and again on the way up."""
    attention: list[int] = field(default_factory=list)
    """Image sizes, in pixels of the longer side, at which self-attention runs."""
    head_channels: int = 32
    """Channels of one attention head."""
    dropout: float = 0.0
    """Probability that a feature is dropped inside a residual block."""
    conditions: dict[str, int] = field(default_factory=dict)
    """Conditions the network takes: name -> size."""
    time_scale: float = TIME_SCALE
    """Factor before the sinusoids of times; small, about 1 to 30, where a method differentiates
    the network in time."""


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with the most groups, at most 32, of at least 4 channels where possible."""
    most = max(1, min(32, channels // 4))
    groups = next(g for g in range(most, 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


def zeroed(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    """The layer with all its parameters set to zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with adaptive group norm before the second.

    Source: Dhariwal and Nichol 2021, "Diffusion models beat GANs", sec. 3.1.
    """

    def __init__(self, in_channels: int, out_channels: int, dropout: float):
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels)
        self.dropout = dropout
        self.conv2 = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """(B, in, H, W), with scale and shift (B, out, 1, 1) -> (B, out, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = F.silu(torch.addcmul(shift, self.norm2(h), 1 + scale))
        if self.dropout:
            h = F.dropout(h, self.dropout, self.training)
        out: Tensor = self.skip(x) + self.conv2(h)
        return out


class Attention(nn.Module):
    """Residual multi-head self-attention between the pixels of an image."""

    def __init__(self, channels: int, head_channels: int):
        super().__init__()
        self.heads = channels // head_channels
        self.norm = group_norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.output = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        b, c, height, width = x.shape
        # A view, no copy, as x is channels last.
        pixels = self.norm(x).permute(0, 2, 3, 1).reshape(b, height * width, c)
        qkv = self.qkv(pixels).view(b, height * width, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, -1, c)
        change: Tensor = self.output(mixed).view(b, height, width, c).permute(0, 3, 1, 2)
        return x + change


class Stage(nn.Module):
    """A residual block, followed by self-attention at some image sizes."""

    def __init__(self, in_channels: int, out_channels: int, attend: bool, config: UNetConfig):
        super().__init__()
        self.block = ResidualBlock(in_channels, out_channels, config.dropout)
        self.attention = Attention(out_channels, config.head_channels) if attend else nn.Identity()

    def forward(self, x: Tensor, scales_and_shifts: Iterator[Tensor]) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W); takes its scale and shift from the iterator."""
        scale, shift = next(scales_and_shifts), next(scales_and_shifts)
        out: Tensor = self.attention(self.block(x, scale, shift))
        return out


GUIDED_DIFFUSION = Paper(
    "Prafulla Dhariwal, Alex Nichol",
    "Diffusion Models Beat GANs on Image Synthesis",
    "NeurIPS",
    2021,
)


@cites(DDPM, GUIDED_DIFFUSION)
class UNet(nn.Module):
    """U-Net with adaptive group norm, self-attention and concatenated long skips.

    The output starts at exactly zero. Changes of size cost little: a strided convolution down,
    and on the way up a convolution at the small size before nearest upsampling, which the 3x3
    convolutions of the next block smooth. Weights are channels last, which is faster on CPUs and
    on GPUs in bfloat16.

    Args:
        config: the settings.
        shape: (C, H, W) of one input.
        out_channels: channels of one output.

    Raises:
        ValueError: from `check`.

    Source: Ho et al. 2020, "Denoising diffusion probabilistic models", app. B; Dhariwal and
    Nichol 2021, "Diffusion models beat GANs", sec. 3.
    """

    Config = UNetConfig

    def __init__(self, config: UNetConfig, shape: tuple[int, ...], out_channels: int):
        super().__init__()
        self.check(config, shape)
        widths = [config.channels * m for m in config.multipliers]
        attend = [max(shape[1:]) >> level in config.attention for level in range(len(widths))]

        self.input = nn.Conv2d(shape[0], widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        self.up = nn.ModuleList()
        self.grow = nn.ModuleList()
        for level, width in enumerate(widths):
            here = attend[level]
            self.down.append(
                nn.ModuleList(Stage(width, width, here, config) for _ in range(config.blocks))
            )
            self.up.append(
                nn.ModuleList(Stage(2 * width, width, here, config) for _ in range(config.blocks))
            )
            if level + 1 < len(widths):
                wider = widths[level + 1]
                self.shrink.append(nn.Conv2d(width, wider, 3, stride=2, padding=1))
                self.grow.append(nn.Conv2d(wider, width, 3, padding=1))
        last = widths[-1]
        self.middle = nn.ModuleList(
            [Stage(last, last, attend[-1], config), Stage(last, last, False, config)]
        )
        self.output_norm = group_norm(widths[0])
        self.output = zeroed(nn.Conv2d(widths[0], out_channels, 3, padding=1))

        # One projection makes the scales and shifts of all blocks, in the order of use.
        dim = 4 * config.channels
        down = [width for width in widths for _ in range(config.blocks)]
        self.splits = [w for w in [*down, last, last, *reversed(down)] for _ in range(2)]
        self.conditioning = Conditioning(dim, config.conditions, config.time_scale)
        self.scales_and_shifts = nn.Linear(dim, sum(self.splits))
        self.to(memory_format=torch.channels_last)

    @staticmethod
    def check(config: UNetConfig, shape: tuple[int, ...]) -> None:
        """Check the settings against the shape of one input, without building anything.

        Raises:
            ValueError: one line naming the key that is wrong.
        """
        if len(shape) != 3:
            raise ValueError(f"name: unet takes images of shape (C, H, W), not {tuple(shape)}")
        if config.channels < 1:
            raise ValueError(f"channels: must be at least 1, not {config.channels}")
        check_count("blocks", config.blocks, 1, MOST_LAYERS)
        if not 0 <= config.dropout < 1:
            raise ValueError(f"dropout: must be in [0, 1), not {config.dropout}")
        check_levels(config.multipliers, shape[1], shape[2])
        check_attention(config, max(shape[1:]))
        check_conditions(config.conditions, config.time_scale)

    @differentiable
    def forward(self, x: Tensor, noise_level: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """Map (B, C, H, W) to (B, out_channels, H, W).

        Args:
            x: (B, C, H, W) images.
            noise_level: (B,) in [0, 1]; 0 is data, 1 is pure noise.
            cond: the conditions, see `Conditioning`.

        Raises:
            ValueError: a condition other than the label is missing.
        """
        embedding = F.silu(self.conditioning(noise_level, cond))
        projected = self.scales_and_shifts(embedding)[:, :, None, None]
        scales_and_shifts = iter(projected.split(self.splits, dim=1))

        h = self.input(x)
        skips = []
        for level, stages in enumerate(self.down):
            if level > 0:
                h = self.shrink[level - 1](h)
            for stage in stages:  # type: ignore[attr-defined]  # a ModuleList of them
                h = stage(h, scales_and_shifts)
                skips.append(h)
        for stage in self.middle:
            h = stage(h, scales_and_shifts)
        for level in reversed(range(len(self.up))):
            for stage in self.up[level]:  # type: ignore[attr-defined]  # a ModuleList of them
                h = stage(torch.cat([h, skips.pop()], dim=1), scales_and_shifts)
            if level > 0:
                h = F.interpolate(self.grow[level - 1](h), scale_factor=2.0, mode="nearest")
        output: Tensor = self.output(F.silu(self.output_norm(h)))
        return output.contiguous()  # plain layout, so that callers may use view


def check_levels(multipliers: list[int], height: int, width: int) -> None:
    """Raise ValueError unless the levels halve the image evenly, to at least 2 pixels."""
    levels = len(multipliers)
    if levels == 0 or min(multipliers) < 1:
        raise ValueError(f"multipliers: need one number >= 1 per level, not {multipliers}")
    fit = 1
    while height % 2**fit == width % 2**fit == 0 and min(height, width) >> fit >= 2:
        fit += 1
    if levels <= fit:
        return
    factor = 2 ** (levels - 1)
    if height % factor or width % factor:
        reason = f"{levels} levels need sides divisible by {factor}, not {height}x{width}"
    else:
        shortest = min(height, width)
        reason = f"{levels} levels halve an image of {shortest} pixels to {shortest // factor}"
    raise ValueError(f"multipliers: {reason}; use at most {fit}")


def check_attention(config: UNetConfig, side: int) -> None:
    """Raise ValueError unless attention names sizes of levels that split into whole heads."""
    if config.head_channels < 1:
        raise ValueError(f"head_channels: must be at least 1, not {config.head_channels}")
    sizes = {side >> level: m for level, m in enumerate(config.multipliers)}
    for size in config.attention:
        if size not in sizes:
            known = ", ".join(map(str, sizes))
            raise ValueError(f"attention: no level has {size} pixels; the levels have {known}")
        width = config.channels * sizes[size]
        if width % config.head_channels:
            raise ValueError(
                f"head_channels: {config.head_channels} does not divide the {width} channels "
                f"of the level of {size} pixels"
            )

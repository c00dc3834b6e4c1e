"""StyleGAN2's generator, from a latent z to images of 8 to 256 pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gendiff.networks.equalized import EqualizedLinear, Mapping, leaky_relu
from gendiff.networks.pyramid import blur, check_mapping, check_pyramid, upsample, widths
from gendiff.papers import STYLEGAN2, cites


@dataclass(frozen=True)
class StyleGAN2Config:
    """Settings of the generator."""

    name: str = "stylegan2"
    """Registry key."""
    channel_base: int = 16384
    """Channels of a level are this over its side in pixels; config F of the paper has 32768."""
    max_channels: int = 512
    """The most channels of a level."""
    style: int = 512
    """Size of w, which the mapping network makes of z, and of that network's hidden layers."""
    mapping_layers: int = 8
    """Layers of the mapping network."""
    conditions: dict[str, int] = field(default_factory=lambda: {"z": 512})
    """Conditions the network takes: z -> its size, and label -> number of classes if any."""


class ModulatedConv2d(nn.Module):
    """Convolution whose weights are scaled, input channel by input channel, by the style.

    Demodulation then gives each output channel unit variance, were the inputs independent of unit
    variance. Scaling inputs and outputs is the same as scaling each sample's weights, and needs
    one plain convolution in place of one group per sample, which is slow on CPUs and keeps a
    copy of the weights for each sample.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: side of the kernel, odd.
        style: size of w.
        demodulate: whether outputs are brought to unit variance.
        up: whether the image doubles, by a transposed convolution and a blur.

    Source: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", eq. 1-3.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        style: int,
        demodulate: bool = True,
        up: bool = False,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.affine = EqualizedLinear(style, inputs, bias=1.0)
        self.gain = 1 / math.sqrt(inputs * kernel**2)
        self.padding, self.demodulate, self.up = kernel // 2, demodulate, up

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """(B, inputs, H, W), with w (B, style) -> (B, outputs, H, W), or twice the sides."""
        style: Tensor = self.affine(w)
        weight = self.weight * self.gain
        x = x * style[:, :, None, None]
        if self.up:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            x = blur(x, padding=1, gain=4.0)
        else:
            x = F.conv2d(x, weight, padding=self.padding)
        if self.demodulate:
            variance = F.linear(style.square(), weight.square().sum((2, 3)))
            x = x * (variance + 1e-8).rsqrt().to(x.dtype)[:, :, None, None]
        return x + self.bias.to(x.dtype)[:, None, None]


@cites(STYLEGAN2)
class StyleGAN2(nn.Module):
    """StyleGAN2's generator: mapping network, modulated convolutions, sum of RGB images.

    It has no noise inputs and mixes no styles: an image is a function of z and the label alone,
    so that all randomness is the caller's. A learned constant of 4x4 pixels is its input; x tells
    it only how many samples to make, and the noise level nothing, as it generates at one fixed
    time. Weights are channels last, which is faster on CPUs.

    Args:
        config: the settings.
        shape: (C, H, W) of one input; H and W are also the output's.
        out_channels: channels of one output.

    Raises:
        ValueError: from `check`.

    Source: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", sec. 2 and
    4; labels: Karras et al. 2020, "Training generative adversarial networks with limited data".
    """

    Config = StyleGAN2Config

    def __init__(self, config: StyleGAN2Config, shape: tuple[int, ...], out_channels: int):
        super().__init__()
        self.check(config, shape)
        channels, style = widths(config, shape[1]), config.style
        self.mapping = Mapping(config.conditions, style, config.mapping_layers)
        self.constant = nn.Parameter(torch.randn(1, channels[0], 4, 4))
        self.first = ModulatedConv2d(channels[0], channels[0], 3, style)
        self.grow = nn.ModuleList(
            ModulatedConv2d(a, b, 3, style, up=True) for a, b in pairwise(channels)
        )
        self.convs = nn.ModuleList(ModulatedConv2d(c, c, 3, style) for c in channels[1:])
        self.to_rgb = nn.ModuleList(
            ModulatedConv2d(c, out_channels, 1, style, demodulate=False) for c in channels
        )
        self.to(memory_format=torch.channels_last)

    @staticmethod
    def check(config: StyleGAN2Config, shape: tuple[int, ...]) -> None:
        """Check the settings against the shape of one input, without building anything.

        Raises:
            ValueError: one line naming the key that is wrong.
        """
        check_pyramid(config, shape)
        if config.style < 1:
            raise ValueError(f"style: must be at least 1, not {config.style}")
        check_mapping(config, ("z", "label"))
        if "z" not in config.conditions:
            raise ValueError("conditions: stylegan2 makes images of z, whose size is missing")

    def forward(self, x: Tensor, noise_level: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """Generate (B, out_channels, H, W).

        Args:
            x: (B, C, H, W), only its B is read.
            noise_level: (B,), not read.
            cond: `z`, (B, size), from N(0, I); `label`, see `Mapping`.

        Raises:
            ValueError: z is missing.
        """
        w = self.mapping(cond, len(x))
        h = leaky_relu(self.first(self.constant.expand(len(x), -1, -1, -1), w))
        image: Tensor = self.to_rgb[0](h, w)
        for grow, conv, to_rgb in zip(self.grow, self.convs, self.to_rgb[1:], strict=True):
            h = leaky_relu(conv(leaky_relu(grow(h, w)), w))
            image = upsample(image) + to_rgb(h, w)
        return image.contiguous()  # plain layout, so that callers may use view

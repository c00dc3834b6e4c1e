"""StyleGAN2's residual discriminator, for images or pairs of images of 8 to 256 pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gendiff.networks.embeddings import ScalarEmbedding
from gendiff.networks.equalized import EqualizedConv2d, EqualizedLinear, Mapping, leaky_relu
from gendiff.networks.pyramid import blur, check_mapping, check_pyramid, widths
from gendiff.papers import STYLEGAN2, cites

TIME_FEATURES = 256
"""Size of the embedding of the noise level."""


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Settings of the discriminator."""

    name: str = "discriminator"
    """Registry key."""
    channel_base: int = 16384
    """Channels of a level are this over its side in pixels; StyleGAN2's config F has 32768."""
    max_channels: int = 512
    """The most channels of a level."""
    time: bool = False
    """Whether the noise level enters every residual block."""
    mapping_layers: int = 8
    """Layers of the mapping network of the label, if it takes one."""
    conditions: dict[str, int] = field(default_factory=dict)
    """Conditions the network takes: none, or label -> number of classes."""

    def mixes(self, batch: int) -> int:
        """Consecutive samples of a batch that are compared: no part of it may cut them."""
        return group_of(batch)


class DownBlock(nn.Module):
    """Two 3x3 convolutions that halve the image, and a 1x1 skip that halves it alike.

    The sum of both is scaled by sqrt(1/2), which keeps the variance.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = EqualizedConv2d(in_channels, in_channels, 3, padding=1)
        self.conv2 = EqualizedConv2d(in_channels, out_channels, 3, stride=2)
        self.skip = EqualizedConv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor, shift: Tensor | None) -> Tensor:
        """(B, in, H, W), with shift (B, in, 1, 1) if any -> (B, out, H / 2, W / 2)."""
        h = self.conv1(x)
        if shift is not None:
            h = h + shift
        h = leaky_relu(self.conv2(blur(leaky_relu(h), padding=2)))
        return (h + self.skip(blur(x, padding=1, stride=2))) * math.sqrt(0.5)


def group_of(batch: int) -> int:
    """Samples of a group: 4, or where 4 does not divide the batch the largest that does."""
    return next(size for size in (4, 3, 2, 1) if batch % size == 0)


def batch_deviation(x: Tensor) -> Tensor:
    """Standard deviation between neighbouring samples, as one more channel.

    The groups, see `group_of`, are of consecutive samples, so that a batch that is split between
    processes in multiples of them has the same ones. A group of 1 sees no deviation.

    Args:
        x: (B, C, H, W) features.

    Returns:
        (B, 1, H, W), the same number for all pixels of a group: the mean over channels and pixels
        of the (biased) deviation; computed in float32 or better.

    Source: Karras et al. 2018, "Progressive growing of GANs", sec. 3.
    """
    batch, _, height, width = x.shape
    size = group_of(batch)
    groups = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(0, (-1, size))
    centred = groups - groups.mean(1, keepdim=True)
    # 1e-8 keeps both derivatives finite where all samples agree.
    deviation = (centred.square().mean(1) + 1e-8).sqrt().flatten(1).mean(1)
    rows = deviation.repeat_interleave(size).to(x.dtype)
    return rows[:, None, None, None].expand(batch, 1, height, width)


@cites(STYLEGAN2)
class Discriminator(nn.Module):
    """StyleGAN2's residual discriminator, twice differentiable for R1 penalties.

    Residual blocks bring the image down to 4x4, where the deviation between the samples of a group
    joins the features, see `batch_deviation`: the logits of a sample depend on its neighbours.
    A label enters by projection: features times its mapped embedding, over the root of their
    number. The noise level, if it is taken, adds to the features between the two convolutions of
    each block. Weights are channels last, which is faster on CPUs.

    Args:
        config: the settings.
        shape: (C, H, W) of one input; C counts the channels of all images that are judged at once.
        out_channels: logits of one sample.

    Raises:
        ValueError: from `check`.

    Source: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", sec. 4 and
    app. B; labels: Karras et al. 2020, "Training generative adversarial networks with limited
    data", after Miyato and Koyama 2018, "cGANs with projection discriminator"; noise level: Xiao
    et al. 2022, "Tackling the generative learning trilemma with denoising diffusion GANs", in the
    appendix.
    """

    Config = DiscriminatorConfig

    def __init__(self, config: DiscriminatorConfig, shape: tuple[int, ...], out_channels: int):
        super().__init__()
        self.check(config, shape)
        large_first = widths(config, shape[1])[::-1]
        last = large_first[-1]
        self.input = EqualizedConv2d(shape[0], large_first[0], 1)
        self.blocks = nn.ModuleList(DownBlock(a, b) for a, b in pairwise(large_first))
        self.conv = EqualizedConv2d(last + 1, last, 3, padding=1)
        self.dense = EqualizedLinear(16 * last, last)
        self.mapping = None
        if config.conditions:
            self.mapping = Mapping(config.conditions, last, config.mapping_layers)
        self.output = EqualizedLinear(last, out_channels * (last if config.conditions else 1))
        self.time = config.time
        if config.time:
            self.splits = large_first[:-1]
            self.embedding = ScalarEmbedding(TIME_FEATURES)
            self.shifts = EqualizedLinear(TIME_FEATURES, sum(self.splits))
        self.to(memory_format=torch.channels_last)

    @staticmethod
    def check(config: DiscriminatorConfig, shape: tuple[int, ...]) -> None:
        """Check the settings against the shape of one input, without building anything.

        Raises:
            ValueError: one line naming the key that is wrong.
        """
        check_pyramid(config, shape)
        check_mapping(config, ("label",))

    def forward(self, x: Tensor, noise_level: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """Judge (B, C, H, W) with logits (B, out_channels).

        Args:
            x: (B, C, H, W) images.
            noise_level: (B,) in [0, 1]; not read unless `config.time`.
            cond: `label`, (B,) int64 in 0..K, where K is the null class, also meant by a missing
                label; not read unless it is a condition.
        """
        h = leaky_relu(self.input(x))
        for block, shift in zip(self.blocks, self._shifts(noise_level), strict=True):
            h = block(h, shift)
        h = leaky_relu(self.conv(torch.cat([h, batch_deviation(h)], dim=1)))
        features = leaky_relu(self.dense(h.flatten(1)))
        logits: Tensor = self.output(features)
        if self.mapping is None:
            return logits
        direction = self.mapping(cond, len(x))
        projected = logits.unflatten(1, (-1, direction.shape[1])) * direction[:, None]
        return projected.sum(-1) / math.sqrt(direction.shape[1])

    def _shifts(self, noise_level: Tensor) -> list[Tensor | None]:
        """What the noise level adds to each block, (B, in, 1, 1); None without it."""
        if not self.time:
            return [None] * len(self.blocks)
        shifts = self.shifts(F.silu(self.embedding(noise_level)))
        return list(shifts[:, :, None, None].split(self.splits, dim=1))

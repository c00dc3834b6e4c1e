"""U-ViT: a transformer on patches and conditions alike, with long skips between its blocks."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from timm.layers import PatchEmbed  # type: ignore[attr-defined]  # public, though not by __all__
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from gendiff.networks.attention import differentiable
from gendiff.networks.dit import (
    TokenNorm,
    check_transformer,
    unpatched,
)
from gendiff.networks.embeddings import TIME_SCALE, Conditioning
from gendiff.papers import Paper, cites


@dataclass(frozen=True)
class UViTConfig:
    """Settings of the U-ViT."""

    name: str = "uvit"
    """Registry key."""
    patch: int = 2
    """Side of one patch in pixels; each patch is one token."""
    width: int = 512
    """Size of one token."""
    depth: int = 13
    """Transformer blocks, an odd number; long skips join the first half to the second."""
    heads: int = 8
    """Attention heads of each block."""
    conditions: dict[str, int] = field(default_factory=dict)
    """Conditions the network takes: name -> size."""
    time_scale: float = TIME_SCALE
    """Factor before the sinusoids of times; small, about 1 to 30, where a method differentiates
    the network in time."""


class ConditionTokens(Conditioning):
    """The embeddings of the noise level and of each condition side by side, not summed."""

    def forward(self, noise_level: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """Embed (B,) noise levels and K conditions into (B, 1 + K, dim), the noise level first."""
        return torch.stack(self.each(noise_level, cond), dim=1)


UVIT = Paper(
    "Fan Bao, Shen Nie, Kaiwen Xue, Yue Cao, Chongxuan Li, Hang Su, Jun Zhu",
    "All Are Worth Words: A ViT Backbone for Diffusion Models",
    "CVPR",
    2023,
)


@cites(UVIT)
class UViT(nn.Module):
    """Transformer on patches and conditions as tokens, with long skips and learned positions.

    The output does not start at zero, unlike the U-Net's and DiT's: normal weights of deviation
    0.02 make it a random function of all tokens, of deviation about 0.25 at a width of 512.
    U-ViT-S/2, M/2, L/2 and H/2 have `patch` 2 and `depth`, `width` and `heads` of 13, 512, 8 (the
    defaults); 17, 768, 12; 21, 1024, 16; and 29, 1152, 16.

    Args:
        config: the settings.
        shape: (C, H, W) of one input.
        out_channels: channels of one output.

    Raises:
        ValueError: from `check`.

    Source: Bao et al. 2023, "All are worth words: a ViT backbone for diffusion models", sec. 3 and
    table 1, with the embeddings of `Conditioning`, and its start.
    """

    Config = UViTConfig

    def __init__(self, config: UViTConfig, shape: tuple[int, ...], out_channels: int):
        super().__init__()
        self.check(config, shape)
        width, half = config.width, config.depth // 2
        self.patches = PatchEmbed((shape[1], shape[2]), config.patch, shape[0], width)
        self.conditioning = ConditionTokens(width, config.conditions, config.time_scale)
        self.extras = 1 + len(config.conditions)
        self.positions = nn.Parameter(torch.empty(self.extras + self.patches.num_patches, width))
        self.blocks = nn.ModuleList(
            Block(width, config.heads, norm_layer=TokenNorm) for _ in range(config.depth)
        )
        self.joins = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(half))
        self.norm = TokenNorm(width)
        self.pixels = nn.Linear(width, config.patch**2 * out_channels)
        self.output = nn.Conv2d(out_channels, out_channels, 3, padding=1)

        nn.init.trunc_normal_(self.positions, std=0.02)
        for module in [*self.blocks.modules(), *self.joins, self.pixels]:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @staticmethod
    def check(config: UViTConfig, shape: tuple[int, ...]) -> None:
        """Check the settings against the shape of one input, without building anything.

        Raises:
            ValueError: one line naming the key that is wrong.
        """
        check_transformer(config, shape)
        if config.depth % 2 == 0:
            raise ValueError(f"depth: must be odd, two halves about a middle, not {config.depth}")

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
        half = len(self.joins)
        skips: list[Tensor] = []
        extras = self.conditioning(noise_level, cond)
        tokens = torch.cat([extras, self.patches(x)], dim=1) + self.positions
        for i, block in enumerate(self.blocks):
            if i > half:
                join = self.joins[i - half - 1]
                tokens = join(torch.cat([tokens, skips.pop()], dim=-1))
            tokens = block(tokens)
            if i < half:
                skips.append(tokens)
        patches = self.pixels(self.norm(tokens[:, self.extras :]))
        output: Tensor = self.output(unpatched(patches, self.patches))
        return output

"""DiT: a transformer on patches, whose blocks are modulated by the noise level and conditions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from timm.layers import (  # type: ignore[attr-defined]  # public, though not by __all__
    Attention,
    GELUTanh,
    Mlp,
    PatchEmbed,
    build_sincos2d_pos_embed,
)
from torch import Tensor, nn
from torch.nn import functional as F

from gendiff.errors import check_count
from gendiff.networks import MOST_LAYERS
from gendiff.networks.attention import differentiable
from gendiff.networks.embeddings import TIME_SCALE, Conditioning, check_conditions
from gendiff.networks.unet import zeroed
from gendiff.papers import Paper, cites

if TYPE_CHECKING:
    from gendiff.networks.uvit import UViTConfig


@dataclass(frozen=True)
class DiTConfig:
    """Settings of the DiT."""

    name: str = "dit"
    """Registry key."""
    patch: int = 2
    """Side of one patch in pixels; each patch is one token."""
    width: int = 384
    """Size of one token, divisible by 4."""
    depth: int = 12
    """Transformer blocks."""
    heads: int = 6
    """Attention heads of each block."""
    conditions: dict[str, int] = field(default_factory=dict)
    """Conditions the network takes: name -> size."""
    time_scale: float = TIME_SCALE
    """Factor before the sinusoids of times; small, about 1 to 30, where a method differentiates
    the network in time."""


def start_uniform(layer: nn.Linear | nn.Conv2d) -> None:
    """Xavier's uniform weights, as of a linear layer, and no bias."""
    nn.init.xavier_uniform_(layer.weight.data.flatten(1))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class TokenNorm(nn.LayerNorm):
    """Layer norm, as a group norm of one group.

    PyTorch's own has a forward derivative whose gradient is wrong, without an error
    (pytorch/pytorch issue 196700).
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, width), each token of zero mean and unit variance."""
        rows = tokens.flatten(0, 1)
        return F.group_norm(rows, 1, self.weight, self.bias, self.eps).view_as(tokens)


def modulated(normed: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(B, N, width), times 1 + scale, plus shift, both (B, 1, width)."""
    return torch.addcmul(shift, normed, 1 + scale)


class DiTBlock(nn.Module):
    """Self-attention and two layers, each modulated before and gated after; starts as identity.

    Source: Peebles and Xie 2023, "Scalable diffusion models with transformers", sec. 3.2,
    adaLN-Zero.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm = TokenNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = Attention(width, heads, qkv_bias=True)
        self.mlp = Mlp(width, 4 * width, act_layer=GELUTanh)
        for layer in (self.attention.qkv, self.attention.proj, self.mlp.fc1, self.mlp.fc2):
            start_uniform(layer)
        self.modulation = zeroed(nn.Linear(width, 6 * width))

    def forward(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        """(B, N, width), with the embedding (B, 1, width) -> (B, N, width)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(embedding).chunk(6, dim=-1)
        tokens = tokens + gate1 * self.attention(modulated(self.norm(tokens), shift1, scale1))
        return tokens + gate2 * self.mlp(modulated(self.norm(tokens), shift2, scale2))


DIT = Paper(
    "William Peebles, Saining Xie",
    "Scalable Diffusion Models with Transformers",
    "ICCV",
    2023,
)


@cites(DIT)
class DiT(nn.Module):
    """Transformer on patches with adaLN-Zero and fixed sine-cosine positions.

    The output starts at exactly zero and every block as the identity. DiT-S/2, B/2, L/2 and XL/2
    have `patch` 2 and `depth`, `width` and `heads` of 12, 384, 6 (the defaults); 12, 768, 12;
    24, 1024, 16; and 28, 1152, 16.

    Args:
        config: the settings.
        shape: (C, H, W) of one input.
        out_channels: channels of one output.

    Raises:
        ValueError: from `check`.

    Source: Peebles and Xie 2023, "Scalable diffusion models with transformers", sec. 3.2 and 4,
    with the embeddings of `Conditioning`, and its start.
    """

    Config = DiTConfig

    def __init__(self, config: DiTConfig, shape: tuple[int, ...], out_channels: int):
        super().__init__()
        self.check(config, shape)
        width = config.width
        self.patches = PatchEmbed((shape[1], shape[2]), config.patch, shape[0], width)
        start_uniform(self.patches.proj)
        self.conditioning = Conditioning(width, config.conditions, config.time_scale)
        self.blocks = nn.ModuleList(DiTBlock(width, config.heads) for _ in range(config.depth))
        self.norm = TokenNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = zeroed(nn.Linear(width, 2 * width))
        self.output = zeroed(nn.Linear(width, config.patch**2 * out_channels))

    @staticmethod
    def check(config: DiTConfig, shape: tuple[int, ...]) -> None:
        """Check the settings against the shape of one input, without building anything.

        Raises:
            ValueError: one line naming the key that is wrong.
        """
        check_transformer(config, shape)
        if config.width % 4:
            reason = "for sines and cosines of rows and columns"
            raise ValueError(f"width: must be divisible by 4 {reason}, not {config.width}")

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
        embedding = F.silu(self.conditioning(noise_level, cond))[:, None]
        tokens = self.patches(x)
        tokens = tokens + self.positions()
        for block in self.blocks:
            tokens = block(tokens, embedding)
        shift, scale = self.modulation(embedding).chunk(2, dim=-1)
        patches = self.output(modulated(self.norm(tokens), shift, scale))
        return unpatched(patches, self.patches)

    def positions(self) -> Tensor:
        """(N, width) sines and cosines of the rows and columns of the patches, in row order."""
        # Rebuilt at each call, as a buffer would be rounded by .to(bfloat16), lost by .to_empty().
        weight = self.patches.proj.weight
        grid, width = self.patches.grid_size, len(weight)
        positions: Tensor = build_sincos2d_pos_embed(
            grid, width, device=weight.device, dtype=weight.dtype
        )
        return positions


def unpatched(tokens: Tensor, patches: PatchEmbed) -> Tensor:
    """(B, N, C * patch^2) pixels of the patches, in row order -> (B, C, H, W)."""
    images = tokens.mT.unflatten(2, patches.grid_size)
    return F.pixel_shuffle(images, patches.patch_size[0]).contiguous()


def check_transformer(config: DiTConfig | UViTConfig, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the images are of whole patches and the tokens of whole heads."""
    if len(shape) != 3:
        raise ValueError(f"name: {config.name} takes images of shape (C, H, W), not {tuple(shape)}")
    check_count("depth", config.depth, 1, MOST_LAYERS)
    for key in ("patch", "width", "heads"):
        if getattr(config, key) < 1:
            raise ValueError(f"{key}: must be at least 1, not {getattr(config, key)}")
    height, width = shape[1:]
    if height % config.patch or width % config.patch:
        raise ValueError(f"patch: {config.patch} does not divide both sides of {height}x{width}")
    if config.width % config.heads:
        raise ValueError(f"heads: {config.heads} does not divide the width of {config.width}")
    check_conditions(config.conditions, config.time_scale)

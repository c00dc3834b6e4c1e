"""DINOv2's large network as FD-DINOv2 uses it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from gendiff.extractors.vision import Vision
from gendiff.papers import Paper, cites

_PATCH = 14  # px
_OFFSET = 0.1
"""Added to the number of patches on a side when DINOv2's own code computes a scale."""


FD_DINOV2 = Paper(
    "George Stein, Jesse C. Cresswell, Rasa Hosseinzadeh, Yi Sui, Brendan Leigh Ross, Valentin "
    "Villecroze, Zhaoyan Liu, Anthony L. Caterini, J. Eric T. Taylor, Gabriel Loaiza-Ganem",
    "Exposing Flaws of Generative Model Evaluation Metrics and Their Unfair Treatment of "
    "Diffusion Models",
    "NeurIPS",
    2023,
)
DINOV2 = Paper(
    "Maxime Oquab, others",
    "DINOv2: Learning Robust Visual Features without Supervision",
    "TMLR",
    2024,
)


@cites(FD_DINOV2, DINOV2)
class DINOv2(Vision):
    """Features (B, 1, 1024) of FD-DINOv2 (Stein et al. 2023): ViT-L/14's class token at 224 px.

    Position embeddings, learned at 518 px, are resized as the code of Oquab et al. (2023) does it
    and published figures have it: without antialiasing, where timm would antialias. Images are
    resized in floating point, as the figures of Karras et al. (2024, EDM2) are computed; Stein et
    al. round to whole pixel values after resizing, which makes next to no difference.

    Args:
        weights: ``dinov2_vitl14_pretrain.pth`` of its authors, or timm's
            ``vit_large_patch14_dinov2.lvd142m``.

    Raises:
        UserError: the file is damaged, holds more than tensors or does not fit.
    """

    name = "vit_large_patch14_dinov2.lvd142m"

    def __init__(self, weights: Path) -> None:
        super().__init__(self.name, weights)

    def adapt(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        if "pos_embed" in state:  # else timm says what is missing
            state["pos_embed"] = resize_positions(state["pos_embed"], self.size // _PATCH)
        return state


def resize_positions(positions: Tensor, side: int) -> Tensor:
    """Position embeddings (1, 1 + M^2, D) of a class token and a square, for ``side`` patches."""
    own, patches = positions[:, :1], positions[:, 1:]
    old = round(patches.shape[1] ** 0.5)
    square = patches.float().unflatten(1, (old, old)).permute(0, 3, 1, 2)
    scale = (side + _OFFSET) / old
    resized = F.interpolate(square, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([own.float(), resized.flatten(2).mT], 1)

"""The data themselves as features, for points in few dimensions."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor


class Points:
    """Samples (B, *shape) as features (B, 1, F); no logits."""

    def __call__(self, x: Tensor) -> tuple[Tensor, None]:
        return x.flatten(1)[:, None], None

    def to(self, device: torch.device | str) -> Self:
        return self

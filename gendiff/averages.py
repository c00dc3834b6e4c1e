"""Running averages of a role's weights: one fused lerp, nothing swapped, nothing copied.

Lightning's own callback averages frozen teachers too, saves raw weights in several cases, and
swaps in place; so the averages live in the method, beside the roles.
"""

from __future__ import annotations

import copy

import torch
from torch import nn


def average_of(network: nn.Module) -> nn.Module:
    """A frozen copy in evaluation mode, to be moved by `update`."""
    return copy.deepcopy(network).requires_grad_(False).eval()


def decay_at(step: int, decay: float) -> float:
    """The decay after ``step`` updates: short memory first, so that the start is forgotten.

    ``min(decay, (1 + step) / (10 + step))``, the warm-up of TensorFlow's moving averages.
    """
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update(average: nn.Module, live: nn.Module, decay: float) -> None:
    """average <- decay average + (1 - decay) live; buffers are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(live.parameters()), 1 - decay)
    for mine, theirs in zip(average.buffers(), live.buffers(), strict=True):
        mine.copy_(theirs)

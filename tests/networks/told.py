"""What networks are told in tests, and weights of which none is zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ALL_CONDITIONS = {"label": 10, "z": 16, "second_time": 1, "guidance": 1}
BATCH = 3
CONDITIONS = {"label": 4, "z": 5, "second_time": 1, "guidance": 1}


def values(conditions: dict[str, int]) -> dict[str, Tensor]:
    """Random values for a batch."""
    makers = {
        "label": lambda size: torch.randint(size, (BATCH,)),
        "z": lambda size: torch.randn(BATCH, size),
        "second_time": lambda size: torch.rand(BATCH),
        "guidance": lambda size: 1 + 7 * torch.rand(BATCH),
    }
    return {name: makers[name](size) for name, size in conditions.items()}


def randomize(network: nn.Module) -> None:
    """Leave no layer at zero."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)


def inputs(conditions: dict[str, int] = CONDITIONS) -> tuple[Tensor, dict[str, Tensor]]:
    """Noise levels and conditions of a batch, in double precision."""
    draw = {name: torch.rand(BATCH).double() for name in ("second_time", "guidance")}
    draw |= {"label": torch.tensor([0, 3, 4]), "z": torch.randn(BATCH, 5).double()}
    return torch.rand(BATCH).double(), {name: draw[name] for name in conditions}


def randomized(network: nn.Module) -> nn.Module:
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network.double()

"""Small networks of every kind that takes a noise level and conditions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from told import CONDITIONS, randomized
from torch import Tensor, nn

from gendiff import registry

SETTINGS: dict[str, dict[str, Any]] = {
    "unet": {"channels": 16, "attention": [4], "head_channels": 8},
    "mlp": {"width": 24},
    "dit": {"width": 16, "depth": 2, "heads": 2},
    "uvit": {"width": 16, "depth": 3, "heads": 2},
}


@pytest.fixture
def small():
    """Maker of a small network and of three inputs: (kind, shape, out_channels, **settings)."""

    def make(
        kind: str, shape: tuple[int, ...] = (1, 8, 8), out: int = 1, **settings: Any
    ) -> tuple[nn.Module, Tensor]:
        torch.manual_seed(0)
        network = registry.lookup("networks", kind)
        shape = (2,) if kind == "mlp" else shape
        config = network.Config(**{**SETTINGS[kind], **settings})
        return network(config, shape, out), torch.randn(3, *shape)

    return make


@pytest.fixture(params=["dit", "uvit"])
def random(request: Any, small: Any) -> tuple[nn.Module, Tensor]:
    """A network with all conditions, no layer of it at zero, and images, all in double."""
    network, x = small(request.param, (2, 4, 6), 2, conditions=CONDITIONS)
    return randomized(network), x.double()

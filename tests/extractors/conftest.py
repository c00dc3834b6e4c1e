"""Files of random weights, as their publishers would lay them out."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file


@pytest.fixture
def images():
    """Colour images a bit beyond [-1, 1], on and off the grid of uint8."""
    return torch.rand(3, 3, 20, 24) * 2.2 - 1.1


@pytest.fixture
def save(tmp_path):
    """Writes tensors, or anything else, as a file of the named kind; returns its path."""

    def write(state, name):
        path = tmp_path / name
        save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
        return path

    return write


@pytest.fixture(scope="session")
def random_network():
    """Makes a network of timm; none of its values is one that a fresh network has too."""

    def make(name):
        torch.manual_seed(1)
        network = timm.create_model(name)
        for key, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) * (0.5 if "running_var" in key else 0.02))
        return network.eval().requires_grad_(False)

    return make


@pytest.fixture(scope="session")
def vit(random_network):
    """timm's smallest transformer, with its classifier; 160 px."""
    return random_network("test_vit")

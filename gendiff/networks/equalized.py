"""Layers with an equalised learning rate, and the mapping network made of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, times sqrt(2), which about keeps the variance."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def normalized(x: Tensor) -> Tensor:
    """Rows of (B, d) scaled to a mean square of 1 ("pixel norm")."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class EqualizedLinear(nn.Module):
    """Linear layer, its weights N(0, 1) over `multiplier` and scaled as they are used.

    All weights then have the same range, so that Adam moves all layers at the same pace,
    `multiplier` times the learning rate.

    Args:
        inputs: size of the input.
        outputs: size of the output.
        multiplier: of the learning rate.
        bias: initial value of the bias.

    Source: Karras et al. 2018, "Progressive growing of GANs", sec. 4.1; the multiplier is of
    Karras et al. 2019, "A style-based generator architecture", app. C.
    """

    def __init__(self, inputs: int, outputs: int, multiplier: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias / multiplier))
        self.gain = multiplier / math.sqrt(inputs)
        self.multiplier = multiplier

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) -> (B, outputs)."""
        return F.linear(x, self.weight * self.gain, self.bias * self.multiplier)


class EqualizedConv2d(nn.Module):
    """Convolution, its weights N(0, 1) and scaled as they are used; see `EqualizedLinear`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.gain = 1 / math.sqrt(inputs * kernel**2)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H', W')."""
        return F.conv2d(x, self.weight * self.gain, self.bias, self.stride, self.padding)


class Mapping(nn.Module):
    """Mapping network from the latent z, the label or both to w, (B, width).

    Both are normalised and then joined. Its learning rate is a hundredth of the others'.

    Args:
        conditions: `z`: size of the latent; `label`: number of classes K. At least one of them.
        width: size of w, of the hidden layers and of a label's embedding.
        layers: fully connected layers, each with leaky ReLU.

    Source: Karras et al. 2019, "A style-based generator architecture", sec. 2; for labels Karras
    et al. 2020, "Training generative adversarial networks with limited data".
    """

    def __init__(self, conditions: dict[str, int], width: int, layers: int):
        super().__init__()
        self.latent = "z" in conditions
        # Row K is the null class.
        self.label = nn.Embedding(conditions["label"] + 1, width) if "label" in conditions else None
        inputs = conditions.get("z", 0) + (width if self.label is not None else 0)
        self.layers = nn.ModuleList(
            EqualizedLinear(inputs if i == 0 else width, width, multiplier=0.01)
            for i in range(layers)
        )

    def forward(self, cond: dict[str, Tensor], batch: int) -> Tensor:
        """Map the conditions of a batch to (batch, width).

        Args:
            cond: `z`, (B, size), of any scale; `label`, (B,) int64 in 0..K, where K is the null
                class, also meant by a missing label. Other entries are ignored.
            batch: number of samples.

        Raises:
            ValueError: z is missing from `cond`.
        """
        parts = []
        if self.latent:
            if "z" not in cond:
                given = ", ".join(cond) or "nothing"
                raise ValueError(f"z: the network needs this condition, but got {given}")
            parts.append(normalized(cond["z"]))
        if self.label is not None:
            null = self.label.weight[-1:].expand(batch, -1)
            parts.append(normalized(self.label(cond["label"]) if "label" in cond else null))
        h = torch.cat(parts, dim=1)
        for layer in self.layers:
            h = leaky_relu(layer(h))
        return h

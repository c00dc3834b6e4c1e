"""Embeddings of the noise level and of the conditions, shared by all networks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

FREQUENCIES = 64
"""Number of sine/cosine pairs that describe one scalar."""

TIME_SCALE = 1000.0
"""Usual factor before the sinusoids of a time; turns [0, 1] into the step numbers of DDPM."""

GUIDANCE_SCALE = 100.0
"""Factor before the sinusoids of a guidance weight, which is about ten times a time."""

SCALARS = ("second_time", "guidance")
"""Conditions that are one number."""

MAPPING_LAYERS = 4
"""Layers of the mapping network of a latent."""

SILU_GAIN = 1.676
"""1 / sqrt(E[silu(u)^2]) for standard normal u."""

KNOWN_CONDITIONS = ("label", "z", *SCALARS)


def sinusoidal_embedding(value: Tensor, scale: float = TIME_SCALE) -> Tensor:
    """Sines and cosines of a scalar at geometric frequencies from 1 to about 1/10000.

    Always computed in float32 or better: bfloat16 can not tell neighbouring noise levels apart
    once they are scaled by 1000.

    Args:
        value: (B,) scalars, a noise level in [0, 1] for instance.
        scale: factor before the sinusoids.

    Returns:
        (B, 2 * FREQUENCIES) in [-1, 1], float64 for float64 scalars, else float32.

    Source: Vaswani et al. 2017, "Attention is all you need", sec. 3.5; for noise levels Ho et al.
    2020, "Denoising diffusion probabilistic models", app. B.
    """
    # Rebuilt at each call, as a buffer would be rounded by .to(bfloat16) and lost by .to_empty().
    dtype = torch.promote_types(value.dtype, torch.float32)
    steps = torch.arange(FREQUENCIES, device=value.device, dtype=dtype)
    frequencies = torch.exp(steps * (-math.log(10000.0) / FREQUENCIES))
    angles = (scale * value.to(dtype))[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def check_conditions(conditions: dict[str, int], time_scale: float = TIME_SCALE) -> None:
    """Check the names and sizes of the conditions of a network, and its factor on times.

    Raises:
        ValueError: one line naming the key, for an unknown name, a wrong size or factor.
    """
    if not 0 < time_scale < math.inf:
        raise ValueError(f"time_scale: {time_scale} must be positive and finite")
    for name, size in conditions.items():
        if name not in KNOWN_CONDITIONS:
            known = ", ".join(KNOWN_CONDITIONS)
            raise ValueError(f"conditions: unknown condition {name!r}; known are {known}")
        if name in SCALARS and size != 1:
            raise ValueError(f"conditions: {name} is one number, its size must be 1, not {size}")
        if size < 1:
            raise ValueError(f"conditions: the size of {name} must be at least 1, not {size}")


def embedding_mlp(inputs: int, dim: int) -> nn.Sequential:
    """Two layers with SiLU between, (B, inputs) -> (B, dim)."""
    return nn.Sequential(nn.Linear(inputs, dim), nn.SiLU(), nn.Linear(dim, dim))


def mapping_mlp(inputs: int, dim: int) -> nn.Sequential:
    """Mapping network of a latent: four layers with SiLU between, (B, inputs) -> (B, dim).

    Initialised so that every layer keeps the size of the signal: with the default one a latent
    fades from layer to layer, and a generator begins by ignoring it.

    Source: Karras et al. 2019, "A style-based generator architecture", sec. 2; Xiao et al. 2022,
    "Tackling the generative learning trilemma with denoising diffusion GANs", in the appendix.
    """
    layers: list[nn.Module] = []
    for i in range(MAPPING_LAYERS):
        linear = nn.Linear(dim if i else inputs, dim)
        nn.init.normal_(linear.weight, std=(SILU_GAIN if i else 1.0) / linear.in_features**0.5)
        nn.init.zeros_(linear.bias)
        layers += [nn.SiLU(), linear] if i else [linear]
    return nn.Sequential(*layers)


class ScalarEmbedding(nn.Module):
    """Sinusoids of a scalar through two layers, (B,) -> (B, dim)."""

    def __init__(self, dim: int, scale: float = TIME_SCALE):
        super().__init__()
        self.scale = scale
        self.mlp = embedding_mlp(2 * FREQUENCIES, dim)

    def forward(self, value: Tensor) -> Tensor:
        """Embed (B,) scalars into (B, dim), of the type of the parameters."""
        sinusoids = sinusoidal_embedding(value, self.scale)
        embedded: Tensor = self.mlp(sinusoids.to(next(self.mlp.parameters()).dtype))
        return embedded


class Conditioning(nn.Module):
    """One embedding of the noise level and of all conditions: the sum of their embeddings.

    Args:
        dim: size of the embedding.
        conditions: name -> size. `label`: number of classes K, `cond["label"]` is (B,) int64 in
            0..K, where K is the null class, also meant by a missing label. `z`: `cond["z"]` is
            (B, size). `second_time` and `guidance`: size 1, `cond[name]` is (B,).
        time_scale: factor before the sinusoids of the noise level and of the second time.
    """

    def __init__(self, dim: int, conditions: dict[str, int], time_scale: float = TIME_SCALE):
        super().__init__()
        check_conditions(conditions, time_scale)
        self.noise_level = ScalarEmbedding(dim, time_scale)
        self.conditions = nn.ModuleDict()
        for name, size in conditions.items():
            if name == "label":
                self.conditions[name] = nn.Embedding(size + 1, dim)
            elif name == "z":
                self.conditions[name] = mapping_mlp(size, dim)
            else:
                scale = GUIDANCE_SCALE if name == "guidance" else time_scale
                self.conditions[name] = ScalarEmbedding(dim, scale)

    def each(self, noise_level: Tensor, cond: dict[str, Tensor]) -> list[Tensor]:
        """The embeddings of (B,) noise levels in [0, 1] and of each condition, (B, dim) each.

        Entries of `cond` that the network does not take are ignored.

        Raises:
            ValueError: a condition other than the label is missing from `cond`.
        """
        parts = [self.noise_level(noise_level)]
        for name, module in self.conditions.items():
            if name in cond:
                parts.append(module(cond[name]))
            elif name == "label":
                assert isinstance(module, nn.Embedding)
                parts.append(module.weight[-1].expand_as(parts[0]))
            else:
                given = ", ".join(cond) or "nothing"
                raise ValueError(f"{name}: the network needs this condition, but got {given}")
        return parts

    def forward(self, noise_level: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """The sum of `each`, (B, dim)."""
        total, *rest = self.each(noise_level, cond)
        for part in rest:
            total = total + part
        return total

"""DiT and U-ViT: plain references, positions, long skips, sizes and checks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from told import BATCH, CONDITIONS, inputs, randomized
from torch import Tensor, nn
from torch.nn import functional as F

from gendiff.networks.dit import DiT, DiTConfig
from gendiff.networks.embeddings import Conditioning
from gendiff.networks.uvit import ConditionTokens, UViT, UViTConfig

# ---- plain references ------------------------------------------------------------------------


def linear(layer: Any, x: Tensor) -> Tensor:
    return x @ layer.weight.T + (0 if layer.bias is None else layer.bias)


def normed(x: Tensor, eps: float = 1e-6) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt()


def attended(layer: Any, x: Tensor, heads: int) -> Tensor:
    """Each head in a loop of its own."""
    mixed = []
    parts = [part.chunk(heads, -1) for part in linear(layer.qkv, x).chunk(3, -1)]
    for q, k, v in zip(*parts, strict=True):
        mixed.append((q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v)
    return linear(layer.proj, torch.cat(mixed, -1))


def plain_dit(network: Any, x: Tensor, noise_level: Tensor, cond: dict[str, Tensor]) -> Tensor:
    embedding = network.conditioning(noise_level, cond)
    embedding = (embedding * embedding.sigmoid())[:, None]
    h = F.unfold(x, 2, stride=2).mT @ network.patches.proj.weight.flatten(1).T
    h = h + network.patches.proj.bias + network.positions()
    for block in network.blocks:
        a, b, c, d, e, f = linear(block.modulation, embedding).chunk(6, -1)
        h = h + c * attended(block.attention, normed(h) * (1 + b) + a, 2)
        inner = linear(block.mlp.fc1, normed(h) * (1 + e) + d)
        inner = inner / 2 * (1 + (math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)).tanh())
        h = h + f * linear(block.mlp.fc2, inner)
    shift, scale = linear(network.modulation, embedding).chunk(2, -1)
    patches = linear(network.output, normed(h) * (1 + scale) + shift)
    return F.fold(patches.mT, x.shape[2:], 2, stride=2)


def plain_uvit(network: Any, x: Tensor, noise_level: Tensor, cond: dict[str, Tensor]) -> Tensor:
    def block(index: int, h: Tensor) -> Tensor:
        layer = network.blocks[index]
        h = h + attended(layer.attn, affine(layer.norm1, h), 2)
        inner = linear(layer.mlp.fc1, affine(layer.norm2, h))
        return h + linear(layer.mlp.fc2, inner / 2 * (1 + torch.erf(inner / math.sqrt(2))))

    def affine(layer: Any, h: Tensor) -> Tensor:
        return normed(h, 1e-5) * layer.weight + layer.bias

    h = F.unfold(x, 2, stride=2).mT @ network.patches.proj.weight.flatten(1).T
    h = h + network.patches.proj.bias
    h = torch.cat([network.conditioning(noise_level, cond), h], 1) + network.positions
    first = block(0, h)
    second = block(1, first)
    h = block(3, linear(network.joins[0], torch.cat([block(2, second), second], -1)))
    h = block(4, linear(network.joins[1], torch.cat([h, first], -1)))
    patches = linear(network.pixels, affine(network.norm, h)[:, 1 + len(CONDITIONS) :])
    return F.conv2d(
        F.fold(patches.mT, x.shape[2:], 2, stride=2),
        *network.output.parameters(),
        padding=1,
    )


@pytest.mark.parametrize(
    ("kind", "depth", "plain"), [("dit", 2, plain_dit), ("uvit", 5, plain_uvit)]
)
def test_plain_reference(small: Any, kind: str, depth: int, plain: Any) -> None:
    network, x = small(kind, (2, 4, 6), 3, conditions=CONDITIONS, depth=depth)
    randomized(network)
    arguments = (x.double(), *inputs())
    out = network(*arguments)
    assert out.shape == (BATCH, 3, 4, 6)
    assert out.is_contiguous()
    assert torch.allclose(out, plain(network, *arguments))


def test_a_block_of_a_dit_starts_as_the_identity(small: Any) -> None:
    block = small("dit")[0].blocks[1]
    tokens, embedding = torch.randn(BATCH, 7, 16), torch.randn(BATCH, 1, 16)
    assert torch.equal(block(tokens, embedding), tokens)


def test_starting_weights() -> None:
    dit = DiT(DiTConfig(width=32, depth=1, heads=2, patch=4), (3, 8, 8), 3)
    for layer, fans in ((dit.patches.proj, 32 + 3 * 16), (dit.blocks[0].mlp.fc1, 32 + 128)):
        bound = math.sqrt(6 / fans)
        assert 0.95 * bound < layer.weight.abs().max() <= bound
    uvit = UViT(UViTConfig(depth=1), (3, 8, 8), 3)
    for weight in (uvit.positions, uvit.pixels.weight, uvit.blocks[0].attn.qkv.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    out = uvit(torch.randn(8, 3, 8, 8), torch.rand(8), {})
    assert out.std().item() == pytest.approx(0.25, abs=0.1)


def test_tokens_sum_to_the_embedding() -> None:
    tokens = ConditionTokens(8, CONDITIONS).double()
    whole = Conditioning(8, CONDITIONS).double()
    whole.load_state_dict(tokens.state_dict())
    noise_level, cond = inputs()
    apart = tokens(noise_level, cond)
    assert apart.shape == (BATCH, 5, 8)
    assert torch.allclose(apart.sum(1), whole(noise_level, cond))
    other = tokens(noise_level, {**cond, "z": cond["z"] + 1})  # the third token
    assert (other != apart).any(-1).tolist() == [[False, False, True, False, False]] * BATCH


# ---- positions -------------------------------------------------------------------------------


def test_sine_cosine_positions_know_the_offset_alone() -> None:
    network = DiT(DiTConfig(width=24, depth=1, patch=4), (1, 12, 20), 1)
    positions = network.positions()
    frequencies = 10000.0 ** (-torch.arange(6) / 6)
    row, column = torch.arange(3).repeat_interleave(5), torch.arange(5).repeat(3)
    offsets = torch.stack([p[:, None] - p for p in (row, column)], -1)
    expected = (offsets[..., None] * frequencies).cos().sum((-1, -2))
    assert torch.allclose(positions @ positions.T, expected, atol=1e-4)
    assert network.bfloat16().positions().dtype == torch.bfloat16
    assert "positions" not in network.state_dict()


def shuffled(x: Tensor, order: Tensor) -> Tensor:
    """Images of 2x2 patches in another order."""
    return F.fold(F.unfold(x, 2, stride=2)[..., order], x.shape[2:], 2, stride=2)


def test_patches_and_their_positions_move_together(random: Any, monkeypatch: Any) -> None:
    network, x = random
    if isinstance(network, UViT):
        network.output = nn.Identity()  # the one layer that sees neighbours
    order, arguments = torch.randperm(6), inputs()
    expected = shuffled(network(x, *arguments), order)
    moved = shuffled(x, order)
    assert not torch.allclose(network(moved, *arguments), expected, rtol=1e-2)
    if isinstance(network, UViT):
        every = torch.cat([torch.arange(5), 5 + order])
        network.positions.data = network.positions.data[every]
    else:
        positions = network.positions()[order]
        monkeypatch.setattr(network, "positions", lambda: positions)
    assert torch.allclose(network(moved, *arguments), expected)


# ---- long skips ------------------------------------------------------------------------------


@pytest.mark.parametrize("join", [0, 1, 2])
def test_long_skips_join_mirrored_blocks(small: Any, join: int) -> None:
    """With a join cut from what comes before it, all blocks between it and its source are idle."""
    network, x = small("uvit", depth=7)
    weight = network.joins[join].weight
    nn.init.zeros_(weight[:, :16])
    noise_level = torch.rand(BATCH)
    before = network(x, noise_level, {})
    idle = range(3 - join, 4 + join)
    for i in range(7):
        bias = network.blocks[i].mlp.fc2.bias
        nn.init.normal_(bias)
        assert torch.equal(network(x, noise_level, {}), before) == (i in idle), i
        nn.init.zeros_(bias)


# ---- sizes and checks ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "shape", "depth", "width", "heads", "millions"),
    [
        (DiT, (4, 32, 32), 12, 384, 6, 33),
        (DiT, (4, 32, 32), 12, 768, 12, 130),
        (DiT, (4, 32, 32), 24, 1024, 16, 458),
        (DiT, (4, 32, 32), 28, 1152, 16, 675),
        (UViT, (3, 32, 32), 13, 512, 8, 44),
        (UViT, (4, 32, 32), 17, 768, 12, 131),
        (UViT, (4, 32, 32), 21, 1024, 16, 287),
        (UViT, (4, 32, 32), 29, 1152, 16, 501),
    ],
)
def test_named_sizes_are_the_papers(
    network: Any, shape: tuple[int, ...], depth: int, width: int, heads: int, millions: int
) -> None:
    out = shape[0] * (2 if network is DiT else 1)  # DiT's learns its variance too
    labels = {"label": 1000} if shape[0] == 4 else {}
    config = network.Config(depth=depth, width=width, heads=heads, conditions=labels)
    if width < 768:
        assert config == network.Config(conditions=labels)
    with torch.device("meta"):
        count = sum(p.numel() for p in network(config, shape, out).parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.015)


@pytest.mark.parametrize("config", [DiTConfig, UViTConfig])
@pytest.mark.parametrize(
    ("settings", "shape", "line"),
    [
        ({}, (2,), "name: (dit|uvit) takes images of shape \\(C, H, W\\), not \\(2,\\)$"),
        ({"patch": 0}, (1, 8, 8), "patch: must be at least 1, not 0"),
        ({"patch": 4}, (1, 8, 6), "patch: 4 does not divide both sides of 8x6"),
        ({"patch": 4}, (1, 6, 8), "patch: 4 does not divide both sides of 6x8"),
        ({"width": 0}, (1, 8, 8), "width: must be at least 1, not 0"),
        ({"depth": -1}, (1, 8, 8), "depth: -1 must be at least 1"),
        ({"depth": 10**12 + 1}, (1, 8, 8), "depth: 10{11}1 must be at most"),
        ({"heads": 0}, (1, 8, 8), "heads: must be at least 1, not 0"),
        ({"width": 64, "heads": 5}, (1, 8, 8), "heads: 5 does not divide the width of 64"),
        ({"conditions": {"colour": 3}}, (1, 8, 8), "conditions: unknown condition 'colour'"),
        ({"time_scale": math.nan}, (1, 8, 8), "time_scale: nan must be positive and finite"),
    ],
)
def test_check(config: Any, settings: Any, shape: tuple[int, ...], line: str) -> None:
    network: Any = DiT if config is DiTConfig else UViT
    with pytest.raises(ValueError, match=f"^{line}") as error:
        network(config(**settings), shape, 1)
    assert "\n" not in str(error.value)


def test_checks_of_one_network() -> None:
    with pytest.raises(ValueError, match=r"^width: must be divisible by 4 .*, not 66$"):
        DiT(DiTConfig(width=66), (1, 8, 8), 1)
    with pytest.raises(ValueError, match=r"^depth: must be odd, .*, not 12$"):
        UViT(UViTConfig(depth=12), (1, 8, 8), 1)

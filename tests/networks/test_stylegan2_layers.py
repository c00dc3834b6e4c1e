"""Layers of StyleGAN2: resampling, equalised and modulated layers, the deviation in a group."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torch import Tensor, nn

from gendiff.networks.discriminator import DownBlock, batch_deviation
from gendiff.networks.equalized import EqualizedConv2d, EqualizedLinear, leaky_relu, normalized
from gendiff.networks.pyramid import blur, upsample
from gendiff.networks.stylegan2 import ModulatedConv2d

FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


# ---- resampling ------------------------------------------------------------------------------


@pytest.mark.parametrize(("padding", "stride"), [(1, 2), (2, 1), (1, 1)])
def test_blur_is_the_filter(padding: int, stride: int) -> None:
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    crop = 3 - padding
    full = np.stack([[convolve2d(plane, 2 * FILTER) for plane in sample] for sample in x.numpy()])
    expected = full[..., crop:-crop:stride, crop:-crop:stride]
    assert np.allclose(blur(x, padding, stride, gain=2.0), expected)


def test_constants_away_from_and_at_the_borders() -> None:
    small = blur(torch.ones(1, 2, 16, 16), padding=1, stride=2)
    edge = torch.tensor([7 / 8, *[1.0] * 6, 7 / 8])
    assert torch.equal(small, (edge[:, None] * edge).expand(1, 2, 8, 8))
    large = upsample(torch.ones(1, 2, 8, 8))
    edge = torch.tensor([3 / 4, *[1.0] * 14, 3 / 4])
    assert torch.equal(large, (edge[:, None] * edge).expand(1, 2, 16, 16))
    assert torch.equal(upsample(torch.ones(1, 2, 8, 8).bfloat16()).float(), large)
    assert torch.all(upsample(small)[..., 3:-3, 3:-3] == 1)


def test_a_shift_by_two_pixels_goes_through() -> None:
    x = torch.zeros(1, 1, 24, 24)
    x[..., 8:14, 9:15] = torch.randn(6, 6)
    there_and_back = upsample(blur(x, padding=1, stride=2))
    moved = upsample(blur(x.roll((2, -2), (2, 3)), padding=1, stride=2))
    assert torch.allclose(moved, there_and_back.roll((2, -2), (2, 3)), atol=1e-6)
    assert not torch.allclose(there_and_back, x, atol=0.1)


def test_upsampling_is_the_adjoint_of_downsampling() -> None:
    x, y = torch.randn(2, 3, 5, 5).double(), torch.randn(2, 3, 10, 10).double()
    down = blur(y, padding=1, stride=2)
    assert torch.allclose((upsample(x) * y).sum(), 4 * (x * down).sum())


# ---- layers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("multiplier", [1.0, 0.01])
def test_equalised_linear(multiplier: float) -> None:
    layer = EqualizedLinear(300, 400, multiplier, bias=2.0)
    x = torch.randn(500, 300)
    assert layer.weight.std().item() * multiplier == pytest.approx(1, rel=0.02)
    before = layer(x)
    assert before.mean().item() == pytest.approx(2, rel=0.02)
    assert before.std().item() == pytest.approx(1, rel=0.02)
    with torch.no_grad():
        layer.weight += 1
        layer.bias += 1
    step = multiplier * (1 + x.sum(1, keepdim=True) / math.sqrt(300))
    assert torch.allclose(layer(x), before + step, atol=1e-4)


def test_equalised_convolution() -> None:
    layer = EqualizedConv2d(64, 128, 3)
    assert layer.weight.std().item() == pytest.approx(1, rel=0.02)
    assert layer(torch.randn(8, 64, 18, 18)).std().item() == pytest.approx(1, rel=0.03)


def test_normalized_rows_and_leaky_relu() -> None:
    x = torch.randn(3, 50) * torch.tensor([[1e-2], [1.0], [1e4]])
    assert torch.allclose(normalized(x).square().mean(1), torch.ones(3), rtol=1e-3)
    assert torch.allclose(
        leaky_relu(torch.tensor([3.0, -5.0])), math.sqrt(2) * torch.tensor([3, -1.0])
    )


def modulated(layer: ModulatedConv2d, style: Tensor) -> np.ndarray:
    """Weights of one sample, eq. 1 and 3 of the paper, in plain loops' order."""
    weight = layer.weight.detach().numpy() / math.sqrt(layer.weight[0].numel())
    weight = weight * style.detach().numpy()[None, :, None, None]
    if layer.demodulate:
        weight = weight / np.sqrt((weight**2).sum((1, 2, 3), keepdims=True) + 1e-8)
    return weight


@pytest.mark.parametrize(
    ("kernel", "demodulate", "up"), [(3, True, False), (1, False, False), (3, True, True)]
)
def test_modulated_convolution_is_one_convolution_per_sample(
    kernel: int, demodulate: bool, up: bool
) -> None:
    layer = ModulatedConv2d(3, 4, kernel, 5, demodulate, up).double()
    nn.init.normal_(layer.bias)
    x, w = torch.randn(2, 3, 6, 6).double(), torch.randn(2, 5).double()
    out = layer(x, w).detach().numpy()
    for image, style, result in zip(x.numpy(), layer.affine(w), out, strict=True):
        for weight, bias, plane in zip(modulated(layer, style), layer.bias, result, strict=True):
            total: Any = bias.item()
            for kernel_2d, channel in zip(weight, image, strict=True):
                if up:
                    spread = np.zeros((11, 11))
                    spread[::2, ::2] = channel
                    full = convolve2d(convolve2d(spread, kernel_2d), 4 * FILTER)
                    total = total + full[2:-2, 2:-2]
                else:  # networks correlate: the kernel is flipped
                    total = total + convolve2d(channel, kernel_2d[::-1, ::-1], mode="same")
            assert np.allclose(plane, total)


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e4])
def test_demodulation_gives_unit_variance(scale: float) -> None:
    layer = ModulatedConv2d(32, 48, 3, 16)
    x, w = torch.randn(4, 32, 34, 34), torch.randn(4, 16)
    with torch.no_grad():
        layer.affine.weight *= scale
        layer.affine.bias *= scale
    out = layer(x, w)[..., 1:-1, 1:-1]
    assert torch.allclose(out.flatten(2).var(2).mean(1), torch.ones(4), rtol=0.05)
    layer.demodulate = False
    plain = layer(x, w)[..., 1:-1, 1:-1]
    # The style is 1 + N(0, 1).
    assert plain.std().item() == pytest.approx(scale * math.sqrt(2), rel=0.2)


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_residual_block_in_closed_form(value: float) -> None:
    block = DownBlock(1, 1)
    for conv in (block.conv1, block.conv2):
        nn.init.zeros_(conv.weight)
        conv.weight.data[0, 0, 1, 1] = 1 / conv.gain
    nn.init.constant_(block.skip.weight, 3.0)
    shift = torch.tensor([0.5, -0.5]).view(2, 1, 1, 1)
    out = block(torch.full((2, 1, 16, 16), value), shift)
    assert out.shape == (2, 1, 8, 8)
    main = leaky_relu(leaky_relu(value + shift))
    assert torch.allclose(
        out[..., 2:-2, 2:-2], (main + 3 * value).expand(2, 1, 4, 4) / math.sqrt(2)
    )


# ---- the deviation in a group ----------------------------------------------------------------


@pytest.mark.parametrize(("batch", "size"), [(8, 4), (6, 3), (2, 2), (10, 2), (5, 1), (1, 1)])
def test_batch_deviation_in_closed_form(batch: int, size: int) -> None:
    x = torch.randn(batch, 3, 2, 4).double()
    groups = x.numpy().reshape(-1, size, 3, 2, 4)
    expected = groups.std(1).mean((1, 2, 3)).repeat(size)
    out = batch_deviation(x)
    assert out.shape == (batch, 1, 2, 4)
    assert np.allclose(out, expected[:, None, None, None], atol=1.1e-4 if size == 1 else 1e-6)


def test_batch_deviation_of_equal_samples_has_finite_slopes() -> None:
    x = torch.ones(4, 2, 4, 4, requires_grad=True)
    (slope,) = torch.autograd.grad(batch_deviation(x).sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.square().sum(), x)
    assert torch.all(slope == 0)
    assert curvature.isfinite().all()


def test_batch_deviation_counts_in_float32() -> None:
    x = 100 + torch.randn(4, 64, 4, 4)
    rough = batch_deviation(x.bfloat16())
    assert rough.dtype == torch.bfloat16
    exact = batch_deviation(x.bfloat16().float())
    assert torch.allclose(rough.float(), exact, rtol=2**-8)

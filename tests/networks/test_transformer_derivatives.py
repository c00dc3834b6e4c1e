"""DiT and U-ViT, whose attention is fused: derivatives of every kind and order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from told import inputs
from torch import Tensor
from torch.backends.cuda import flash_sdp_enabled


def test_forward_mode_reverse_mode_and_differences_agree(random: Any) -> None:
    network, x = random
    noise_level, cond = inputs()

    def call(x: Tensor, t: Tensor, second: Tensor) -> Tensor:
        return network(x, t, {**cond, "second_time": second})

    point = (x, noise_level, cond["second_time"])
    step = tuple(torch.randn_like(part) for part in point)
    pairs = list(zip(point, step, strict=True))
    for only in range(3):  # each alone: each must switch the attention by itself
        value, slope = torch.func.jvp(
            lambda part, only=only: call(*point[:only], part, *point[only + 1 :]),
            (point[only],),
            (step[only],),
        )
        assert torch.allclose(value, call(*point))  # which is fused
        ends = [
            call(*(p + s * sign * 1e-6 * (i == only) for i, (p, s) in enumerate(pairs)))
            for sign in (1, -1)
        ]
        assert torch.allclose(slope, (ends[0] - ends[1]) / 2e-6, rtol=1e-4, atol=1e-5)
        weights, leaf = torch.randn_like(slope), point[only].clone().requires_grad_()
        out = call(*point[:only], leaf, *point[only + 1 :])
        (grad,) = torch.autograd.grad((weights * out).sum(), leaf)
        assert torch.allclose((grad * step[only]).sum(), (slope * weights).sum(), rtol=1e-9)


def test_gradients_by_the_weights_of_a_forward_derivative(random: Any) -> None:
    """Reverse over forward, as in mean flow: of the value as in a plain pass, of the slope too."""
    network, x = random
    noise_level, cond = inputs()
    names, weights = zip(*network.named_parameters(), strict=True)

    def both(t: Tensor) -> Any:
        return torch.func.jvp(lambda t: network(x, t, cond), (t,), (torch.ones_like(t),))

    plain = torch.autograd.grad(network(x, noise_level, cond).square().sum(), weights)
    value, slope = both(noise_level)
    through = torch.autograd.grad(value.square().sum(), weights, retain_graph=True)
    for name, one, other in zip(names, plain, through, strict=True):
        assert torch.allclose(one, other), name
    grads = torch.autograd.grad(slope.square().sum(), weights, allow_unused=True)
    along = [torch.randn_like(weight) for weight in weights]
    expected = sum((g * d).sum() for g, d in zip(grads, along, strict=True) if g is not None)
    ends = []
    for sign in (1, -2):  # to +1e-6, then back to -1e-6
        with torch.no_grad():
            for weight, d in zip(weights, along, strict=True):
                weight += sign * 1e-6 * d
        ends.append(both(noise_level)[1].square().sum().item())
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(float(expected), rel=1e-4)


def test_second_derivatives_by_the_image(random: Any) -> None:
    network, x = random
    arguments = inputs()
    network.requires_grad_(False)
    x = x[:1].requires_grad_()
    arguments = (arguments[0][:1], {name: value[:1] for name, value in arguments[1].items()})
    assert torch.autograd.gradcheck(lambda x: network(x, *arguments), x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: network(x, *arguments), x, fast_mode=True)


def test_attention_is_fused_unless_inputs_are_differentiated(random: Any) -> None:
    network, x = random
    noise_level, cond = inputs()
    fused: list[bool] = []
    for block in network.blocks:
        block.register_forward_hook(lambda *_: fused.append(flash_sdp_enabled()))
    network(x, noise_level, cond)
    assert all(fused)
    fused.clear()
    network(x, noise_level, {**cond, "z": cond["z"].requires_grad_()})
    assert not any(fused)
    assert flash_sdp_enabled()  # and again afterwards

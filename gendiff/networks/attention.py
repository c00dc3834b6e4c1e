"""Attention that can be differentiated as penalties and derivatives in time ask for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any

from torch import Tensor
from torch.autograd.forward_ad import unpack_dual
from torch.nn.attention import SDPBackend, sdpa_kernel

Forward = Callable[[Any, Tensor, Tensor, dict[str, Tensor]], Tensor]


def differentiable(forward: Forward) -> Forward:
    """A ``forward`` with its attention written out where derivatives by its inputs may follow.

    The fused kernels have neither a forward-mode nor a second derivative. Of an input that requires
    a gradient one can not know whether a second follows. Elsewhere, as in training by the weights
    alone, they stay.
    """

    @wraps(forward)
    def either(self: Any, x: Tensor, noise_level: Tensor, cond: dict[str, Tensor]) -> Tensor:
        inputs = (x, noise_level, *cond.values())
        fused = not any(i.requires_grad or unpack_dual(i).tangent is not None for i in inputs)
        with nullcontext() if fused else sdpa_kernel(SDPBackend.MATH):
            return forward(self, x, noise_level, cond)

    return either

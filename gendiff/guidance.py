"""Classifier-free guidance (Ho & Salimans 2022, Eq. 6)."""

from __future__ import annotations

import torch
from torch import Tensor

from gendiff.denoiser import Condition, DenoiserLike, X0At, combine, network_of, x0_at
from gendiff.paths import expand
from gendiff.predictions import Prediction

Weight = float | Tensor
"""w of all samples, or of each, (B,)."""


class Guided:
    """A denoiser pushed away from its unconditional prediction.

    ``(1 + w) conditional - w unconditional``: w = 0 is the plain conditional model. All
    predictions are affine in one another at a given (x_t, t), so mixing outputs mixes them all.
    Costs two network calls, and counts as two.
    """

    def __init__(self, denoiser: DenoiserLike, weight: Weight) -> None:
        self.denoiser, self.weight, self.path = denoiser, weight, denoiser.path

    def __call__(self, xt: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        conditional = self.denoiser(xt, t, cond)
        unconditional = self.denoiser(xt, t, unlabelled(cond))
        output = pushed(conditional.output, unconditional.output, self.weight)
        return Prediction(output, conditional.reading, xt, conditional.t, self.path)

    def at(self, times: Tensor) -> X0At:
        """As a call at each time, with the coefficients computed once."""
        return GuidedAt(self, times)


class GuidedAt(X0At):
    """A guided denoiser at times known beforehand."""

    def __init__(self, guided: Guided, times: Tensor) -> None:
        super().__init__(guided, times)
        self.inner, self.weight = x0_at(guided.denoiser, times), guided.weight

    def __call__(self, i: int, xt: Tensor, cond: Condition | None = None) -> Tensor:
        conditional, rest = self.inner(i, xt, cond), self.inner(i, xt, unlabelled(cond))
        return pushed(conditional, rest, self.weight)


def pushed(conditional: Tensor, rest: Tensor, weight: Weight) -> Tensor:
    """``(1 + w) conditional - w rest``."""
    if isinstance(weight, Tensor):
        return conditional + expand(weight, conditional) * (conditional - rest)
    return combine(1 + weight, conditional, -weight, rest)


def unlabelled(cond: Condition | None) -> Condition:
    """The condition without its label, which networks read as the null label."""
    return {name: value for name, value in (cond or {}).items() if name != "label"}


class Told:
    """A denoiser whose network takes the weight as a condition, with that weight."""

    def __init__(self, denoiser: DenoiserLike, weight: Weight) -> None:
        self.denoiser, self.weight, self.path = denoiser, weight, denoiser.path

    def tell(self, xt: Tensor, cond: Condition | None) -> Condition:
        weight = torch.as_tensor(self.weight, dtype=torch.float32, device=xt.device)
        return {**(cond or {}), "guidance": weight.expand(len(xt))}

    def __call__(self, xt: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        return self.denoiser(xt, t, self.tell(xt, cond))

    def at(self, times: Tensor) -> X0At:
        """As a call at each time, with the coefficients computed once."""
        return ToldAt(self, times)


class ToldAt(X0At):
    """A told denoiser at times known beforehand."""

    denoiser: Told

    def __init__(self, told: Told, times: Tensor) -> None:
        super().__init__(told, times)
        self.inner = x0_at(told.denoiser, times)

    def __call__(self, i: int, xt: Tensor, cond: Condition | None = None) -> Tensor:
        return self.inner(i, xt, self.denoiser.tell(xt, cond))

    def mix(self, i: int, xt: Tensor, a: float, b: float, cond: Condition | None = None) -> Tensor:
        return self.inner.mix(i, xt, a, b, self.denoiser.tell(xt, cond))


def guide(denoiser: DenoiserLike, weight: Weight) -> DenoiserLike:
    """The denoiser with a guidance weight: told it where its network asks for one.

    Otherwise pushed by it, or the denoiser itself when the weight is 0.
    """
    conditioning = getattr(network_of(denoiser), "conditioning", None)
    if "guidance" in getattr(conditioning, "conditions", ()):
        return Told(denoiser, weight)
    plain = not isinstance(weight, Tensor) and weight == 0
    return denoiser if plain else Guided(denoiser, weight)

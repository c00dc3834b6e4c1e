"""Classifier-free guidance (Ho & Salimans 2022, Eq. 6)."""

from __future__ import annotations

from torch import Tensor

from gendiff.denoiser import Condition, DenoiserLike, Prediction


class Guided:
    """A denoiser pushed away from its unconditional prediction.

    ``(1 + w) conditional - w unconditional``: w = 0 is the plain conditional model. All
    predictions are affine in one another at a given (x_t, t), so mixing outputs mixes them all.
    Costs two network calls, and counts as two.
    """

    def __init__(self, denoiser: DenoiserLike, weight: float) -> None:
        self.denoiser, self.weight, self.path = denoiser, weight, denoiser.path

    def __call__(self, xt: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        conditional = self.denoiser(xt, t, cond)
        rest = {name: value for name, value in (cond or {}).items() if name != "label"}
        unconditional = self.denoiser(xt, t, rest)
        w = self.weight
        output = (1 + w) * conditional.output - w * unconditional.output
        return Prediction(output, conditional.kind, xt, conditional.t, self.path)


def guide(denoiser: DenoiserLike, weight: float) -> DenoiserLike:
    """The denoiser itself when the weight is 0."""
    return Guided(denoiser, weight) if weight else denoiser

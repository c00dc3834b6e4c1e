"""Denoiser: a network, the path it was trained on, and what its output means.

Every meaning goes through x0: two formulas a kind, no pairwise conversions.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Literal, Protocol

from torch import Tensor, nn

from gendiff.paths import MAX_LOG_SNR, Path, expand

Kind = Literal["x0", "eps", "v", "velocity"]
Condition = Mapping[str, Tensor]


class Prediction:
    """A network's output at (x_t, t), read as any of x0, eps, v, velocity and score.

    With a = alpha(t) and s = sigma(t): ``x_t = a x0 + s eps``, ``v = a eps - s x0`` (Salimans &
    Ho 2022; their path has a^2 + s^2 = 1), ``velocity = a' x0 + s' eps`` and
    ``score = -eps / s``. All have the shape of x_t; t is (B,).
    """

    def __init__(self, output: Tensor, kind: Kind, xt: Tensor, t: Tensor, path: Path) -> None:
        self.output, self.kind, self.xt, self.t, self.path = output, kind, xt, t, path

    @cached_property
    def _scales(self) -> tuple[Tensor, Tensor]:
        return expand(self.path.alpha(self.t), self.xt), expand(self.path.sigma(self.t), self.xt)

    @cached_property
    def _rates(self) -> tuple[Tensor, Tensor]:
        return (
            expand(self.path.d_alpha(self.t), self.xt),
            expand(self.path.d_sigma(self.t), self.xt),
        )

    @cached_property
    def x0(self) -> Tensor:
        """The clean data."""
        out, xt = self.output, self.xt
        if self.kind == "x0":
            return out
        a, s = self._scales
        if self.kind == "eps":
            return (xt - s * out) / a
        if self.kind == "v":
            return (a * xt - s * out) / (a * a + s * s)
        da, ds = self._rates
        return (s * out - ds * xt) / (s * da - ds * a)

    @cached_property
    def eps(self) -> Tensor:
        """The noise."""
        if self.kind == "eps":
            return self.output
        a, s = self._scales
        return (self.xt - a * self.x0) / s

    @cached_property
    def v(self) -> Tensor:
        """The rotation of (x0, eps) that v prediction learns."""
        if self.kind == "v":
            return self.output
        a, s = self._scales
        return (a * self.xt - (a * a + s * s) * self.x0) / s

    @cached_property
    def velocity(self) -> Tensor:
        """dx_t/dt of the probability flow."""
        if self.kind == "velocity":
            return self.output
        da, ds = self._rates
        return da * self.x0 + ds * self.eps

    @cached_property
    def score(self) -> Tensor:
        """Gradient of the log-density of x_t."""
        return -self.eps / self._scales[1]


def target(kind: Kind, x0: Tensor, eps: Tensor, t: Tensor, path: Path) -> Tensor:
    """What a network should put out when x0 and eps are known: the regression target."""
    if kind == "x0":
        return x0
    if kind == "eps":
        return eps
    if kind == "v":
        return expand(path.alpha(t), x0) * eps - expand(path.sigma(t), x0) * x0
    return path.velocity(x0, eps, t)


class DenoiserLike(Protocol):
    """What samplers ask for: a path, and a `Prediction` at (x_t, t)."""

    path: Path

    def __call__(self, xt: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction: ...


class Denoiser:
    """A network read along a path.

    Args:
        network: called as ``network(x_t, noise_level, cond)``, noise_level (B,) in [0, 1].
        path: gives alpha, sigma and the noise level at t.
        kind: what the network predicts.

    Attributes:
        nfe: network calls so far, the number of function evaluations.
    """

    def __init__(self, network: nn.Module, path: Path, kind: Kind) -> None:
        self.network, self.path, self.kind, self.nfe = network, path, kind, 0

    @staticmethod
    def output_channels(channels: int) -> int:
        """Channels the network must put out for data of so many channels."""
        return channels

    def __call__(self, xt: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        """Predict at x_t, (B, ...), and t, (B,) or ()."""
        self.nfe += 1
        t = t.expand(len(xt))
        output = self.network(xt, self.path.noise_level(t), dict(cond or {}))
        return Prediction(output.to(xt.dtype), self.kind, xt, t, self.path)


class Moved:
    """A denoiser of one path read on another: at equal signal-to-noise ratio x_t only differs in
    scale (Karras et al. 2022, Section 2).
    """

    def __init__(self, denoiser: DenoiserLike, path: Path) -> None:
        self.denoiser, self.path = denoiser, path

    def __call__(self, xt: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        """Predict x0 at x_t, (B, ...), and t, (B,) or (), of the new path."""
        own, t = self.denoiser.path, t.expand(len(xt))
        log_snr = self.path.log_snr(t).clamp(-MAX_LOG_SNR, MAX_LOG_SNR)
        there = own.inverse_log_snr(log_snr).clamp(max=own.t_max)
        mine, theirs = (
            (path.alpha(time) ** 2 + path.sigma(time) ** 2).sqrt()
            for path, time in ((self.path, t), (own, there))
        )
        x0 = self.denoiser(expand(theirs / mine, xt) * xt, there, cond).x0
        return Prediction(x0, "x0", xt, t, self.path)


def along(denoiser: DenoiserLike, path: Path) -> DenoiserLike:
    """The denoiser as one of ``path``: itself if it is."""
    return denoiser if denoiser.path == path else Moved(denoiser, path)

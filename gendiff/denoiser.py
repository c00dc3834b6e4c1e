"""Denoiser: a network, the path it was trained on, and what its output means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gendiff.paths import MAX_LOG_SNR, Path, expand
from gendiff.predictions import Kind, Prediction, Reading

Condition = Mapping[str, Tensor]
X0At = Callable[[int, Tensor, Condition | None], Tensor]
"""(place in a list of times, x_t, condition) -> x0."""


class DenoiserLike(Protocol):
    """What samplers ask for: a path, and a `Prediction` at (x_t, t).

    One that also has ``at(times)``, as `x0_at` returns it, is spared computing the same
    coefficients at every step.
    """

    path: Path

    def __call__(self, xt: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction: ...


def x0_at(denoiser: DenoiserLike, times: Tensor) -> X0At:
    """x0 at times known beforehand, (N,): what can be computed once, is."""
    prepare = getattr(denoiser, "at", None)
    if prepare:
        return prepare(times)

    def x0(i: int, xt: Tensor, cond: Condition | None = None) -> Tensor:
        t = times[i].to(xt.device, torch.promote_types(xt.dtype, torch.float32))
        return denoiser(xt, t, cond).x0

    return x0


class Denoiser:
    """A network read along a path.

    Args:
        network: called as ``network(x, noise_level, cond)``: x is x_t, scaled to about unit size
            where the path or the kind asks for it, and noise_level (B,) in [0, 1].
        path: gives alpha, sigma and the noise level at t.
        reading: what the network predicts, or the name of its kind.

    Attributes:
        nfe: network calls so far, the number of function evaluations.
    """

    def __init__(self, network: nn.Module, path: Path, reading: Reading | Kind) -> None:
        self.reading = Reading(reading) if isinstance(reading, str) else reading
        self.network, self.path, self.nfe = network, path, 0

    @staticmethod
    def output_channels(channels: int) -> int:
        """Channels the network must put out for data of so many channels."""
        return channels

    def __call__(self, xt: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        """Predict at x_t, (B, ...), and t, (B,) or ()."""
        self.nfe += 1
        t = t.to(xt.device, torch.promote_types(xt.dtype, torch.float32)).expand(len(xt))
        scale = self.reading.input_scale(self.path, t)
        x = xt if scale is None else (expand(scale, xt) * xt).to(xt.dtype)
        output = self.network(x, self.path.noise_level(t), dict(cond or {}))
        return Prediction(output.to(xt.dtype), self.reading, xt, t, self.path)

    def at(self, times: Tensor) -> X0At:
        """x0 at times known beforehand; the coefficients are computed once, in float64."""
        times = times.detach().cpu().double()
        levels = self.path.noise_level(times).tolist()
        p, q = (c.tolist() for c in self.reading.to_x0(self.path, times))
        scales = self.reading.input_scale(self.path, times)
        inputs = None if scales is None else scales.tolist()

        def x0(i: int, xt: Tensor, cond: Condition | None = None) -> Tensor:
            self.nfe += 1
            dtype = torch.promote_types(xt.dtype, torch.float32)
            level = torch.full((len(xt),), levels[i], dtype=dtype, device=xt.device)
            x = xt if inputs is None else xt * inputs[i]
            output = self.network(x, level, cond or {}).to(xt.dtype)
            return output if p[i] == 0 and q[i] == 1 else combine(p[i], xt, q[i], output)

        return x0


class Moved:
    """A denoiser of one path read on another: at equal signal-to-noise ratio x_t only differs in
    scale (Karras et al. 2022, Section 2).
    """

    def __init__(self, denoiser: DenoiserLike, path: Path) -> None:
        self.denoiser, self.path = denoiser, path

    def __call__(self, xt: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        """Predict x0 at x_t, (B, ...), and t, (B,) or (), of the new path."""
        t = t.to(xt.device, torch.promote_types(xt.dtype, torch.float32)).expand(len(xt))
        there, scale = carry(t, self.path, self.denoiser.path)
        x0 = self.denoiser((expand(scale, xt) * xt).to(xt.dtype), there, cond).x0
        return Prediction(x0, "x0", xt, t, self.path)

    def at(self, times: Tensor) -> X0At:
        times = times.detach().cpu().double()
        there, scale = carry(times, self.path, self.denoiser.path)
        inner, scales = x0_at(self.denoiser, there), scale.tolist()

        def x0(i: int, xt: Tensor, cond: Condition | None = None) -> Tensor:
            return inner(i, xt * scales[i], cond)

        return x0


def along(denoiser: DenoiserLike, path: Path) -> DenoiserLike:
    """The denoiser as one of ``path``: itself if it is."""
    return denoiser if denoiser.path == path else Moved(denoiser, path)


def carry(t: Tensor, path: Path, other: Path) -> tuple[Tensor, Tensor]:
    """The time of another path with the same signal-to-noise ratio, and the factor on x_t."""
    log_snr = path.log_snr(t).clamp(-MAX_LOG_SNR, MAX_LOG_SNR)
    there = other.inverse_log_snr(log_snr).clamp(max=other.t_max)
    return there, other.size(there) / path.size(t)


def combine(a: float, x: Tensor, b: float, y: Tensor) -> Tensor:
    """``a x + b y`` in two passes over memory."""
    return (x * a).add_(y, alpha=b)


def network_of(module: Any) -> nn.Module:
    """The network of a denoiser; a network itself as it is."""
    return getattr(module, "network", module)

"""Denoiser: a network, the path it was trained on, and what its output means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gendiff.paths import Path, carry, expand
from gendiff.predictions import Kind, Prediction, Reading

Condition = Mapping[str, Tensor]


class DenoiserLike(Protocol):
    """What samplers ask for: a path, and a `Prediction` at (x_t, t).

    One that also has ``at(times) -> X0At`` is spared computing coefficients at every step.
    """

    path: Path

    def __call__(self, xt: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction: ...


class X0At:
    """x0 at times known beforehand, (N,): what can be computed once, is."""

    def __init__(self, denoiser: DenoiserLike, times: Tensor) -> None:
        self.denoiser, self.times = denoiser, times

    def __call__(self, i: int, xt: Tensor, cond: Condition | None = None) -> Tensor:
        """x0 from x_t at the i-th time."""
        t = self.times[i].to(xt.device, torch.promote_types(xt.dtype, torch.float32))
        return self.denoiser(xt, t, cond).x0

    def mix(self, i: int, xt: Tensor, a: float, b: float, cond: Condition | None = None) -> Tensor:
        """``a x_t + b x0`` at the i-th time: what most steps are."""
        return combine(a, xt, b, self(i, xt, cond))


def x0_at(denoiser: DenoiserLike, times: Tensor) -> X0At:
    """A denoiser's own way of being asked at times known beforehand, or the plain one."""
    prepare = getattr(denoiser, "at", None)
    return prepare(times) if prepare else X0At(denoiser, times)


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

    def __call__(self, xt: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        """Predict at x_t, (B, ...), and t, (B,) or ()."""
        self.nfe += 1
        t = t.to(xt.device, torch.promote_types(xt.dtype, torch.float32)).expand(len(xt))
        scale = self.reading.input_scale(self.path, t)
        x = xt if scale is None else (expand(scale, xt) * xt).to(xt.dtype)
        output = self.network(x, self.path.noise_level(t), dict(cond or {}))
        return Prediction(output.to(xt.dtype), self.reading, xt, t, self.path)

    def at(self, times: Tensor) -> X0At:
        """As a call at each time, with the coefficients computed once, in float64."""
        return NetworkAt(self, times.detach().cpu().double())


class NetworkAt(X0At):
    """A network at times known beforehand."""

    denoiser: Denoiser

    def __init__(self, denoiser: Denoiser, times: Tensor) -> None:
        super().__init__(denoiser, times)
        path, reading = denoiser.path, denoiser.reading
        self.levels = path.noise_level(times)
        self.p, self.q = (c.tolist() for c in reading.to_x0(path, times))
        scales = reading.input_scale(path, times)
        self.scales = None if scales is None else scales.tolist()
        self.told: list[Tensor] = []

    def _output(self, i: int, xt: Tensor, cond: Condition | None) -> Tensor:
        if not self.told or len(self.told[i]) != len(xt):  # once a run
            dtype = torch.promote_types(xt.dtype, torch.float32)
            rows = self.levels.to(xt.device, dtype)[:, None].expand(-1, len(xt))
            self.told = list(rows.unbind())
        self.denoiser.nfe += 1
        x = xt if self.scales is None else xt * self.scales[i]
        return self.denoiser.network(x, self.told[i], cond or {}).to(xt.dtype)

    def __call__(self, i: int, xt: Tensor, cond: Condition | None = None) -> Tensor:
        output = self._output(i, xt, cond)
        if self.p[i] == 0 and self.q[i] == 1:
            return output
        return combine(self.p[i], xt, self.q[i], output)

    def mix(self, i: int, xt: Tensor, a: float, b: float, cond: Condition | None = None) -> Tensor:
        # x0 itself is never formed: two passes over memory instead of four
        return combine(a + b * self.p[i], xt, b * self.q[i], self._output(i, xt, cond))


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
        """As a call at each time, with the coefficients computed once, in float64."""
        return MovedAt(self, times.detach().cpu().double())


class MovedAt(X0At):
    """A denoiser read along another path, at times known beforehand."""

    def __init__(self, moved: Moved, times: Tensor) -> None:
        super().__init__(moved, times)
        there, scales = carry(times, moved.path, moved.denoiser.path)
        self.inner, self.scales = x0_at(moved.denoiser, there), scales.tolist()

    def __call__(self, i: int, xt: Tensor, cond: Condition | None = None) -> Tensor:
        return self.inner(i, xt * self.scales[i], cond)

    def mix(self, i: int, xt: Tensor, a: float, b: float, cond: Condition | None = None) -> Tensor:
        return self.inner.mix(i, xt * self.scales[i], a / self.scales[i], b, cond)


def along(denoiser: DenoiserLike, path: Path) -> DenoiserLike:
    """The denoiser as one of ``path``: itself if it is."""
    return denoiser if denoiser.path == path else Moved(denoiser, path)


def alike(one: Denoiser, other: Denoiser) -> bool:
    """Whether the same weights are the same function in both, at equal signal-to-noise ratio."""
    log_snr = torch.tensor([-4.0, 0.0, 4.0], dtype=torch.float64)
    terms = []
    for denoiser in (one, other):
        path, reading = denoiser.path, denoiser.reading
        t = path.inverse_log_snr(log_snr)
        scale = reading.input_scale(path, t)
        terms.append(path.size(t) if scale is None else path.size(t) * scale)
        if reading.kind == "velocity":  # of the kinds only it depends on the path
            terms.append(reading.gain(path, t))
    if one.reading.kind != other.reading.kind:
        return False
    mine, theirs = torch.cat(terms).chunk(2)
    return torch.allclose(mine, theirs, rtol=1e-3)


def combine(a: float, x: Tensor, b: float, y: Tensor) -> Tensor:
    """``a x + b y`` in two passes over memory."""
    return (x * a).add_(y, alpha=b)


def network_of(module: Any) -> nn.Module:
    """The network of a denoiser; a network itself as it is."""
    return getattr(module, "network", module)

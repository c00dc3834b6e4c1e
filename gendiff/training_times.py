"""How training draws its times.

Times lie in (0, t_max]: some predictions are infinite at t = 0 itself. Those drawn by importance
come with weights that undo what they favour.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gendiff.paths import Path
from gendiff.seeding import Draws

TimesKind = Literal[
    "uniform", "antithetic", "log_snr", "log_normal", "logit_normal", "u_shaped", "importance"
]
MEANS = {"log_normal": (-1.2, 1.2), "logit_normal": (0.0, 1.0)}
"""Mean and standard deviation of the published choices: EDM's, Stable Diffusion 3's."""
FIRST = 1e-5
"""Share of the path's range at which times begin."""
U_STEEPNESS = 4.0
"""Of u_shaped times: the published a."""


def draw_times(
    kind: TimesKind, path: Path, draw: Draws, mean: float = 0.0, std: float = 1.0
) -> Tensor:
    """Times of a batch, (B,) float32.

    Args:
        kind: ``uniform``; ``antithetic``: in pairs u, 1 - u over the global batch (DDIM's and
            TDPM's code); ``log_snr``: uniform in log-SNR; ``log_normal``: ln(sigma / alpha)
            normal (Karras et al. 2022, Table 1); ``logit_normal``: logit of t / t_max normal
            (Esser et al. 2024, Section 3.1); ``u_shaped``: t / t_max = x with density in
            proportion to e^(a x) + e^(a (1 - x)), a = 4 (Lee et al. 2024, Section 4.1 and code).
        mean, std: of the normal.
    """
    how = "antithetic" if kind == "antithetic" else "normal" if kind in MEANS else "uniform"
    drawn: Tensor = getattr(draw, how)()
    # in float64: PyTorch's sigmoid of float32 depends, in its last bit, on how a batch is split
    x = drawn.double()
    if kind == "log_normal":
        t = _kept(path, path.inverse_log_snr(-2 * (mean + std * x)))
    elif kind == "logit_normal":
        t = _kept(path, path.t_max * (mean + std * x).sigmoid())
    elif kind == "log_snr":
        low, high = path.log_snr_range
        t = _kept(path, path.inverse_log_snr(low + (high - low) * x))
    else:
        t = at_share(path, u_shaped(x) if kind == "u_shaped" else x)
    return t.to(drawn.dtype)


def u_shaped(u: Tensor) -> Tensor:
    """Numbers of the u_shaped density, by inverting its distribution function at u in [0, 1]."""
    x = torch.asinh((2 * u - 1) * math.sinh(U_STEEPNESS / 2)) / U_STEEPNESS
    return (x + 0.5).clamp(0, 1)


def at_share(path: Path, u: Tensor) -> Tensor:
    """The time at a share u in [0, 1] of the path's range; an integer of a discrete chain."""
    if path.steps is not None:
        return (u * path.steps).floor().clamp(max=path.steps - 1) + 1
    return u.clamp(min=FIRST) * path.t_max


def _kept(path: Path, t: Tensor) -> Tensor:
    """Times within the path's range."""
    if path.steps is not None:
        return t.round().clamp(1, path.steps)
    return t.clamp(FIRST * path.t_max, path.t_max)


def own_times(path: Path, draw: Draws) -> Tensor:
    """Times of a batch, (B,), as the path's own way of training draws them."""
    kind: Any = path.training_times
    return draw_times(kind, path, draw, *MEANS.get(kind, (0.0, 1.0)))


def check_even_times(method: str, path: Path) -> None:
    """Refuse a path on which a method cannot train at evenly spaced times.

    Raises:
        ValueError: the message begins with the key.
    """
    if path.grid != "uniform" or path.steps is not None:
        raise ValueError(
            f"name: {method} takes evenly spaced times, which {type(path).__name__} does not offer "
            "its student (its teacher may have any path)"
        )


class LossSecondMoment(nn.Module):
    """Times drawn where losses are large (Nichol & Dhariwal 2021, Section 3.3 and code).

    The range of times is cut into bins; a bin's probability is the root of the mean square of its
    last losses, mixed with a little of the uniform. Until every bin has its full history, times
    are uniform. State is the history: buffers, so a checkpoint holds it.

    Args:
        bins: of equal width in time; on a discrete chain, its steps.
        history: losses kept a bin.
        uniform: share of the uniform distribution.
    """

    losses: Tensor
    counts: Tensor

    def __init__(self, bins: int, history: int = 10, uniform: float = 0.001) -> None:
        super().__init__()
        self.bins, self.history, self.uniform = bins, history, uniform
        self.register_buffer("losses", torch.zeros(bins, history, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(bins, dtype=torch.long))

    def probabilities(self) -> Tensor:
        """Of the bins, (bins,) float64."""
        weights = self.losses.square().mean(1).sqrt()
        drawn = weights / weights.sum() * (1 - self.uniform) + self.uniform / self.bins
        full = (self.counts == self.history).all()
        return torch.where(full, drawn, 1 / self.bins)

    def draw(self, path: Path, draw: Draws) -> tuple[Tensor, Tensor]:
        """Times (B,), and weights (B,) that leave the expected loss as it is."""
        p = self.probabilities()
        edges = p.cumsum(0)
        u = draw.uniform().double() * edges[-1]
        bins = torch.searchsorted(edges, u, right=True).clamp(max=self.bins - 1)
        inside = ((u - (edges - p)[bins]) / p[bins]).clamp(0, 1 - 1e-9)
        t = at_share(path, (bins + inside) / self.bins).float()
        return t, (1 / (self.bins * p[bins])).float()

    def update(self, path: Path, t: Tensor, losses: Tensor) -> None:
        """Add losses, (B,), seen at times t, (B,), in the order of the samples; finite ones."""
        finite = losses.isfinite()
        t, losses = t[finite], losses[finite]
        share = (t - 1) / path.t_max if path.steps is not None else t / path.t_max
        bins = (share.double() * self.bins + 1e-6).long().clamp(max=self.bins - 1)
        # each bin's losses follow one another; those that do not fit push the oldest out
        order = bins.argsort(stable=True)
        bins, added = bins[order], bins.bincount(minlength=self.bins)
        rank = torch.arange(len(bins), device=bins.device) - (added.cumsum(0) - added)[bins]
        pushed = (self.counts + added - self.history).clamp(min=0)
        source = torch.arange(self.history, device=bins.device) + pushed[:, None]
        kept = self.losses.gather(1, source.clamp(max=self.history - 1))
        kept = kept.where(source < self.counts[:, None], 0)
        place = self.counts[bins] + rank - pushed[bins]
        fits = place >= 0
        kept[bins[fits], place[fits]] = losses.double()[order][fits]
        self.losses.copy_(kept)
        self.counts.add_(added).clamp_(max=self.history)

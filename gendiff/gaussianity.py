"""How far from Gaussian noised data are, and the first time at which they are near enough.

Along a unit direction u, x_t is a sum of data and noise: its distribution is the mixture of normals
``N(alpha u.x0, sigma^2)`` over the data, so its distance from a normal needs no drawn noise.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from gendiff.data.base import collate
from gendiff.paths import Path

ROWS = 5000
"""Most rows of the data that are looked at, a fixed random choice."""
PRINCIPAL, RANDOM = 16, 48
"""Directions: the leading principal ones, and uniform ones."""
POINTS = 128
"""Most quantiles that the data's distribution along a direction is kept as."""
GRID = 256
"""Where its distribution function is read."""


class Lines(NamedTuple):
    """Data along L directions, each kept as N quantiles: their means and variances, all (L, N)."""

    points: Tensor
    spread: Tensor


def some_rows(rows: Any) -> Tensor:
    """x0 of at most 5000 rows of a data set, (n, *shape), always the same ones."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:ROWS]
    loader: Any = DataLoader(
        rows,
        batch_sampler=[order.tolist()],
        collate_fn=collate,
        generator=torch.Generator(),  # else the loader draws from the global one
    )
    x0: Tensor = next(iter(loader))["x0"]
    return x0


def look_along(x0: Tensor) -> Lines:
    """Data (n, *shape) along their principal and along random directions, always the same ones."""
    x = x0.detach().cpu().flatten(1).double()
    x, generator = x - x.mean(0), torch.Generator().manual_seed(0)
    draw = lambda count: torch.randn(  # noqa: E731
        x.shape[1], count, generator=generator, dtype=torch.float64
    )
    leading = draw(min(PRINCIPAL, x.shape[1]))
    for _ in range(8):  # subspace iteration: the leading ones need not be exact
        leading = torch.linalg.qr(x.T @ (x @ leading)).Q
    values = (x @ torch.cat([leading, F.normalize(draw(RANDOM), dim=0)], 1)).T.sort().values
    if values.shape[1] <= POINTS:
        return Lines(values, torch.zeros_like(values))
    points = F.adaptive_avg_pool1d(values, POINTS)
    squares = F.adaptive_avg_pool1d(values.square(), POINTS)
    return Lines(points, (squares - points.square()).clamp(min=0))


def non_gaussianity(lines: Lines, path: Path, t: float) -> float:
    """Distance of x_t from a Gaussian, in [0, sqrt(2)]; it falls as t grows.

    The root mean square over directions of the 2-Wasserstein distance between x_t along the
    direction, shifted and scaled to mean 0 and variance 1, and N(0, 1). On a line with distribution
    function F that is ``W^2 = 2 - 2 int phi(Phi^-1(F(y))) dy``: the best plan sorts, and the mean
    product of sorted values is this integral by parts. It falls because noising from s to t shrinks
    what was there and adds a normal to both sides, under which W contracts.

    Two equal points read sqrt(2 - 2 sqrt(2 / pi)) = 0.636 at t = 0, an interval
    sqrt(2 - 2 sqrt(3 / pi)) = 0.214; n rows of a Gaussian, by chance, about 1.3 / sqrt(n).
    """
    time = torch.tensor(t, dtype=torch.float64)
    points = path.alpha(time) * lines.points
    variance = path.alpha(time) ** 2 * lines.spread + path.sigma(time) ** 2
    size = (points.var(1, correction=0) + variance.mean(1)).sqrt().clamp(min=1e-12)[:, None]
    points, std = (points - points.mean(1, keepdim=True)) / size, variance.sqrt() / size
    std = std.clamp(min=1e-4)
    low, high = (points - 7 * std).amin(1), (points + 7 * std).amax(1)
    share = torch.linspace(0, 1, GRID, dtype=torch.float64)
    products = []
    for own, width, first, last in zip(points, std, low, high, strict=True):  # a line at a time
        y = first + (last - first) * share
        below = torch.special.ndtr((y[:, None] - own) / width).mean(1)
        z = torch.special.ndtri(below.clamp(1e-300, 1 - 1e-16))
        density = (-z.square() / 2).exp() / math.sqrt(2 * math.pi)
        products.append(torch.trapezoid(density, y))
    return float((2 - 2 * torch.stack(products)).clamp(min=0).mean().sqrt())


def first_gaussian_time(x0: Tensor, path: Path, within: float) -> float:
    """The smallest time at which noised data are within a distance of a Gaussian.

    Looked for by halving from the path's ``t_min`` up, and rounded up: to a step of a chain, else
    to three digits. Decided by the data, (n, *shape), alone.

    Raises:
        ValueError: they are farther at every time.
    """
    lines = look_along(x0)
    last = non_gaussianity(lines, path, path.t_max)
    if last > within:
        raise ValueError(f"{within:g}; even at the path's end the distance is {last:.2g}")
    noisy, clean = path.log_snr_range
    if non_gaussianity(lines, path, path.t_min) <= within:
        noisy = clean
    for _ in range(16):
        middle = (noisy + clean) / 2
        near = non_gaussianity(lines, path, time_at(path, middle)) <= within
        noisy, clean = (middle, clean) if near else (noisy, middle)
    t = time_at(path, noisy)
    digit = 1.0 if path.steps is not None else 10.0 ** (math.floor(math.log10(t)) - 2)
    return min(round(math.ceil(t / digit - 1e-9) * digit, 12), path.t_max)


def time_at(path: Path, log_snr: float) -> float:
    """The time of a log-SNR."""
    return float(path.inverse_log_snr(torch.tensor(log_snr, dtype=torch.float64)))

"""Isotropic Gaussian mixtures, exact on every Gaussian path.

For x_t = a x0 + s eps, component k is N(a mu_k, v_k I) with v_k = a^2 std_k^2 + s^2, so density,
score, posterior mean and sampling are closed forms.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

from gendiff.denoiser import Condition
from gendiff.paths import Path, expand
from gendiff.predictions import Prediction


class GaussianMixture:
    """A mixture of K isotropic Gaussians in d dimensions.

    Where a method takes a path and a time t, (B,) or (), it speaks of x_t on that path; without t
    of the data. float64 in gives float64 out, accurate for sigma from 1e-4 to 100.

    Args:
        weights: (K,), positive, scaled to sum 1.
        means: (K, d).
        stds: (K,).

    Raises:
        ValueError: the sizes do not agree, or a weight or std is not positive.
    """

    def __init__(
        self,
        weights: Sequence[float] | Tensor,
        means: Sequence[Sequence[float]] | Tensor,
        stds: Sequence[float] | Tensor,
    ) -> None:
        as64 = lambda value: torch.as_tensor(value, dtype=torch.float64)  # noqa: E731
        self.weights, self.means, self.stds = as64(weights), as64(means), as64(stds)
        if self.means.ndim != 2 or not len(self.weights) == len(self.means) == len(self.stds):
            raise ValueError(
                f"weights {tuple(self.weights.shape)}, means {tuple(self.means.shape)} and stds "
                f"{tuple(self.stds.shape)} must be (K,), (K, d) and (K,)"
            )
        if not ((self.weights > 0).all() and (self.stds > 0).all()):
            raise ValueError("weights and stds must be positive")
        self.weights = self.weights / self.weights.sum()

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        path: Path | None = None,
        t: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """n points (n, d) and their components (n,); of the data in float32, of x_t as t is.

        Args:
            t: (n,) or (). The x_t are the data of the same generator state, noised.

        Raises:
            ValueError: a time without a path.
        """
        label = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        draw = lambda: torch.randn(  # noqa: E731
            n, self.means.shape[1], generator=generator, dtype=torch.float64
        )
        x0 = self.means[label] + self.stds[label, None] * draw()
        if t is None:
            return x0.float(), label
        xt = _known(path).add_noise(x0, draw(), t.cpu().double())
        return xt.to(t), label.to(t.device)

    def log_density(self, x: Tensor, path: Path | None = None, t: Tensor | None = None) -> Tensor:
        """log p(x), (B,) nats, for x (B, d).

        Raises:
            ValueError: a time without a path.
        """
        return self._log_joint(x, *_scales(x, path, t))[0].logsumexp(1)

    def score(self, x: Tensor, path: Path | None = None, t: Tensor | None = None) -> Tensor:
        """Gradient of `log_density` in x, (B, d), in inverse units of x.

        Raises:
            ValueError: a time without a path.
        """
        # by components, not from the posterior mean: x_t - a x0 cancels where sigma is small
        log, offset, variance = self._log_joint(x, *_scales(x, path, t))
        return -((log.softmax(1) / variance)[..., None] * offset).sum(1)

    def posterior(self, xt: Tensor, path: Path, t: Tensor) -> GaussianMixture:
        """What x0 can have been, given one x_t, (d,), at t, (): again a mixture."""
        xt, a, s = xt.double(), path.alpha(t.double()), path.sigma(t.double())
        log, offset, variance = self._log_joint(xt[None], a, s)
        gain = (a * self.stds**2 / variance[0])[:, None]
        weights = log[0].softmax(0).clamp(min=1e-300)  # some underflow
        return GaussianMixture(
            weights, self.means + gain * offset[0], self.stds * s / variance[0].sqrt()
        )

    def denoiser(self, path: Path) -> ExactDenoiser:
        """The exact posterior mean E[x0 | x_t] on a path."""
        return ExactDenoiser(self, path)

    def flow_map(self, path: Path, x: Tensor, t: Tensor | float, s: Tensor | float) -> Tensor:
        """Where the probability flow takes x, (B, d), from t to s, each (B,) or (); like x.

        Either way in time, to about 1e-9 of the unit size, unless x lies between components to
        that precision. Solved on the CPU in the angle atan2(sigma, alpha), in which every path is
        the quarter turn and nothing is infinite, by SciPy's Runge-Kutta 8(5, 3).
        """
        ends = [torch.as_tensor(time).detach().cpu().double().expand(len(x)) for time in (t, s)]
        first, last = (torch.atan2(path.sigma(end), path.alpha(end)) for end in ends)
        sizes = [path.size(end)[:, None] for end in ends]

        def slope(share: float, flat: NDArray[np.float64]) -> NDArray[np.float64]:
            angle = first + share * (last - first)
            a, s = angle.cos()[:, None], angle.sin()[:, None]
            y = torch.from_numpy(flat).reshape(x.shape)
            log, offset, variance = self._log_joint(y, a, s)
            # of each component: its mean moves, and what is off the mean grows with its spread
            growth = (a * s * (1 - self.stds**2) / variance)[..., None]
            moves = growth * offset - s[..., None] * self.means
            mean = (log.softmax(1)[..., None] * moves).sum(1)
            return ((last - first)[:, None] * mean).flatten().numpy()

        begun = (x.detach().cpu().double() / sizes[0]).flatten().numpy()
        solved = solve_ivp(slope, (0, 1), begun, method="DOP853", rtol=1e-9, atol=1e-9)
        return (torch.from_numpy(solved.y[:, -1].copy()).reshape(x.shape) * sizes[1]).to(x)

    def _log_joint(self, x: Tensor, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log w_k N(x; a mu_k, v_k I), (B, K); the offsets (B, K, d); v_k, (B, K)."""
        weights, means, stds = (p.to(x) for p in (self.weights, self.means, self.stds))
        a, s = a.reshape(-1, 1), s.reshape(-1, 1)
        variance = (a * stds) ** 2 + s**2
        offset = x[:, None] - a[..., None] * means
        d = x.shape[1]
        log = weights.log() - 0.5 * (
            offset.square().sum(-1) / variance + d * (2 * torch.pi * variance).log()
        )
        return log, offset, variance


class ExactDenoiser:
    """The closed-form denoiser of a mixture; float64 in, float64 out.

    Attributes:
        nfe: calls so far.
    """

    def __init__(self, mixture: GaussianMixture, path: Path) -> None:
        self.mixture, self.path, self.nfe = mixture, path, 0

    def __call__(self, xt: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        """Predict x0 at x_t, (B, d), and t, (B,) or ()."""
        self.nfe += 1
        t = t.to(xt).expand(len(xt))
        a, s = self.path.alpha(t), self.path.sigma(t)
        log, offset, variance = self.mixture._log_joint(xt, a, s)
        stds, means = self.mixture.stds.to(xt), self.mixture.means.to(xt)
        gain = expand(a, variance) * stds**2 / variance
        posterior_means = means + gain[..., None] * offset
        x0 = (log.softmax(1)[..., None] * posterior_means).sum(1)
        return Prediction(x0, "x0", xt, t, self.path)


def _known(path: Path | None) -> Path:
    if path is None:
        raise ValueError("a time t needs the path it is on")
    return path


def _scales(x: Tensor, path: Path | None, t: Tensor | None) -> tuple[Tensor, Tensor]:
    """alpha and sigma at t; 1 and 0 without."""
    if t is None:
        return x.new_ones(1), x.new_zeros(1)
    return _known(path).alpha(t), _known(path).sigma(t)

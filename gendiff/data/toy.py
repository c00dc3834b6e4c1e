"""Toy data whose truth is known: isotropic Gaussian mixtures with a closed-form denoiser.

For x_t = a x0 + s eps, component k is N(a mu_k, v_k I) with v_k = a^2 std_k^2 + s^2, so score,
posterior mean and density are exact on every Gaussian path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gendiff.data.base import DataConfig, Rows
from gendiff.denoiser import Condition
from gendiff.paths import Path, expand
from gendiff.predictions import Prediction
from gendiff.seeding import key


class GaussianMixture:
    """A mixture of K isotropic Gaussians in d dimensions.

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
        if (self.weights <= 0).any() or (self.stds <= 0).any():
            raise ValueError("weights and stds must be positive")
        self.weights = self.weights / self.weights.sum()

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """n points (n, d), float32, and their components (n,)."""
        label = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        eps = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64)
        return (self.means[label] + self.stds[label, None] * eps).float(), label

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

    def log_density(self, x: Tensor, path: Path | None = None, t: Tensor | None = None) -> Tensor:
        """log p(x), (B,) nats; of x_t where a path and t, (B,) or (), are given."""
        one, zero = x.new_ones(1), x.new_zeros(1)
        a, s = (path.alpha(t), path.sigma(t)) if path and t is not None else (one, zero)
        return self._log_joint(x, a, s)[0].logsumexp(1)

    def denoiser(self, path: Path) -> ExactDenoiser:
        """The exact posterior mean E[x0 | x_t] on a path."""
        return ExactDenoiser(self, path)


class ExactDenoiser:
    """The closed-form denoiser of a mixture; float64 in, float64 out."""

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


@dataclass(frozen=True)
class MixtureConfig(DataConfig):
    name: str = "mixture"
    weights: list[float] = field(default_factory=lambda: [0.4, 0.35, 0.25])
    means: list[list[float]] = field(
        default_factory=lambda: [[-0.7, -0.4], [0.6, -0.5], [0.1, 0.8]]
    )
    stds: list[float] = field(default_factory=lambda: [0.15, 0.25, 0.10])
    samples: int = 10000
    """Points to train on."""
    held_out: int = 2000
    """Points to measure against."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.means[0]) if self.means else 0,)

    @property
    def classes(self) -> int:
        return len(self.weights)

    def check(self) -> None:
        """
        Raises:
            ValueError: the sizes do not agree; the message says which.
        """
        for name in ("samples", "held_out"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least 1")
        if len({len(mean) for mean in self.means}) != 1:
            raise ValueError("means: must be one or more points of one dimension")
        try:
            GaussianMixture(self.weights, self.means, self.stds)
        except ValueError as error:
            raise ValueError(f"weights: {error}") from None


class Mixture:
    """Points of a Gaussian mixture, labelled by component; its density is known."""

    Config = MixtureConfig

    def __init__(self, config: MixtureConfig) -> None:
        self.mixture = GaussianMixture(config.weights, config.means, config.stds)
        generator = torch.Generator().manual_seed(key("mixture"))
        x0, label = self.mixture.sample(config.samples + config.held_out, generator)
        self.train = Rows(x0=x0[: config.samples], label=label[: config.samples])
        self.held_out = Rows(x0=x0[config.samples :], label=label[config.samples :])

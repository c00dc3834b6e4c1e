"""Truncated diffusion: a generator draws x at the truncation point, diffusion denoises the rest.

Zheng, He, Chen & Zhou, "Truncated Diffusion Probabilistic Models and Diffusion-based Adversarial
Auto-Encoders", ICLR 2023. Two ways to draw x at the truncation point t_K:

- ``truncated`` (TDPM, their implicit generator): the denoiser itself, called once on pure noise.
- ``truncated_plus`` (TDPM+): a network of its own.

What differs from the authors' code. Theirs trains the generator on index K (from 0) and the
denoiser on 0 to K - 1, so a sample enters one noise level too noisy; here both reach t_K. Theirs
takes the network's raw output at index K for the generator's sample, where the same input would
also have to be denoised; here it is the network's own step from t_max to t_K, which a trained
teacher begins as a DDIM step. They step generator and denoiser in turn with two optimizers on the
same weights; here it is the paper's joint objective, ``L_simple + gan_weight L_GAN``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from gendiff.denoiser import Condition, Denoiser
from gendiff.errors import UserError, check_count
from gendiff.gaussianity import first_gaussian_time, some_rows
from gendiff.loss_weights import mean_square
from gendiff.methods.adversarial import MOST_LATENT, Adversarial, AdversarialConfig
from gendiff.methods.base import Batch
from gendiff.papers import Paper, cites
from gendiff.paths import Path, expand
from gendiff.samplers.steps import Noise
from gendiff.training_times import at_share


@dataclass(frozen=True)
class TruncatedConfig(AdversarialConfig):
    name: str = "truncated"
    truncation: float | None = None
    """Time t_K where diffusion ends, in the path's own range; 0 is a plain GAN, t_max diffusion.
    None takes the first time at which the noised data are Gaussian enough."""
    gaussian_within: float = 0.05
    """How far from a Gaussian they may be then, between 0 and 1 (see `gendiff.gaussianity`)."""
    gan_weight: float = 1.0
    """Weight lambda of the generator's loss beside the denoising loss."""
    r1_gamma: float = 0.05
    """Weight gamma of (gamma / 2) |dD/dx|^2 at real samples."""
    penalty_every: int = 16
    """Batches between penalties."""


@dataclass(frozen=True)
class TruncatedPlusConfig(TruncatedConfig):
    name: str = "truncated_plus"
    latent: int = 0
    """Size of z, for a generator with the condition ``z``; 0 for one that reads the noise as x."""


TDPM = Paper(
    "Huangjie Zheng, Pengcheng He, Weizhu Chen, Mingyuan Zhou",
    "Truncated Diffusion Probabilistic Models and Diffusion-based Adversarial Auto-Encoders",
    "ICLR",
    2023,
)


@cites(TDPM)
class Truncated(Adversarial):
    """Truncated diffusion (TDPM), its denoiser being the generator as well."""

    Config = TruncatedConfig
    version = 2
    roles: ClassVar[tuple[str, ...]] = ("student", "critic")
    student: Denoiser

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        if config.truncation is None:
            raise UserError("method.truncation: still open; Truncated.settle asks the data.")
        super().__init__(config, *args, **kwargs)

    @classmethod
    def wrap(cls, role: str, network: Any, path: Path, config: Any) -> Any:
        return super().wrap(role, network, path, config) if role in ("student", "ema") else network

    @classmethod
    def channels(cls, role: str, shape: Sequence[int], config: Any) -> tuple[int, int]:
        return (shape[0], 1) if role == "critic" else (shape[0], shape[0])

    @classmethod
    def teaches(cls, role: str) -> bool:
        return False  # beyond the truncation point it has not learned to denoise

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        t, within = config.truncation, config.gaussian_within
        if not 0 < within < 1:
            raise ValueError(f"gaussian_within: {within:g} must be between 0 and 1")
        whole = path.steps is None or t is None or float(t).is_integer()
        if t is not None and not (0 <= t <= path.t_max and whole):
            kind = "a number" if path.steps is None else "an integer"
            raise ValueError(f"truncation: {t:g} must be {kind} from 0 to {path.t_max:g}")
        if not 0 < config.gan_weight < float("inf"):
            raise ValueError(f"gan_weight: {config.gan_weight} must be positive and finite")

    @classmethod
    def settle(cls, config: Any, path: Path, rows: Callable[[], Any]) -> Any:
        if config.truncation is not None:
            return config
        try:
            t = first_gaussian_time(some_rows(rows()), path, config.gaussian_within)
        except ValueError as error:
            raise UserError(f"method.gaussian_within: {error}.") from None
        return replace(config, truncation=t)

    @property
    def plain(self) -> bool:
        """Whether nothing is truncated."""
        return bool(self.config.truncation == self.path.t_max)

    def turns(self, batches_done: int) -> tuple[str, ...]:
        alone = tuple(role for role in self.learning if role == "student")
        return alone if self.plain else super().turns(batches_done)

    # ---- the truncation point --------------------------------------------------------------------

    def cut(self, x: Tensor) -> Tensor:
        """The truncation time, for each of x."""
        return torch.full((len(x),), float(self.config.truncation), device=x.device)

    def propose(self, noise: Tensor, cond: Condition, role: str = "student") -> Tensor:
        """x at the truncation point from standard normal noise, (B, *shape), in one call."""
        path, denoiser = self.path, getattr(self, role)
        t_max = torch.full((len(noise),), path.t_max, device=noise.device)
        guess = denoiser(expand(path.sigma(t_max), noise) * noise, t_max, cond)
        return path.add_noise(guess.x0, guess.eps, self.cut(noise))

    def judge(self, x: Tensor, cond: Batch) -> Tensor:
        """D(x at the truncation point): one logit a sample, (B,)."""
        return self.critic(x, self.path.noise_level(self.cut(x)), cond).flatten(1).mean(1)

    # ---- training --------------------------------------------------------------------------------

    def denoising_loss(self, x0: Tensor, cond: Batch) -> Tensor:
        """L_simple at times up to the truncation point."""
        eps, share = self.draw.normal(*self.shape), self.config.truncation / self.path.t_max
        t = at_share(self.path, share * self.draw.uniform())
        output = self.student(self.path.add_noise(x0, eps, t), t, cond).output
        return mean_square(output - self.student.reading.target(x0, eps, t, self.path)).mean()

    def loss(self, batch: Batch, role: str) -> dict[str, Tensor]:
        x0, cond = batch["x0"], self.condition(batch)
        judge = lambda x: self.judge(x, cond)  # noqa: E731
        if role == "critic":
            real = self.path.add_noise(x0, self.draw.normal(*self.shape), self.cut(x0))
            with torch.no_grad():
                fake = self.propose(self.draw.normal(*self.shape), cond)
            return self.critic_loss(judge, real, fake)
        parts = {}
        if role == "student" and self.config.truncation:
            parts["simple"] = self.denoising_loss(x0, cond)
        if self.proposes(role):
            fake = self.propose(self.draw.normal(*self.shape), cond)
            parts["gan"] = self.config.gan_weight * self.generator_loss(judge, fake)
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def proposes(self, role: str) -> bool:
        """Whether a role's network is the generator."""
        return not self.plain

    # ---- sampling --------------------------------------------------------------------------------

    def start(self, n: int, cond: Condition, noise: Noise, role: str) -> tuple[Tensor, float]:
        if self.plain:
            return super().start(n, cond, noise, role)
        return self.propose(noise(-1), cond, role), float(self.config.truncation)

    @torch.no_grad()
    def reconstruct(
        self, x0: Tensor, steps: int, cond: Condition | None = None, role: str = "ema"
    ) -> Tensor:
        """Data diffused to the truncation point and denoised again: the paper's auto-encoder.

        Encoding is the noise of one fixed draw, decoding the default sampler.

        Args:
            x0: (B, *shape).
            steps: of the sampler.
        """
        eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)).to(x0)
        xt, t = self.path.add_noise(x0, eps, self.cut(x0)), float(self.config.truncation)
        sampling = self.sampling(self.config, self.path, None, steps)
        return sampling.run(getattr(self, role), xt, steps, cond or {}, None, t) if t else xt


class TruncatedPlus(Truncated):
    """Truncated diffusion with a generator of its own (TDPM+)."""

    Config = TruncatedPlusConfig
    roles = ("student", "generator", "critic")
    averages = {"ema": "student", "generator_ema": "generator"}
    companions = {"ema": "generator_ema", "student": "generator"}

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        check_count("latent", config.latent, 0, MOST_LATENT)

    @classmethod
    def tells(cls, role: str, config: Any) -> dict[str, int]:
        return {"z": config.latent} if role == "generator" and config.latent else {}

    def turns(self, batches_done: int) -> tuple[str, ...]:
        turns = super().turns(batches_done)
        return turns if self.config.truncation else tuple(r for r in turns if r != "student")

    def propose(self, noise: Tensor, cond: Condition, role: str = "student") -> Tensor:
        """x at the truncation point: of the generator that goes with a denoiser's role."""
        level = torch.ones(len(noise), device=noise.device)
        z = {"z": noise.flatten(1)[:, : self.config.latent]} if self.config.latent else {}
        getattr(self, role).nfe += 1
        return getattr(self, self.companions[role])(noise, level, {**z, **cond})

    def proposes(self, role: str) -> bool:
        return role == "generator"

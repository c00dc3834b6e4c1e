"""Denoising diffusion GAN: a few large denoising steps, each a conditional GAN.

Xiao, Kreis & Vahdat, "Tackling the Generative Learning Trilemma with Denoising Diffusion GANs",
ICLR 2022. Their steps 1..T are our times k t_max / T; their path is VP with beta from 0.1 to 20.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gendiff.denoiser import Denoiser
from gendiff.methods.adversarial import Adversarial, AdversarialConfig
from gendiff.methods.base import Batch
from gendiff.paths import Path, expand
from gendiff.predictions import Kind


@dataclass(frozen=True)
class DenoisingGANConfig(AdversarialConfig):
    name: str = "denoising_gan"
    prediction: Kind = "x0"
    steps: int = 4
    """Denoising steps T, in training and in sampling."""
    latent: int = 16
    """Size of z, the generator's latent; its network takes the condition ``z`` of this size."""
    r1_gamma: float = 0.05
    """Weight gamma of (gamma / 2) |dD/dx_s|^2 at real pairs: the slope in x_t is not penalised."""
    penalty_every: int = 10
    """Batches between penalties."""


class Generator(Denoiser):
    """G(x_t, z, t): predicts x0 from x_t and the condition ``z``, (B, latent)."""

    def __init__(self, network: nn.Module, path: Path, latent: int) -> None:
        super().__init__(network, path, "x0")
        self.latent = latent


class DenoisingGAN(Adversarial):
    """Denoising diffusion GAN: multimodal denoising in a few large steps."""

    Config = DenoisingGANConfig
    roles = ("critic", "generator")
    averages = {"generator_ema": "generator"}
    samplers = ("posterior",)
    even_times = True
    speaker = "generator_ema"
    generator: Generator

    @classmethod
    def wrap(cls, role: str, network: nn.Module, path: Path, config: Any) -> Any:
        return network if role == "critic" else Generator(network, path, config.latent)

    @classmethod
    def channels(cls, role: str, shape: Sequence[int], config: Any) -> tuple[int, int]:
        return (2 * shape[0], 1) if role == "critic" else (shape[0], shape[0])

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        if config.prediction != "x0":
            raise ValueError(f"prediction: {config.prediction}; the generator predicts x0")
        for name in ("steps", "latent"):
            if getattr(config, name) < 1:
                raise ValueError(f"{name}: {getattr(config, name)} must be at least 1")

    @classmethod
    def check_networks(cls, config: Any, networks: Mapping[str, Any]) -> None:
        size = networks["generator"].conditions.get("z")
        if size != config.latent:
            raise ValueError(
                f"generator.conditions.z: {size}, but method.latent is {config.latent}"
            )

    @classmethod
    def steps_range(cls, config: Any) -> tuple[int, int]:
        return config.steps, config.steps

    def judge(self, xs: Tensor, xt: Tensor, t: Tensor, cond: Batch) -> Tensor:
        """D(x_s, x_t, t): one logit a sample, (B,)."""
        level = self.path.noise_level(t)
        return self.critic(torch.cat([xs, xt], 1), level, cond).flatten(1).mean(1)

    def imagine(self, xt: Tensor, s: Tensor, t: Tensor, cond: Batch) -> Tensor:
        """x_s drawn from q(x_s | x_t, x0 = G(x_t, z, t)) (Eq. 6)."""
        z = self.draw.normal(self.config.latent)
        x0 = self.generator(xt, t, {**cond, "z": z}).x0
        weight_x0, weight_xt, variance = (expand(c, xt) for c in self.path.posterior(s, t))
        return weight_x0 * x0 + weight_xt * xt + variance.sqrt() * self.draw.normal(*self.shape)

    def loss(self, batch: Batch, role: str) -> dict[str, Tensor]:
        x0, path, steps = batch["x0"], self.path, self.config.steps
        cond = self.condition(batch)
        k = self.draw.integers(1, steps + 1)
        t, s = path.t_max * k / steps, path.t_max * (k - 1) / steps
        xs = path.add_noise(x0, self.draw.normal(*self.shape), s)
        scale, variance = (expand(c, xs) for c in path.transition(s, t))
        xt = scale * xs + variance.sqrt() * self.draw.normal(*self.shape)
        judge = lambda x: self.judge(x, xt, t, cond)  # noqa: E731
        if role == "generator":
            return {"loss": self.generator_loss(judge, self.imagine(xt, s, t, cond))}
        with torch.no_grad():
            fake = self.imagine(xt, s, t, cond)
        return self.critic_loss(judge, xs, fake)

"""Denoising diffusion GAN: a few large denoising steps, each a conditional GAN.

Xiao, Kreis & Vahdat, "Tackling the Generative Learning Trilemma with Denoising Diffusion GANs",
ICLR 2022. Their steps 1..T are our times k t_max / T; their path is VP with beta from 0.1 to 20.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gendiff.denoiser import Denoiser
from gendiff.errors import check_count
from gendiff.methods.adversarial import MOST_LATENT, Adversarial, AdversarialConfig
from gendiff.methods.base import Batch
from gendiff.papers import DDGAN, cites
from gendiff.paths import Path, expand
from gendiff.predictions import Kind, Prediction
from gendiff.samplers import MOST_STEPS


@dataclass(frozen=True)
class DenoisingGANConfig(AdversarialConfig):
    name: str = "denoising_gan"
    prediction: Kind = "x0"
    """What the generator's output means; the paper's is x0, and eps an ablation."""
    steps: int = 4
    """Denoising steps T, in training and in sampling."""
    latent: int = 16
    """Size of z, the generator's latent, a condition of its network; 0 for none, an ablation."""
    direct: bool = False
    """Ablation: the output is x_s itself, and nothing is drawn from the posterior."""
    one_shot: bool = False
    """Ablation: a plain GAN from x at t_max to x0, its critic seeing both at the steps' times."""
    r1_gamma: float = 0.05
    """Weight gamma of (gamma / 2) |dD/dx_s|^2 at real pairs: the slope in x_t is not penalised."""
    penalty_every: int = 10
    """Batches between penalties."""


class Generator(Denoiser):
    """G(x_t, z, t): predicts x0 from x_t and the condition ``z``, (B, latent), if there is one."""

    def __init__(self, network: nn.Module, path: Path, config: DenoisingGANConfig) -> None:
        super().__init__(network, path, config.prediction)
        self.latent, self.direct = config.latent, config.direct


@cites(DDGAN)
class DenoisingGAN(Adversarial):
    """Denoising diffusion GAN: multimodal denoising in a few large steps."""

    Config = DenoisingGANConfig
    roles = ("critic", "generator")
    averages = {"generator_ema": "generator"}
    samplers = ("posterior",)
    even_times = True
    speaker = "generator_ema"
    version = 2
    generator: Generator

    @classmethod
    def wrap(cls, role: str, network: nn.Module, path: Path, config: Any) -> Any:
        return network if role == "critic" else Generator(network, path, config)

    @classmethod
    def channels(cls, role: str, shape: Sequence[int], config: Any) -> tuple[int, int]:
        judged = 1 if config.one_shot else 2
        return (judged * shape[0], 1) if role == "critic" else (shape[0], shape[0])

    @classmethod
    def tells(cls, role: str, config: Any) -> dict[str, int]:
        return {"z": config.latent} if role == "generator" and config.latent else {}

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        if config.prediction != "x0" and (config.direct or config.one_shot):
            raise ValueError(f"prediction: {config.prediction}; such a generator predicts x0")
        if config.direct and config.one_shot:
            raise ValueError("direct: one_shot has no x_s to put out; choose one of them")
        check_count("steps", config.steps, 1, MOST_STEPS)
        check_count("latent", config.latent, 0, MOST_LATENT)

    @classmethod
    def steps_range(cls, config: Any) -> tuple[int, int]:
        steps = 1 if config.one_shot else config.steps
        return steps, steps

    def judge(self, x: Tensor, t: Tensor, cond: Batch) -> Tensor:
        """D(x_s, x_t, t), or D(x_s, s) of a one-shot generator: one logit a sample, (B,)."""
        return self.critic(x, self.path.noise_level(t), cond).flatten(1).mean(1)

    def generate(self, xt: Tensor, t: Tensor, cond: Batch) -> Prediction:
        """G(x_t, z, t) with a fresh z."""
        latent = self.config.latent
        z = {"z": self.draw.normal(latent)} if latent else {}
        return self.generator(xt, t, {**cond, **z})

    def imagine(self, xt: Tensor, s: Tensor, t: Tensor, cond: Batch) -> Tensor:
        """x_s drawn from q(x_s | x_t, x0 = G(x_t, z, t)) (Eq. 6)."""
        made = self.generate(xt, t, cond)
        if self.config.direct:
            return made.output
        weight_x0, weight_xt, variance = (expand(c, xt) for c in self.path.posterior(s, t))
        mean = weight_x0 * made.x0 + weight_xt * xt
        return mean + variance.sqrt() * self.draw.normal(*self.shape)

    def imagine_at_once(self, s: Tensor, cond: Batch) -> Tensor:
        """x_s of an x0 drawn in one call."""
        start, noise = self.draw.normal(*self.shape), self.draw.normal(*self.shape)
        t_max = torch.full_like(s, self.path.t_max)
        x0 = self.generate(expand(self.path.sigma(t_max), start) * start, t_max, cond).x0
        return self.path.add_noise(x0, noise, s)

    def loss(self, batch: Batch, role: str) -> dict[str, Tensor]:
        x0, path, steps = batch["x0"], self.path, self.config.steps
        cond = self.condition(batch)
        k = self.draw.integers(1, steps + 1)
        t, s = path.t_max * k / steps, path.t_max * (k - 1) / steps
        xs = path.add_noise(x0, self.draw.normal(*self.shape), s)
        if self.config.one_shot:
            judge = lambda x: self.judge(x, s, cond)  # noqa: E731
            imagine = lambda: self.imagine_at_once(s, cond)  # noqa: E731
        else:
            scale, variance = (expand(c, xs) for c in path.transition(s, t))
            xt = scale * xs + variance.sqrt() * self.draw.normal(*self.shape)
            judge = lambda x: self.judge(torch.cat([x, xt], 1), t, cond)  # noqa: E731
            imagine = lambda: self.imagine(xt, s, t, cond)  # noqa: E731
        if role == "generator":
            return {"loss": self.generator_loss(judge, imagine())}
        with torch.no_grad():
            fake = imagine()
        return self.critic_loss(judge, xs, fake)

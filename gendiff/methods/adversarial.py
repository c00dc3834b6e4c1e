"""What methods with a critic share: the game, and the penalties that keep the critic smooth."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gendiff.adversarial import GAMES, Judge, Objective, control, gradient_penalty, slopes
from gendiff.methods.base import Method, MethodConfig
from gendiff.paths import Path

MOST_LATENT = 10**5
"""Of the sizes of z."""


@dataclass(frozen=True)
class AdversarialConfig(MethodConfig):
    objective: Objective = "non_saturating"
    """What critic and generator play for."""
    critic_batches: int = 1
    """Batches of the critic for each one of the other roles: n_critic of Wasserstein GANs. Those
    between are the critic's alone."""
    r1_gamma: float = 0.0
    """Weight gamma of (gamma / 2) |dD/dx|^2 at real samples."""
    r2_gamma: float = 0.0
    """The same at generated samples."""
    gradient_penalty: float = 0.0
    """Weight of (|dD/dx| - 1)^2 between real and generated samples."""
    penalty_every: int = 1
    """Batches between these penalties."""
    penalty_rescaled: bool = False
    """Multiply them by penalty_every, as StyleGAN2 does; the codes of DDGAN and TDPM do not."""
    control: float = 0.0
    """Weight of half the squared logits, in every batch."""
    clip_critic: float = 0.0
    """Largest size of a critic's weight, as in the first Wasserstein GAN; 0 for any."""


class Adversarial(Method):
    """Base of methods with a critic."""

    Config = AdversarialConfig
    critic: nn.Module

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        weights = ("r1_gamma", "r2_gamma", "gradient_penalty", "control", "clip_critic")
        for key in weights:
            if not 0 <= getattr(config, key) < float("inf"):
                raise ValueError(f"{key}: {getattr(config, key)} must be at least 0 and finite")
        for key in ("penalty_every", "critic_batches"):
            if getattr(config, key) < 1:
                raise ValueError(f"{key}: {getattr(config, key)} must be at least 1")

    def turns(self, batches_done: int) -> tuple[str, ...]:
        alone = (batches_done + 1) % self.config.critic_batches
        return ("critic",) if alone else super().turns(batches_done)

    def critic_loss(self, judge: Judge, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """The critic's loss, with its parts on real and on generated samples.

        Batches with a penalty are computed without autocast: a gradient in bfloat16 has lost what
        the penalty is about.
        """
        config, game = self.config, GAMES[self.config.objective]
        due = self.batches_done % config.penalty_every == 0
        weights = [config.r1_gamma, config.r2_gamma, config.gradient_penalty]
        r1, r2, between = weights if due else (0.0, 0.0, 0.0)
        fake = fake.to(real.dtype)  # a generator's output under autocast is not
        real, fake = real.detach().requires_grad_(r1 > 0), fake.detach().requires_grad_(r2 > 0)
        exact = torch.autocast(real.device.type, enabled=False)
        with exact if r1 or r2 or between else nullcontext():
            on_real, on_fake = judge(real), judge(fake)
            parts = {"real": game.real(on_real).mean(), "fake": game.fake(on_fake).mean()}
            loss = parts["real"] + parts["fake"]
            scale = config.penalty_every if config.penalty_rescaled else 1
            if r1:
                loss = loss + scale * r1 / 2 * slopes(on_real, real).mean()
            if r2:
                loss = loss + scale * r2 / 2 * slopes(on_fake, fake).mean()
            if between:
                share = self.draw.uniform()
                loss = loss + scale * between * gradient_penalty(judge, real, fake, share)
            if config.control:
                loss = loss + config.control * control(on_real, on_fake)
        return {"loss": loss, **parts}

    def generator_loss(self, judge: Judge, fake: Tensor) -> Tensor:
        """The generator's loss on samples that carry its gradient."""
        return GAMES[self.config.objective].generator(judge(fake)).mean()

    def after_update(self, role: str) -> None:
        super().after_update(role)
        limit = self.config.clip_critic
        if role == "critic" and limit:
            with torch.no_grad():
                for weight in self.networks["critic"].parameters():
                    weight.clamp_(-limit, limit)

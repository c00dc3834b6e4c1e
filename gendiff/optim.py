"""Optimizers and learning rates: the rate is a function of the step, with no state to save."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from torch.nn import Parameter
from torch.optim import Adam, AdamW, Optimizer, RAdam


@dataclass(frozen=True)
class OptimConfig:
    name: Literal["adam", "adamw", "radam"] = "adamw"
    lr: float = 1e-3
    """Peak learning rate."""
    lr_by_role: dict[str, float] = field(default_factory=dict)
    """Peak learning rates of roles that need their own."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    weight_decay: float = 0.0
    warmup_steps: int = 0
    """Global batches over which the rate rises linearly from 0."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """How the rate falls from the end of the warm-up to 0 at the last step."""
    clip_norm: float = 1.0
    """Largest gradient norm of a role; 0 turns clipping off."""
    ema_decay: float = 0.999
    """Weight of the past in the averages, per global batch, once warmed up."""

    def check(self) -> None:
        """
        Raises:
            ValueError: a value is outside its range; the message begins with the key.
        """
        for name, lr in {"lr": self.lr, **self.lr_by_role}.items():
            if not 0 < lr < math.inf:
                key = name if name == "lr" else f"lr_by_role.{name}"
                raise ValueError(f"{key}: {lr} must be above 0 and finite")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: {self.betas} must be two numbers in [0, 1)")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay: {self.ema_decay} must be in [0, 1)")
        for name in ("weight_decay", "warmup_steps", "clip_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} must not be negative")


def make_optimizer(config: OptimConfig, parameters: Iterable[Parameter]) -> Optimizer:
    """The fused optimizer; its rate is set before every step by `set_lr`."""
    beta1, beta2 = config.betas
    wd = config.weight_decay
    if config.name == "radam":  # torch has no fused RAdam
        return RAdam(parameters, config.lr, (beta1, beta2), weight_decay=wd, foreach=True)
    kind = Adam if config.name == "adam" else AdamW
    return kind(parameters, config.lr, (beta1, beta2), weight_decay=wd, fused=True)


def lr_factor(config: OptimConfig, step: int, max_steps: int) -> float:
    """Share of the peak learning rate at a step, in (0, 1]; it would be 0 after the last."""
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    left = max(1, max_steps - config.warmup_steps)
    progress = min(1.0, (step - config.warmup_steps) / left)
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - progress if config.schedule == "linear" else 1.0


def set_lr(optimizer: Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr

"""An evaluator: a small ensemble of classifiers whose features a Fréchet distance is taken in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gendiff.methods.base import Batch, Method
from gendiff.paths import Path


@dataclass(frozen=True)
class ClassifierConfig:
    name: str = "classifier"
    label_smoothing: float = 0.0
    """Probability mass spread over the wrong classes."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise added to the images in training."""


class ClassifierMethod(Method):
    """Classifier: trains the data's evaluator; it cannot be sampled."""

    Config = ClassifierConfig
    samplers = ()
    extracts = True
    student: nn.Module

    @classmethod
    def wrap(cls, role: str, network: nn.Module, path: Path, config: Any) -> Any:
        return network

    @classmethod
    def channels(cls, role: str, shape: Sequence[int], config: Any) -> tuple[int, int]:
        return shape[0], 0

    def loss(self, batch: Batch, role: str) -> dict[str, Tensor]:
        x0 = batch["x0"] + self.config.noise * self.draw.normal(*self.shape)
        logits = self.student(x0)  # (B, members, classes)
        wanted = batch["label"][:, None].expand(logits.shape[:2])
        losses = F.cross_entropy(
            logits.transpose(1, 2),
            wanted,
            reduction="none",
            label_smoothing=self.config.label_smoothing,
        )
        right = (logits.argmax(-1) == wanted).float().mean()
        # summed over members, so that each learns at the rate it would have alone
        return {"loss": losses.mean(0).sum(), "accuracy": right}

    @torch.no_grad()
    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, members, F) and logits (B, members, classes) of the average network."""
        network: Any = self.averaged["ema"]
        return network.features(x), network(x)

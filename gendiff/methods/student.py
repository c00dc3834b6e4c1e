"""What few-step students share: terms beyond a method's own loss, and a guided teacher."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gendiff.denoiser import Condition, Denoiser, DenoiserLike, along, network_of
from gendiff.errors import UserError
from gendiff.guidance import guide
from gendiff.methods.adversarial import Adversarial, AdversarialConfig
from gendiff.methods.base import Batch, Method
from gendiff.paths import Path
from gendiff.training_times import at_share


@dataclass(frozen=True)
class PerceptualConfig:
    """A distance in features between the student's x0 and its goal."""

    weight: float = 0.0
    """Of the distance; 0 for none."""
    extractor: str = ""
    """``timm/NAME``: the network that has these features."""
    weights: str = ""
    """File of its weights."""
    size: int = 224
    """Height and width at which it sees images, px."""


@dataclass(frozen=True)
class StudentConfig(AdversarialConfig):
    adversarial_weight: float = 0.0
    """Weight of a game over the student's x0 with a critic, ``networks.critic``; 0 for none."""
    critic_noise: float = 1.0
    """The critic sees samples noised to random times in this share of the path; 0 for clean."""
    perceptual: PerceptualConfig = PerceptualConfig()


class Student(Method):
    """Base of methods whose student's x0 is to look real.

    A method's own loss leaves the student's x0, and what it is drawn to, in ``shown``.
    """

    Config = StudentConfig
    student: Denoiser
    plain: ClassVar[type[Method]]
    """The method without the terms that its config adds."""
    shown: tuple[Tensor, Tensor]
    """The student's x0 in the loss computed last, with its gradient, and its goal."""

    @classmethod
    def variant(cls, config: Any) -> type[Method]:
        """The method with the terms that the config asks for, and their networks."""
        weights = {Judged: config.adversarial_weight, Compared: config.perceptual.weight}
        asked = tuple(term for term, weight in weights.items() if weight)
        return with_terms(cls, asked) if asked else cls

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        weights = {
            "adversarial_weight": config.adversarial_weight,
            "perceptual.weight": config.perceptual.weight,
        }
        for key, weight in weights.items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"{key}: {weight} must be at least 0 and finite")
        if not 0 <= config.critic_noise <= 1:
            raise ValueError(f"critic_noise: {config.critic_noise} must be in [0, 1]")
        if config.perceptual.size < 1:
            raise ValueError(f"perceptual.size: {config.perceptual.size} must be at least 1")

    def imagine(self, batch: Batch) -> Tensor:
        """The student's x0 on a batch, as its own loss makes it."""
        self.plain.loss(self, batch, "student")
        return self.shown[0]


def with_terms(method: type[Method], terms: tuple[type[Method], ...]) -> type[Method]:
    """A method with terms before it among the bases."""
    roles = (*method.roles, *(("critic",) if Judged in terms else ()))
    return type(method.__name__, (*terms, method), {"plain": method, "roles": roles})


class Compared(Method):
    """A student drawn to its goal in the features of a frozen network as well."""

    shown: Any

    def loss(self, batch: Batch, role: str) -> dict[str, Tensor]:
        losses = super().loss(batch, role)
        if role == "student":
            losses["perceptual"] = self.frozen_roles["perceptual"](*self.shown).mean()
            losses["loss"] = losses["loss"] + self.config.perceptual.weight * losses["perceptual"]
        return losses


class Judged(Adversarial):
    """A student with a critic beside, from which its x0 is to be told from data no more.

    Both are noised alike before they are judged: Wang et al. 2023, "Diffusion-GAN", Eq. 5, as in
    the classifier of Yin et al. 2024, "Improved Distribution Matching Distillation", Section 4.2.
    """

    shown: Any
    imagine: Any
    critic: nn.Module

    @classmethod
    def wrap(cls, role: str, network: nn.Module, path: Path, config: Any) -> Any:
        return network if role == "critic" else super().wrap(role, network, path, config)

    @classmethod
    def channels(cls, role: str, shape: Sequence[int], config: Any) -> tuple[int, int]:
        return (shape[0], 1) if role == "critic" else super().channels(role, shape, config)

    def loss(self, batch: Batch, role: str) -> dict[str, Tensor]:
        if role == "critic":
            with torch.no_grad():
                made = self.imagine(batch)
        else:
            losses = super().loss(batch, role)
            if role != "student":
                return losses
            made = self.shown[0]
        t = at_share(self.path, self.config.critic_noise * self.draw.uniform())
        cond = {"label": batch["label"]} if self.classes else {}
        level = self.path.noise_level(t)
        judge = lambda x: self.critic(x, level, cond).flatten(1).mean(1)  # noqa: E731
        fake = self.path.add_noise(made, self.draw.normal(*self.shape), t)
        if role == "critic":
            real = self.path.add_noise(batch["x0"], self.draw.normal(*self.shape), t)
            return self.critic_loss(judge, real, fake)
        losses["gan"] = self.generator_loss(judge, fake)
        losses["loss"] = losses["loss"] + self.config.adversarial_weight * losses["gan"]
        return losses


@dataclass(frozen=True)
class DistilledConfig(StudentConfig):
    guidance: float = 0.0
    """Guidance weight of the teacher."""
    guidance_max: float | None = None
    """Draws the weight of each sample between ``guidance`` and this, and tells it to the student,
    whose network has ``conditions: {guidance: 1}``: it is sampled with any weight between, in one
    call a step (Meng et al. 2023, "On Distillation of Guided Diffusion Models", Section 3.1)."""


class Distilled(Student):
    """Base of students that learn from a frozen teacher, guided if they like."""

    Config = DistilledConfig
    roles: ClassVar[tuple[str, ...]] = ("student", "teacher")
    frozen = ("teacher",)
    teacher: Denoiser

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        top = config.guidance_max
        if top is not None and not config.guidance < top < math.inf:
            raise ValueError(f"guidance_max: {top} must be above guidance ({config.guidance})")

    @classmethod
    def check_networks(cls, config: Any, networks: Mapping[str, Any]) -> None:
        super().check_networks(config, networks)
        told = "guidance" in networks["student"].conditions
        if told != (config.guidance_max is not None):
            fault = "lacks guidance: 1" if not told else "has guidance"
            raise ValueError(
                f"student.conditions: {fault}; it goes with method.guidance_max, and only with it"
            )

    def condition(self, batch: Batch) -> Batch:
        """The labels, and the guidance weight where the student is told it."""
        cond, low, high = super().condition(batch), self.config.guidance, self.config.guidance_max
        return (
            cond if high is None else {**cond, "guidance": low + (high - low) * self.draw.uniform()}
        )

    def taught(self, cond: Condition) -> DenoiserLike:
        """The teacher along the student's path, guided."""
        teacher, network = along(self.teacher, self.path), network_of(self.teacher)
        told = getattr(getattr(network, "conditioning", None), "conditions", ())
        if "guidance" in told:
            return teacher
        return guide(teacher, cond.get("guidance", self.config.guidance))

    def guided(self, denoiser: DenoiserLike, weight: float, n: int) -> tuple[DenoiserLike, Batch]:
        low, high = self.config.guidance, self.config.guidance_max
        if high is None:
            return super().guided(denoiser, weight, n)
        if not low <= weight <= high:
            raise UserError(f"guidance: {weight:g}; this model was told {low:g} to {high:g}.")
        return denoiser, {"guidance": torch.full((n,), weight, device=self.device)}

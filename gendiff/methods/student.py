"""What few-step students share: terms beyond a method's own loss, and a guided teacher."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gendiff.denoiser import Condition, Denoiser, DenoiserLike, along
from gendiff.errors import UserError, check_count
from gendiff.guidance import guide
from gendiff.methods.adversarial import Adversarial, AdversarialConfig
from gendiff.methods.base import Batch, Method, MethodConfig
from gendiff.paths import Path, expand
from gendiff.training_times import own_times

MOST_PIXELS = 4096


@dataclass(frozen=True)
class PerceptualConfig:
    """A distance in features between the student's x0 and its goal."""

    weight: float = 0.0
    """Of the distance; 0 for none."""
    extractor: str = ""
    """``timm/NAME``: the network that has these features."""
    weights: str = field(default="", metadata={"identity": False})
    """File of its weights; what a stage was trained with is its content, wherever it lies."""
    size: int = 224
    """Height and width at which it sees images, px."""


@dataclass(frozen=True)
class StudentConfig(AdversarialConfig):
    adversarial_weight: float = 0.0
    """Weight of a game over the student's x0 with a critic, ``networks.critic``; 0 for none."""
    critic_noise: float = 1.0
    """The critic sees samples noised to times drawn as in diffusion, times this; 0 for clean."""
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
    labels: Batch
    """The labels that it was told."""

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
        if not config.adversarial_weight:
            for setting in fields(AdversarialConfig)[len(fields(MethodConfig)) :]:
                if getattr(config, setting.name) != setting.default:
                    raise ValueError(f"{setting.name}: needs adversarial_weight, which is 0")
        if not 0 <= config.critic_noise <= 1:
            raise ValueError(f"critic_noise: {config.critic_noise} must be in [0, 1]")
        check_count("perceptual.size", config.perceptual.size, 1, MOST_PIXELS)

    def condition(self, batch: Batch) -> Batch:
        self.labels = super().condition(batch)
        return self.labels

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
    labels: Any
    critic: nn.Module

    @classmethod
    def wrap(cls, role: str, network: nn.Module, path: Path, config: Any) -> Any:
        return network if role == "critic" else super().wrap(role, network, path, config)

    @classmethod
    def channels(cls, role: str, shape: Sequence[int], config: Any) -> tuple[int, int]:
        return (shape[0], 1) if role == "critic" else super().channels(role, shape, config)

    @classmethod
    def tells(cls, role: str, config: Any) -> dict[str, int]:
        return {} if role == "critic" else super().tells(role, config)

    def loss(self, batch: Batch, role: str) -> dict[str, Tensor]:
        if role == "critic":
            with torch.no_grad():
                made = self.imagine(batch)
        else:
            losses = super().loss(batch, role)
            if role != "student":
                return losses
            made = self.shown[0]
        t = self.config.critic_noise * own_times(self.path, self.draw)
        t = t.round() if self.path.steps is not None else t
        level, scale = self.path.noise_level(t), self.path.input_scale(t)
        scale = torch.ones_like(t) if scale is None else scale
        judge = lambda x: (  # noqa: E731
            self.critic(expand(scale, x) * x, level, self.labels).flatten(1).mean(1)
        )
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
    """Draws the weight of each sample between 0 and this instead, and tells it to the student,
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
        if not math.isfinite(config.guidance):
            raise ValueError(f"guidance: {config.guidance} must be finite")
        if top is not None and (config.guidance or not 0 < top < math.inf):
            raise ValueError(f"guidance_max: {top} must be above 0, and stands without guidance")

    @classmethod
    def check_networks(cls, config: Any, networks: Mapping[str, Any]) -> None:
        super().check_networks(config, networks)
        guided = config.guidance or config.guidance_max
        if guided and "label" not in networks["student"].conditions:
            raise ValueError("student.conditions.label: missing; a teacher is guided by it")

    @classmethod
    def tells(cls, role: str, config: Any) -> dict[str, int]:
        return {} if config.guidance_max is None else {"guidance": 1}

    def condition(self, batch: Batch) -> Batch:
        """The labels, and the guidance weight where the student is told it."""
        cond, top = super().condition(batch), self.config.guidance_max
        return cond if top is None else {**cond, "guidance": top * self.draw.uniform()}

    def taught(self, cond: Condition) -> DenoiserLike:
        """The teacher along the student's path, guided."""
        weight = cond.get("guidance", self.config.guidance)
        return along(guide(self.teacher, weight), self.path)

    def guided(self, denoiser: DenoiserLike, weight: float) -> DenoiserLike:
        top = self.config.guidance_max
        if top is not None and not 0 <= weight <= top:
            raise UserError(f"guidance: {weight:g}; this model was told 0 to {top:g}.")
        return super().guided(denoiser, weight)

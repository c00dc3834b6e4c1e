"""A finished stage as a model to sample from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from gendiff.build import build_method, check_file, finished, owner
from gendiff.errors import UserError
from gendiff.methods.base import Method
from gendiff.sections import RunConfig
from gendiff.weights import load_weights


class Model:
    """A finished stage, ready to sample from.

    Attributes:
        run: its config.
        method: the method, with trained weights.
        role: who samples.
        batch: samples drawn at a time.
    """

    def __init__(self, run: RunConfig, method: Method, role: str) -> None:
        self.run, self.method, self.role = run, method, role
        self.batch = run.evaluation.batch_size

    def to(self, device: torch.device | str) -> Model:
        self.method.to(device)
        return self

    @property
    def nfe(self) -> int:
        """Network calls of the role that samples, so far."""
        return int(getattr(self.method, self.role).nfe)

    @property
    def conditional(self) -> bool:
        """Whether the network that samples takes labels."""
        return self.run.conditional

    def labels(self, n: int) -> Tensor | None:
        """The classes spread evenly over n samples, in order, (n,); None without labels."""
        return torch.arange(n) * self.run.data.classes // n if self.conditional else None

    @property
    def default_steps(self) -> int:
        """Steps to sample with when none are named: what the method or its evaluation says."""
        covered = self.run.method_class.steps_range(self.run.method)
        chain = self.method.path.steps or 50
        return covered[1] if covered else max(self.run.evaluation.steps, default=min(50, chain))

    def sample(
        self,
        n: int,
        steps: int,
        *,
        sampler: str | None = None,
        labels: Tensor | None = None,
        guidance: float = 0.0,
        seed: int = 0,
    ) -> Tensor:
        """Draw n samples on the CPU, (n, *shape) float32, images in [-1, 1].

        Args:
            labels: (n,) integers; None spreads the classes evenly, in order.
            guidance: w of ``(1 + w) conditional - w unconditional``.

        Raises:
            UserError: an impossible sampler, number of steps or label.
        """
        labels = self.labels(n) if labels is None else labels
        drawn = self.batches(
            0, n, steps, sampler=sampler, labels=labels, guidance=guidance, seed=seed
        )
        return torch.cat([torch.empty(0, *self.run.data.shape), *(x.cpu() for _, x in drawn)])

    def batches(
        self,
        first: int,
        last: int,
        steps: int,
        *,
        sampler: str | None = None,
        labels: Tensor | None = None,
        guidance: float = 0.0,
        seed: int = 0,
    ) -> Iterator[tuple[int, Tensor]]:
        """Samples ``first`` to ``last`` of a seed, a batch at a time as (its first row, x).

        Sample i is the same whatever the range and the batch.

        Args:
            labels: of these samples, (last - first,).

        Raises:
            UserError: as `sample` does.
        """
        classes = self.run.data.classes if self.conditional else 0
        if guidance and not classes:
            raise UserError("guidance: this model takes no labels, so it cannot be guided.")
        if labels is not None and ((labels < 0) | (labels >= classes)).any():
            allowed = f"labels 0 to {classes - 1}" if classes else "no labels"
            raise UserError(f"label: this model takes {allowed}.")
        image = len(self.run.data.shape) == 3
        for start in range(first, last, self.batch):
            end = min(last, start + self.batch)
            x = self.method.sample(
                end - start,
                steps,
                role=self.role,
                sampler=sampler,
                labels=None if labels is None else labels[start - first : end - first],
                guidance=guidance,
                seed=seed,
                first=start,
            )
            yield start, x.clamp(-1, 1) if image else x


def load(folder: str | Path, role: str | None = None) -> Model:
    """A finished stage as a model to sample from; ``role`` defaults to its average.

    Raises:
        UserError: not a finished stage, damaged, without that role, or not a generative one.
    """
    folder = Path(folder)
    run, done = finished(folder)
    cls = run.method_class
    if not cls.samplers:
        raise UserError(f"{folder}: a {run.method.name} stage cannot be sampled.")
    role = role or cls.speaker
    check_file(folder, f"weights/{role}.safetensors", done)
    base = owner(cls, role)
    if base != owner(cls, cls.speaker):
        raise UserError(f"{folder}: {role!r} cannot be sampled; {cls.speaker!r} can.")
    voices = [role, cls.companions[role]] if role in cls.companions else [role]
    method = build_method(run, roles=[owner(cls, voice) for voice in voices])
    for voice in voices:
        target = method.averaged if voice in cls.averages else method.networks
        load_weights(target[voice], check_file(folder, f"weights/{voice}.safetensors", done))
    return Model(run, method.eval(), role)

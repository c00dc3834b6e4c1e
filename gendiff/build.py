"""From a run's config to networks and methods, and back from a stage folder to a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gendiff import registry
from gendiff.config import RunConfig, compose
from gendiff.errors import UserError, did_you_mean
from gendiff.methods.base import Method
from gendiff.seeding import key
from gendiff.storage import read_json, sha256
from gendiff.weights import load_weights
from gendiff.yaml_files import read_yaml


def build_network(run: RunConfig, role: str) -> nn.Module:
    """A role's network with fresh weights, a function of (seed, role) alone."""
    config = run.networks[role]
    shape, out_channels = run.network_shape(role)
    cls: type[nn.Module] = registry.lookup("networks", config.name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(run.seed, "init", role))
        return cls(config, shape, out_channels)


def build_method(
    run: RunConfig,
    stage: str = "",
    frozen: Mapping[str, Any] | None = None,
    roles: Iterable[str] | None = None,
) -> Method:
    """The method of a run with fresh networks, for all roles that learn or the named ones."""
    wanted = run.networks if roles is None else roles
    return run.method_class(
        run.method,
        {role: build_network(run, role) for role in wanted},
        run.make_path(),
        frozen,
        run.optim,
        shape=run.data.shape,
        classes=run.data.classes,
        max_steps=run.trainer.max_steps,
        seed=run.seed,
        stage=stage,
        accumulate=run.hardware.accumulate,
    )


def read_run(folder: Path) -> RunConfig:
    """The run that a stage folder holds.

    Raises:
        UserError: not a stage folder, or its config is damaged.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"{folder}: not a stage folder (no config.yaml).{_stages_in(folder)}")
    return compose(read_yaml(path), str(path))


def check_done(folder: Path) -> dict[str, Any]:
    """The record of a finished stage.

    Raises:
        UserError: the stage is not finished.
    """
    if not (folder / "done.json").is_file():
        raise UserError(f"{folder}: not a finished stage.{_stages_in(folder)}")
    done = read_json(folder / "done.json")
    if not isinstance(done, dict) or not isinstance(done.get("digests"), dict):
        raise UserError(f"{folder / 'done.json'}: damaged, it holds no digests.")
    return done


def check_file(folder: Path, name: str, done: Mapping[str, Any]) -> Path:
    """A file of a finished stage, its digest checked.

    Raises:
        UserError: the stage has no such file, or it is not what the stage wrote.
    """
    path = folder / name
    if name not in done["digests"]:
        word, known = Path(name).stem, [Path(n).stem for n in done["digests"]]
        raise UserError(f"{folder}: has no {word!r}.{did_you_mean(word, known)}")
    if not path.is_file():
        raise UserError(f"{path}: missing; the stage had written it.")
    if sha256(path) != done["digests"][name]:
        raise UserError(f"{path}: damaged, its digest is not the one recorded in done.json.")
    return path


def finished(folder: Path) -> tuple[RunConfig, dict[str, Any]]:
    """The run and the record of a finished stage, its config checked against its digest.

    Raises:
        UserError: not a finished stage, or one whose config was changed since.
    """
    if (folder / "config.yaml").is_file():  # else read_run says that it is no stage at all
        check_file(folder, "config.yaml", check_done(folder))
    return read_run(folder), check_done(folder)


def owner(method: type[Method], role: str) -> str:
    """The role whose network an average (or a role itself) has."""
    return method.averages.get(role, role)


def load_role(folder: Path, role: str) -> Any:
    """A role of a finished stage as its method wraps it, e.g. a Denoiser; for use as a teacher.

    Raises:
        UserError: the stage is unfinished or damaged, or has no such role.
    """
    run, done = finished(folder)
    path = check_file(folder, f"weights/{role}.safetensors", done)
    network = build_network(run, owner(run.method_class, role))
    load_weights(network, path)
    return run.method_class.wrap(role, network.eval(), run.make_path(), run.method)


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
        network = self.run.networks[owner(type(self.method), self.role)]
        return "label" in getattr(network, "conditions", {})

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
        if labels is None and self.conditional:
            labels = torch.arange(n) * self.run.data.classes // n
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
    path = check_file(folder, f"weights/{role}.safetensors", done)
    base = owner(cls, role)
    if base != owner(cls, cls.speaker):
        raise UserError(f"{folder}: {role!r} cannot be sampled; {cls.speaker!r} can.")
    method = build_method(run, roles=[base])
    target = method.networks if role == base else method.averaged
    load_weights(target[role], path)
    return Model(run, method.eval(), role)


def load_evaluator(folder: Path) -> Any:
    """A finished evaluator stage: a method with ``features(x) -> (features, logits)``."""
    run, done = finished(folder)
    if not run.method_class.extracts:
        raise UserError(f"{folder}: a {run.method.name} stage is no evaluator.")
    method = build_method(run)
    path = check_file(folder, "weights/ema.safetensors", done)
    load_weights(method.averaged["ema"], path)
    return method.eval()


def _stages_in(folder: Path) -> str:
    inside = sorted(p.parent.name for p in folder.glob("*/done.json")) if folder.is_dir() else []
    return f" Finished stages in it: {', '.join(inside)}." if inside else ""

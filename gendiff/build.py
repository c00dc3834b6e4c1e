"""From a run's config to networks and methods, and back from a stage folder to its roles."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gendiff import registry
from gendiff.config import compose
from gendiff.errors import UserError, did_you_mean
from gendiff.methods.base import Method
from gendiff.sections import RunConfig
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


def device_of(run: RunConfig, local: int = 0, needed: bool = True) -> torch.device:
    """The device of this process, the ``local``-th of its node.

    Args:
        needed: whether a GPU that the run asks for must be there; a finished stage does without.

    Raises:
        UserError: there is none, or not one a process.
    """
    asked, there = run.hardware.accelerator, torch.cuda.is_available()
    if asked == "gpu" and needed and not there:
        raise UserError("hardware.accelerator: gpu, but PyTorch finds no GPU here.")
    if asked == "cpu" or not there:
        return torch.device("cpu")
    if local >= torch.cuda.device_count():
        raise UserError(
            f"hardware.devices: process {local + 1} of this node has no GPU; it sees "
            f"{torch.cuda.device_count()}."
        )
    return torch.device("cuda", local)


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
        raise UserError(f"{folder}: not a finished stage (no done.json).{_stages_in(folder)}")
    done = read_json(folder / "done.json")
    digests = done.get("digests") if isinstance(done, dict) else None
    if not isinstance(digests, dict) or not all(isinstance(d, str) for d in digests.values()):
        raise UserError(f"{folder / 'done.json'}: damaged, it holds no digests.")
    return done


def check_file(
    folder: Path, name: str, done: Mapping[str, Any], digest: Callable[[Path], str] = sha256
) -> Path:
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
    if digest(path) != done["digests"][name]:
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


def run_folder_of(folder: Path) -> Path:
    """The run folder of a stage's folder, as that is named: a trial's stages are links."""
    return Path(os.path.abspath(folder)).parent


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


def features_of(run: RunConfig) -> dict[str, Any]:
    """The frozen network that a student's perceptual term asks for, if there is one.

    Raises:
        UserError: its file is damaged or does not fit.
    """
    asked = getattr(run.method, "perceptual", None)
    if not asked or not asked.weight:
        return {}
    from gendiff.extractors.perceptual import Perceptual  # timm takes a while

    return {"perceptual": Perceptual(asked.extractor, asked.weights, asked.size)}


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

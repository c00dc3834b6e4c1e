"""Everything that can be known to be wrong with a run before a tensor exists."""

from __future__ import annotations

import importlib.util
import itertools
import math

from gendiff import registry
from gendiff.errors import UserError, did_you_mean
from gendiff.extractors import check_extractor, check_perceptual
from gendiff.sections import BOUNDS, RunConfig
from gendiff.seeding import block_size


def check(run: RunConfig, where: str) -> None:
    """Everything that can be known to be wrong before a tensor exists.

    Raises:
        UserError: with the key and what would be right.
    """
    method = run.method_class
    learning = [role for role in method.roles if role not in method.frozen]
    for role in run.networks:
        if role not in learning:
            raise UserError(
                f"{where}: networks.{role}: {run.method.name} has no such role to train."
                f"{did_you_mean(role, learning)}"
            )
    for role in learning:
        if role not in run.networks:
            raise UserError(f"{where}: networks.{role}: missing; {run.method.name} trains it.")
    for role in run.optim.lr_by_role:
        if role not in learning:
            raise UserError(
                f"{where}: optim.lr_by_role.{role}: no such role.{did_you_mean(role, learning)}"
            )
    for package, asked in {
        "tensorboard": run.logging.tensorboard,
        "wandb": run.logging.wandb != "off",
    }.items():
        if asked and importlib.util.find_spec(package) is None:
            raise UserError(
                f"{where}: logging.{package}: is not installed; pip install 'gendiff[{package}]'."
            )
    for key, (low, high) in BOUNDS.items():
        section, _, name = key.partition(".")
        value = getattr(getattr(run, section), name)
        for number in value if isinstance(value, list) else [value]:
            if number is not None and not isinstance(number, int | float):
                # OmegaConf lets mappings into lists of numbers
                raise UserError(f"{where}: {key}: must hold integers.")
            if number is not None and not low <= number <= high:
                fault = f"small; at least {low}" if number < low else f"large; at most {high}"
                raise UserError(f"{where}: {key}: {number} is too {fault}.")
    if run.hardware.strategy == "fsdp" and not method.shards:
        able = [n for n in registry.names("methods") if registry.lookup("methods", n).shards]
        raise UserError(
            f"{where}: hardware.strategy: fsdp is for {', '.join(able)}; "
            f"{run.method.name} takes ddp."
        )
    check_ranks(run, run.hardware.devices, where)
    checks = {
        "data": run.data.check,
        "optim": run.optim.check,
        "path": run.make_path,
        "method": lambda: method.check(run.method, run.make_path()),
        "networks": lambda: check_networks(run),
    }
    for role, network in run.networks.items():
        cls, shape = registry.lookup("networks", network.name), run.network_shape(role)[0]
        checks[f"networks.{role}"] = lambda c=cls, n=network, s=shape: c.check(n, s)
        seen = getattr(network, "classes", run.data.classes)
        if seen != run.data.classes:
            raise UserError(
                f"{where}: networks.{role}.classes: {seen}, but {run.data.name} has "
                f"{run.data.classes}."
            )
    for section, verify in checks.items():
        try:
            verify()
        except ValueError as error:
            raise UserError(f"{where}: {section}.{error}.") from None
    check_evaluation(run, where)


def check_ranks(run: RunConfig, processes: int, where: str) -> None:
    """Refuse a global batch that does not split evenly.

    Raises:
        UserError: with the key and what would be right.
    """
    batch, parts = run.data.batch_size, processes * run.hardware.accumulate
    whole = [("blocks", block_size(batch), "")]
    whole += [("groups", getattr(run.method, "mixes", 1), f", which {run.method.name} mixes")]
    for role, network in run.networks.items():
        if hasattr(network, "mixes"):
            whole.append(("groups", network.mixes(batch), f", which the {role} compares"))
    for name, size, why in whole:
        if batch % (parts * size):
            raise UserError(
                f"{where}: data.batch_size: {batch} does not split into {parts} parts (processes "
                f"x hardware.accumulate) of whole {name} of {size}{why}."
            )


def check_networks(run: RunConfig) -> None:
    """Refuse conditions that a network is never told, and networks that lack what it is told.

    Raises:
        ValueError: the message begins with the role and key.
    """
    for role, network in run.networks.items():
        given = getattr(network, "conditions", {})
        told = run.method_class.tells(role, run.method)
        if run.data.classes:
            told = {"label": run.data.classes, **told}
        sizes = ", ".join(f"{name}: {size}" for name, size in told.items()) or "nothing"
        for name in {**given, **told}:
            optional = name == "label" and name not in given
            if given.get(name) != told.get(name) and not optional:
                raise ValueError(
                    f"{role}.conditions.{name}: {given.get(name, 'missing')}; {run.method.name} "
                    f"tells its {role} {sizes}"
                )
    run.method_class.check_networks(run.method, run.networks)


def check_evaluation(run: RunConfig, where: str) -> None:
    """Refuse points that the model could not be sampled at.

    Raises:
        UserError: with the key and what would be right.
    """
    method, asked = run.method_class, run.evaluation
    speakers = [method.speaker, method.averages.get(method.speaker, method.speaker)]
    named = {"roles": speakers, "metrics": registry.names("metrics")}
    for key, allowed in named.items():
        for name in getattr(asked, key):
            if name not in allowed:
                hint = did_you_mean(name, allowed)
                raise UserError(f"{where}: evaluation.{key}: unknown {name!r}.{hint}")
    if asked.weights and (asked.stage or not asked.extractor):
        raise UserError(f"{where}: evaluation.weights: only a pretrained extractor takes them.")
    term = getattr(run.method, "perceptual", None)
    try:
        if asked.extractor and not asked.stage:
            check_extractor(asked.extractor, asked.weights)
        if term and term.weight:
            check_perceptual(term.extractor, term.weights, run.data.shape)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    top = getattr(run.method, "guidance_max", None)
    for weight in asked.guidance:
        if not math.isfinite(weight):
            raise UserError(f"{where}: evaluation.guidance: {weight} must be finite.")
        if top is not None and not 0 <= weight <= top:
            raise UserError(f"{where}: evaluation.guidance: {weight} must be from 0 to {top:g}.")
    covered = method.steps_range(run.method)
    steps = [k for k in asked.steps if not covered or covered[0] <= k <= covered[1]]
    if covered and asked.steps and not steps:
        raise UserError(
            f"{where}: evaluation.steps: {asked.steps}; this {run.method.name} model takes "
            f"{covered[0]} to {covered[1]}."
        )
    samplers = asked.samplers or (method.samplers[:1] if steps else ())
    counts: list[int | None] = [*steps] or [None]
    for text, count in itertools.product(samplers, counts):
        try:
            method.sampling(run.method, run.make_path(), text, count)
        except ValueError as error:
            key = "samplers" if asked.samplers else "steps"
            message = f"{where}: evaluation.{key}: {error}".rstrip(".")
            raise UserError(message if message.endswith("?") else f"{message}.") from None

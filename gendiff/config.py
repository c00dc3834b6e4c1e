"""One training run as a frozen dataclass, composed from YAML and checked before anything starts.

OmegaConf reads, merges and types; nothing in a YAML is imported, called or looked up in the
environment. Beyond this module only frozen dataclasses are seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from omegaconf import ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from gendiff import registry
from gendiff.checks import check
from gendiff.errors import UserError, did_you_mean
from gendiff.optim import OptimConfig
from gendiff.sections import (
    EvaluationConfig,
    HardwareConfig,
    LoggingConfig,
    RunConfig,
    TrainerConfig,
)
from gendiff.yaml_files import merge, one_line

SECTIONS = [f.name for f in dataclasses.fields(RunConfig)]
PLAIN = {
    "optim": OptimConfig,
    "trainer": TrainerConfig,
    "evaluation": EvaluationConfig,
    "hardware": HardwareConfig,
    "logging": LoggingConfig,
}
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
"""What a value of a plain type is called."""
NAMED = {"data": "data", "path": "paths", "method": "methods"}


def compose(raw: Mapping[str, Any], where: str) -> RunConfig:
    """A checked RunConfig from a plain mapping.

    Args:
        where: the file or stage, which begins every message.

    Raises:
        UserError: an unknown key, a wrong type or an impossible choice, with its full key.
    """
    for key in raw:
        if key not in SECTIONS:
            raise UserError(f"{where}: {key}: unknown key.{did_you_mean(str(key), SECTIONS)}")
    raw = {"path": {"name": "cosine"}, "seed": 0, **raw}
    sections: dict[str, Any] = {**PLAIN}
    for section, kind in NAMED.items():
        sections[section] = _named(raw.get(section), kind, f"{where}: {section}")
    networks = raw.get("networks") or {}
    if not isinstance(networks, Mapping):
        raise UserError(f"{where}: networks: must map each role to a network.")
    sections["networks"] = {
        role: _named(value, "networks", f"{where}: networks.{role}")
        for role, value in networks.items()
    }
    schema = OmegaConf.create(sections)
    logging = raw.get("logging")
    if isinstance(logging, Mapping) and logging.get("wandb") is False:  # YAML reads off as false
        raw = merge(raw, {"logging": {"wandb": "off"}})
    if isinstance(raw["seed"], bool) or not isinstance(raw["seed"], int):
        raise UserError(f"{where}: seed: {raw['seed']!r} must be an integer.")
    values: dict[str, Any] = {"seed": raw["seed"]}
    rest = {k: v for k, v in raw.items() if k != "seed" and v is not None}
    if unlike := _unlike(schema, rest):
        raise UserError(f"{where}: {unlike}.")
    try:
        merged = OmegaConf.unsafe_merge(schema, OmegaConf.create(rest))  # both are ours alone
        for section in (*PLAIN, *NAMED):
            values[section] = OmegaConf.to_object(merged[section])  # type: ignore[index]  # a DictConfig
        values["networks"] = {r: OmegaConf.to_object(merged.networks[r]) for r in networks}
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if error.full_key else ""
        raise UserError(f"{where}: {key}{_refused(error)}") from None
    parts = {section: values[section] for section in (*PLAIN, *NAMED)}
    parts |= {f"networks.{role}": config for role, config in values["networks"].items()}
    for section, config in parts.items():
        if odd := _odd(config):
            raise UserError(f"{where}: {section}.{odd}.")
    run = RunConfig(**values)
    check(run, where)
    return run


def to_plain(run: RunConfig) -> dict[str, Any]:
    """The whole run as plain values, as written to ``config.yaml``."""
    return dataclasses.asdict(run)


def to_yaml(run: RunConfig) -> str:
    """The text of ``config.yaml``."""
    return OmegaConf.to_yaml(OmegaConf.create(to_plain(run)))


def _unlike(schema: Mapping[Any, Any], given: Mapping[Any, Any]) -> str:
    """What is wrong with the first value that should be a list or a mapping, and is not."""
    for key, value in given.items():
        node = schema.get(str(key))  # what is no word is refused as it is merged
        if isinstance(node, ListConfig) and not isinstance(value, list):
            hint = "" if value is None or isinstance(value, Mapping) else f", e.g. [{value}]"
            return f"{key}: {value!r} must be a list{hint}"
        if isinstance(node, Mapping):
            if not isinstance(value, Mapping):
                return f"{key}: {value!r} must be a mapping of keys to values"
            if inner := _unlike(node, value):
                return f"{key}.{inner}"
    return ""


def _odd(config: Any) -> str:
    """What is wrong with the first list or mapping among plain values, where OmegaConf lets it."""
    for name, kind in get_type_hints(type(config)).items():
        wanted = WORDS.get(get_args(kind)[-1]) if get_origin(kind) is dict else None
        for key, value in getattr(config, name).items() if wanted else ():
            if isinstance(value, list | dict):
                return f"{name}.{key}: {value!r} must be {wanted}"
    return ""


def _refused(error: OmegaConfBaseException) -> str:
    """What is wrong with a key, or with the value of one."""
    owner, kind = error.object_type, None
    if dataclasses.is_dataclass(owner):
        fields = get_type_hints(owner)
        if error.key not in fields:
            return f"unknown key.{did_you_mean(str(error.key), fields)}"
        kind = fields[error.key]
    elif inner := get_args(error.ref_type):  # of a list's or a mapping's values
        kind = inner[-1]
    if isinstance(error, ValidationError) and (wanted := _wanted(kind)):
        return f"{error.value!r} must be {wanted}."
    return f"{one_line(error).rstrip('.')}."


def _wanted(kind: Any) -> str:
    """Values of a type in words, whether or not there may be none; empty if there are no words."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if NoneType in get_args(kind):
        return _wanted(next(one for one in get_args(kind) if one is not NoneType))
    return WORDS.get(kind, "")


def _named(section: Any, kind: str, where: str) -> Any:
    if not isinstance(section, Mapping) or "name" not in section:
        raise UserError(f"{where}: missing its name. Allowed: {', '.join(registry.names(kind))}.")
    return registry.lookup(kind, str(section["name"]), f"{where}.name").Config

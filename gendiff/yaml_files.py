"""YAML and command line words as plain mappings: nothing imported, called or looked up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gendiff.errors import UserError


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as a plain mapping.

    Raises:
        UserError: missing, empty, broken, not a mapping, or with an interpolation.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file.") from None
    try:
        value = OmegaConf.create(text) if text.strip() else None
    except AssertionError:  # OmegaConf, of a lone number
        value = None
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise UserError(f"{path}: not valid YAML: {one_line(error)}.") from None
    if not isinstance(value, DictConfig) or not value:
        raise UserError(f"{path}: empty, or not a mapping of keys to values.")
    plain = OmegaConf.to_container(value, resolve=False)
    assert isinstance(plain, dict)
    return _plain(plain, str(path))


def read_overrides(words: list[str]) -> dict[str, Any]:
    """``key.sub=value`` words of the command line as a nested mapping."""
    for word in words:
        key, equals, _ = word.partition("=")
        if not equals or not key.strip(".") or key != key.strip():
            raise UserError(f"{word!r}: an override is written key.sub=value.")
    try:
        value = OmegaConf.to_container(OmegaConf.from_dotlist(words), resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise UserError(f"overrides: {one_line(error)}.") from None
    assert isinstance(value, dict)
    return _plain(_none_words(value), "overrides")


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid on ``base``, mapping by mapping.

    A new ``name`` drops the old one's keys, and an empty mapping all that was there.
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and value and isinstance(old, Mapping):
            # optimizers share their keys; other sections have those of their name
            renamed = key != "optim" and value.get("name", old.get("name")) != old.get("name")
            merged[key] = dict(value) if renamed else merge(old, value)
        else:
            merged[key] = value
    return merged


def one_line(error: Exception) -> str:
    """An error of a library as one line, its context dropped."""
    lines = [line.strip() for line in str(error).split("\n") if line.strip()]
    if isinstance(error, OmegaConfBaseException):
        return lines[0]
    return " ".join(line for line in lines if "<unicode string>" not in line or "line" in line)


def _plain(value: Any, where: str) -> Any:
    """Whole floats (1e6) become integers; interpolations are refused."""
    if isinstance(value, dict):
        return {k: _plain(v, f"{where}: {k}") for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v, where) for v in value]
    if isinstance(value, str) and "${" in value:
        raise UserError(f"{where}: {value!r}: interpolations are not allowed; write the value.")
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is not None and not isinstance(value, str | int | float):
        raise UserError(f"{where}: a {type(value).__name__}; only plain values are allowed.")
    return value


def _none_words(value: Any) -> Any:
    """W&B hands None over as the word."""
    if isinstance(value, dict):
        return {k: _none_words(v) for k, v in value.items()}
    return None if value in ("None", "null") else value

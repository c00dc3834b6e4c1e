"""YAML and command line words as plain mappings: nothing imported, called or looked up."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gendiff.errors import UserError
from gendiff.values import DEPTH, check_depth, read_word

LIMIT = 2**20
"""Bytes of a YAML file: a thousand times what any run takes."""
CREDENTIALS = re.compile(r"://[^/\s@]*:[^/\s@]*@")
"""A password in a URL."""
SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD)(_ID)?$", re.I)
"""Ends the name of a variable of the environment that no config may hold the value of."""


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as a plain mapping.

    Raises:
        UserError: missing, empty, broken, not a mapping, or with an interpolation.
    """
    return _plain(load_yaml(path), str(path))


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as it is written: floats stay floats, and ``${words}`` are words.

    Raises:
        UserError: missing, empty, broken or not a mapping.
    """
    try:
        if (size := path.stat().st_size) > LIMIT:
            raise UserError(f"{path}: {size} bytes; {LIMIT} are the most for a YAML file.")
        text = path.read_text()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file.") from None
    try:
        check_depth(text)
        value = OmegaConf.create(text) if text.strip() else None
    except AssertionError:  # OmegaConf, of a lone number
        value = None
    except RecursionError:
        raise UserError(f"{path}: nested too deeply.") from None
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError) as error:
        raise UserError(f"{path}: not valid YAML: {one_line(error)}.") from None
    if not isinstance(value, DictConfig) or not value:
        raise UserError(f"{path}: empty, or not a mapping of keys to values.")
    plain = OmegaConf.to_container(value, resolve=False)
    assert isinstance(plain, dict)
    return {**plain}  # type: ignore[dict-item]  # keys are words, or _plain says so


def read_overrides(words: list[str]) -> dict[str, Any]:
    """``key.sub=value`` words of the command line as a nested mapping."""
    over = OmegaConf.create()
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.strip(".") or key != key.strip():
            raise UserError(f"{shown(word)}: an override is written key.sub=value.")
        if key[0] in "+-{":  # W&B's other forms
            raise UserError(f"{shown(key)}: an override is written key.sub=value, no {key[0]}.")
        if key.count(".") + key.count("[") > DEPTH:
            raise UserError(f"overrides: {shown(key)}: nested too deeply.")
        try:
            OmegaConf.update(over, key, read_word(text))
        except RecursionError:
            raise UserError(f"overrides: {shown(key)}: nested too deeply.") from None
        # TypeError, AttributeError: a key below a list or a plain value
        except (
            *(yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError, AttributeError),
            *(IndexError, KeyError),
        ) as error:
            raise UserError(f"overrides: {shown(key)}: {one_line(error)}.") from None
    value = OmegaConf.to_container(over, resolve=False)
    assert isinstance(value, dict)
    return _plain(value, "overrides")


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


def shown(word: str, most: int = 80) -> str:
    """A word in quotes, cut."""
    return repr(word if len(word) <= most else f"{word[:most]}...")


def one_line(error: Exception) -> str:
    """An error of a library as one line, its context dropped."""
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark):
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    lines = [line.strip() for line in str(error).split("\n") if line.strip()]
    return lines[0] if isinstance(error, OmegaConfBaseException) else " ".join(lines)


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    """Whole floats (1e6) become integers; interpolations and secrets are refused."""
    if depth > DEPTH:
        raise UserError(f"{where[:80]}: nested too deeply.")
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str | int) or not str(key).isprintable():
                raise UserError(f"{where}: {shown(str(key))}: a key must be a word.")
            check_public(str(key), where)
        return {k: _plain(v, f"{where}: {k}", depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v, where, depth + 1) for v in value]
    if isinstance(value, str):
        check_public(value, where)
        if "${" in value:
            told = f"{shown(value)}: interpolations are not allowed; write the value."
            raise UserError(f"{where}: {told}")
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise UserError(f"{where}: a number larger than {sys.float_info.max:.2g}.")
    if value is not None and not isinstance(value, str | int | float):
        raise UserError(f"{where}: a {type(value).__name__}; only plain values are allowed.")
    return value


def check_public(text: str, where: str) -> None:
    """Keep passwords and keys out of what is printed, copied into run folders and sent to W&B.

    Raises:
        UserError: the text holds one; it is not shown.
    """
    if CREDENTIALS.search(text):
        raise UserError(f"{where}: holds a password in a URL, which would be copied and logged.")
    for name, secret in os.environ.items():
        if secret in text and len(secret) >= 8 and SECRET.search(name):  # the quick one first
            raise UserError(f"{where}: holds the value of ${name}, which would be copied.")

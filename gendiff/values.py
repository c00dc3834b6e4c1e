"""The value that a word of the command line stands for, whoever wrote it: a person or W&B."""

from __future__ import annotations

import ast
import warnings
from typing import Any

import yaml
from omegaconf import OmegaConf

DEPTH = 32
"""Most mappings within one another."""


def read_word(text: str) -> Any:
    """The value of an override.

    A list or a mapping is read as Python writes it, which is how W&B hands it over, or else as
    YAML; numbers, true and false as in a YAML file; ``None`` and ``null`` as none. All else is
    text, to the letter: the shell has taken its quotes already.

    Raises:
        YAMLError, ValueError: a list or a mapping that is neither Python's nor YAML's.
    """
    if text.lstrip().startswith(("[", "{")):
        found = _python(text)
        if found is not None:
            return found
        check_depth(text)
        return _none_words(_yaml(text))
    if text == "None":
        return None
    if ":" in text or "\n" in text or not _one_plain_scalar(text):  # 1:30 is a number of YAML's
        return text
    value = _yaml(text)
    return text if isinstance(value, str) else value


def _yaml(text: str) -> Any:
    value = OmegaConf.create(f"value: {text}")
    return OmegaConf.to_container(value, resolve=False)["value"]  # type: ignore[call-overload,index]  # a DictConfig


def _python(text: str) -> Any:
    """A list or mapping of plain values as Python writes it; None if it is not one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an unknown escape: YAML's, then
            value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, Warning, MemoryError, RecursionError, TypeError):
        return None
    return value if isinstance(value, list | dict) and _is_plain(value) else None


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)


def _one_plain_scalar(text: str) -> bool:
    """Whether YAML reads a text as one scalar, without quotes, tags or comments."""
    if "#" in text or text.strip() == "=":  # which YAML 1.1 has a type of its own for
        return False
    try:
        events = [
            e for e in yaml.parse(text, Loader=yaml.SafeLoader) if isinstance(e, yaml.NodeEvent)
        ]
    except yaml.YAMLError:
        return False
    only = events[0] if len(events) == 1 else None
    return isinstance(only, yaml.ScalarEvent) and only.implicit[0] and only.anchor is None


def _none_words(value: Any) -> Any:
    """Python's word for none within a list or a mapping of YAML's."""
    if isinstance(value, dict):
        return {k: _none_words(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_none_words(v) for v in value]
    return None if value == "None" else value


def check_depth(text: str) -> None:
    """Count how deep mappings and lists lie, by a parser that does not call itself.

    Raises:
        ValueError: deeper than `DEPTH`.
        YAMLError: the text is no YAML.
    """
    depth = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH:
            raise ValueError("nested too deeply")

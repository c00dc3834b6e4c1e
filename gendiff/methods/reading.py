"""How a method's config says its student's output is read."""

from __future__ import annotations

from typing import Any

from gendiff import registry
from gendiff.paths import Path
from gendiff.predictions import Reading, check_prediction


def native_path(config: Any) -> Path | None:
    """The path that the student's network knows, where ``native`` names another, as it comes.

    Raises:
        ValueError: there is no such path; the message begins with the key.
    """
    name = getattr(config, "native", None)
    if name is not None and name not in registry.names("paths"):
        raise ValueError(f"native: no path {name!r}, only {', '.join(registry.names('paths'))}")
    return registry.lookup("paths", name)() if name else None


def reading_of(config: Any) -> Reading:
    """How the student's output is read."""
    return Reading(config.prediction, config.sigma_data, home=native_path(config))


def check_reading(config: Any, path: Path) -> None:
    """Refuse a prediction that the method's path, or the native one, cannot be read with.

    Raises:
        ValueError: the message begins with the key.
    """
    for known in (path, native_path(config) or path):
        check_prediction(config.prediction, config.sigma_data, known)

"""What a stage is, as a digest: its run and, through its init, all it descends from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any


def identity(value: Any) -> Any:
    """A config as plain values, without what is at its default or does not change the result.

    A new option therefore does not make old stages stale; changing a default raises the method's
    ``version``.
    """
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        if isinstance(value, dict):
            return {key: identity(inner) for key, inner in value.items()}
        return value
    plain = {}
    for field in dataclasses.fields(value):
        current = getattr(value, field.name)
        if not field.metadata.get("identity", True):
            continue
        if field.name != "name" and current == _default(field):
            continue
        plain[field.name] = identity(current)
    return plain


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def digest(value: Any) -> str:
    """SHA-256 of canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat


def differences(old: Any, new: Any, absent: str = "(default)") -> list[tuple[str, Any, Any]]:
    """Dotted key, old and new value of all that differs, by key."""
    before, after = flatten(old), flatten(new)
    rows = [(k, before.get(k, absent), after.get(k, absent)) for k in sorted({*before, *after})]
    return [(key, a, b) for key, a, b in rows if a != b]


def changes(old: Any, new: Any) -> list[str]:
    """``key: old -> new`` for all that differs."""
    lines = []
    for key, *values in differences(old, new):
        long = key.endswith(("fingerprint", "digest"))
        a, b = ((str(v)[:12] if long else v) for v in values)
        lines.append(f"{key}: {a} -> {b}")
    return lines

"""gendiff: train generative diffusion models and distil them into few-step ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gendiff.model import Model, load

__all__ = ["Model", "load"]


def __getattr__(name: str) -> Any:
    # torch and lightning are imported when a model is asked for, not for `gendiff --help`
    if name in __all__:
        from gendiff import model

        return getattr(model, name)
    raise AttributeError(f"module 'gendiff' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

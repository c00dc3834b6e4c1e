"""Weights from files that others have made: tensors only, and no code of theirs is run."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from torch import Tensor

from gendiff.errors import UserError
from gendiff.weights import read_saved, read_tensors

_CONVERT = (
    "Where you trust it, load it yourself and save its tensors by name with "
    "safetensors.torch.save_file as a .safetensors file."
)


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors by name, on the CPU.

    Args:
        path: .safetensors; any other ending is read as what ``torch.save`` wrote.

    Raises:
        UserError: the file cannot be read, is damaged, or holds anything but tensors by name.
    """
    where = f"evaluation.weights: {path}"
    if path.suffix != ".safetensors":
        state = _read_saved(path, where)
    else:
        try:
            state = read_tensors(path)
        except UserError as error:
            raise UserError(f"evaluation.weights: {error}") from error
        except OSError as error:
            raise UserError(f"{where}: cannot be read ({error.strerror}).") from error
    named = isinstance(state, dict) and all(isinstance(name, str) for name in state)
    if not named or not state or not all(isinstance(t, Tensor) for t in state.values()):
        raise UserError(f"{where}: holds something else than tensors by name. {_CONVERT}")
    return dict(state)


def _read_saved(path: Path, where: str) -> Any:
    try:
        return read_saved(path)
    except OSError as error:
        raise UserError(f"{where}: cannot be read ({error.strerror}).") from error
    except UnpicklingError as error:  # its own message tells how to run the code
        raise UserError(
            f"{where}: refused, it holds more than tensors or is damaged. {_CONVERT}"
        ) from error
    except Exception as error:  # bytes of any kind end in errors of any kind
        raise UserError(f"{where}: damaged, or no weight file ({_line(error, 160)}).") from error


@contextmanager
def fitting(path: Path, network: str) -> Iterator[None]:
    """Say in one line why a file's tensors do not fit a network.

    Raises:
        UserError: whatever loading them raises, naming the first of what is missing or unexpected.
    """
    try:
        yield
    except Exception as error:  # converters of foreign files fail in any way
        raise UserError(
            f"evaluation.weights: {path}: does not fit {network}: {_line(error, 300)}"
        ) from error


def _line(error: Exception, width: int) -> str:
    return textwrap.shorten(str(error) or type(error).__name__, width)

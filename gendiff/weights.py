"""Weight files: one role a file, tensors only, loaded strictly."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor, nn

from gendiff.errors import UserError
from gendiff.storage import write_atomic


def weight_file(folder: Path, role: str) -> Path:
    """Where a stage keeps a role's weights."""
    return folder / "weights" / f"{role}.safetensors"


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> str:
    """Write named tensors; returns the file's SHA-256."""
    data = save_bytes({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    return write_atomic(path, lambda file: file.write(data))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Named tensors of a safetensors file.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return load_bytes(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    # of types that PyTorch has not: KeyError; of sizes beyond all memory: the others
    except (SafetensorError, KeyError, ValueError, RuntimeError, OverflowError) as error:
        raise UserError(f"{path}: damaged weight file ({error}).") from None


def read_saved(path: Path) -> Any:
    """What ``torch.save`` wrote: tensors and plain values, on the CPU; no code is run.

    An archive that would unpack to more bytes than it has is refused before it is read.

    Raises:
        UnpicklingError: it holds more than tensors and plain values.
        Exception: it is damaged; bytes of any kind end in errors of any kind.
    """
    if is_zipfile(path):
        with ZipFile(path) as archive:
            records = archive.infolist()
        packed = any(record.compress_type != ZIP_STORED for record in records)
        if packed or sum(record.file_size for record in records) > path.stat().st_size:
            raise ValueError("a compressed archive, which torch.save does not write")
    with warnings.catch_warnings(action="ignore"):  # of odd but readable files
        state = torch.load(path, map_location="cpu", weights_only=True)
    most = path.stat().st_size
    if any(tensor.untyped_storage().nbytes() > most for tensor in tensors_in(state)):
        raise ValueError("a tensor claims more bytes than the file has")
    return state


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in nested mappings and lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(inner)


def differences(
    wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], new: Iterable[str] = ()
) -> list[str]:
    """Why ``given`` does not fit a network's ``wanted`` state, a line each; empty if it does.

    Args:
        new: patterns of parameters that are not taken from ``given``, which need not have them.
    """
    lines, patterns = [], list(new)
    for name, tensor in wanted.items():
        if matches(name, patterns):
            continue
        if name not in given:
            lines.append(f"missing {name}")
        elif given[name].shape != tensor.shape:
            old, now = tuple(given[name].shape), tuple(tensor.shape)
            lines.append(f"shape of {name}: {old} -> {now}")
    return lines + [f"unexpected {name}" for name in sorted(given) if name not in wanted]


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a parameter's name matches any pattern."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def explain(lines: list[str], most: int = 3) -> str:
    """The first few differences in one line."""
    rest = f", and {len(lines) - most} more" if len(lines) > most else ""
    return "; ".join(lines[:most]) + rest


def load_weights(network: nn.Module, path: Path, new: Iterable[str] = ()) -> None:
    """Load a role's weights, strictly but for parameters that match ``new``, which stay.

    Raises:
        UserError: the file is damaged or does not fit, naming what is missing or unexpected.
    """
    given, state, patterns = read_tensors(path), network.state_dict(), list(new)
    lines = differences(state, given, patterns)
    if lines:
        raise UserError(f"{path}: does not fit the network: {explain(lines)}.")
    taken = {name: tensor for name, tensor in given.items() if not matches(name, patterns)}
    network.load_state_dict({**state, **taken})
